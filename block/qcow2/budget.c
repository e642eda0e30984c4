/* SPDX-License-Identifier: MIT */
/*
 * The process's budget for metadata caches.  A hundred open images share it, rather than each
 * taking the default of one.  Each gets its floor even when the rest is gone.
 */
#include "options.h"

#define BUDGET_BYTES (256 * MiB)

static atomic_int_fast64_t taken;

uint64_t qcow2_budget_take(uint64_t want, uint64_t floor)
{
    int_fast64_t old = atomic_load(&taken);
    uint64_t get;

    do {
        uint64_t left = old < BUDGET_BYTES ? (uint64_t)(BUDGET_BYTES - old) : 0;

        get = MAX(MIN(want, left), MIN(floor, want));
    } while (!atomic_compare_exchange_weak(&taken, &old, old + (int_fast64_t)get));
    return get;
}

void qcow2_budget_give(uint64_t bytes)
{
    atomic_fetch_sub(&taken, (int_fast64_t)bytes);
}
