/* SPDX-License-Identifier: MIT */
/*
 * The process's budget for metadata caches.  A hundred open images share it, rather than each
 * taking the default of one.  None takes more than a share of what is left, so that there is
 * something left for the next; each gets its floor in any case.
 */
#include "options.h"

#define BUDGET_BYTES (256 * MiB)
#define SHARE_OF_REST 4

static atomic_int_fast64_t taken;

/* What is taken is taken by the parent's images. */
static void after_fork(bool child)
{
    if (child) {
        atomic_store(&taken, 0);
    }
}

static gpointer init_once(gpointer unused)
{
    aio_at_fork(NULL, after_fork);
    return NULL;
}

uint64_t qcow2_budget_take(uint64_t want, uint64_t floor)
{
    static GOnce once = G_ONCE_INIT;
    int_fast64_t old = atomic_load(&taken);
    uint64_t get;

    g_once(&once, init_once, NULL);
    do {
        uint64_t left = old < BUDGET_BYTES ? (uint64_t)(BUDGET_BYTES - old) : 0;

        get = MAX(MIN(want, left / SHARE_OF_REST), MIN(floor, want));
    } while (!atomic_compare_exchange_weak(&taken, &old, old + (int_fast64_t)get));
    return get;
}

void qcow2_budget_return(uint64_t bytes)
{
    atomic_fetch_sub(&taken, (int_fast64_t)bytes);
}
