/* SPDX-License-Identifier: MIT */
/* Pins and epochs: see pin.h. */
#include "pin.h"

#include "block/io.h"
#include "util/spinlock.h"

#define STRIPES 16

typedef struct PinStripe {
    _Alignas(64) atomic_long n;
} PinStripe;

struct PinState {
    PinStripe count[2][STRIPES];
    _Alignas(64) atomic_uint_fast64_t epoch;
    SpinLock lock;
    GSList *retired GUARDED_BY(lock);
};

PinState *qcow2_pin_new(void) UNCHECKED_LOCKS
{
    PinState *p = mem_align_try(64, sizeof(*p));

    if (p) {
        memset(p, 0, sizeof(*p));
        atomic_init(&p->epoch, 1);
        spin_init(&p->lock);
    }
    return p;
}

static long pins(const PinState *p, uint64_t parity)
{
    long n = 0;

    for (unsigned i = 0; i < STRIPES; i++) {
        n += atomic_load(&p->count[parity & 1][i].n);
    }
    return n;
}

void qcow2_pin_free(PinState *p) UNCHECKED_LOCKS
{
    if (p) {
        g_assert(pins(p, 0) == 0 && pins(p, 1) == 0);
        g_slist_free_full(p->retired, g_free);
        mem_align_free(p);
    }
}

void qcow2_pin_retire(PinState *p, void *mem)
{
    GSList *node = g_slist_prepend(NULL, mem);

    spin_lock(&p->lock);
    node->next = p->retired;
    p->retired = node;
    spin_unlock(&p->lock);
}

static unsigned my_stripe(void)
{
    static atomic_uint next;
    static __thread unsigned mine; /* + 1 */

    if (unlikely(!mine)) {
        mine = atomic_fetch_add(&next, 1) % STRIPES + 1;
    }
    return mine - 1;
}

unsigned qcow2_pin_enter(PinState *p)
{
    unsigned stripe = my_stripe();

    for (;;) {
        uint64_t e = atomic_load(&p->epoch);

        atomic_fetch_add(&p->count[e & 1][stripe].n, 1); /* INV-PIN-3 */
        if (likely(atomic_load(&p->epoch) == e)) {
            return (e & 1) * STRIPES + stripe;
        }
        atomic_fetch_sub(&p->count[e & 1][stripe].n, 1); /* the epoch moved on in between */
    }
}

void qcow2_pin_leave(PinState *p, unsigned token)
{
    long before = atomic_fetch_sub(&p->count[token / STRIPES][token % STRIPES].n, 1);

    g_assert(before > 0);
}

uint64_t qcow2_pin_epoch(const PinState *p)
{
    return atomic_load(&p->epoch);
}

/* Each stripe is seen zero at some moment after the call began; pins of a past epoch only go. */
static bool parity_empty(const PinState *p, uint64_t epoch)
{
    for (unsigned i = 0; i < STRIPES; i++) {
        if (atomic_load(&p->count[epoch & 1][i].n) != 0) {
            return false;
        }
    }
    return true;
}

#ifdef CONFIG_ORACLES
/* A pin is given back where it was taken. */
static void check_counts(const PinState *p)
{
    for (unsigned parity = 0; parity < 2; parity++) {
        for (unsigned i = 0; i < STRIPES; i++) {
            g_assert(atomic_load(&p->count[parity][i].n) >= 0);
        }
    }
}
#endif

void qcow2_pin_advance(PinState *p)
{
    uint64_t e = atomic_load(&p->epoch);

    ORACLE(check_counts(p));

    if (parity_empty(p, e + 1)) { /* INV-PIN-1: the parity of e - 1 */
        atomic_store(&p->epoch, e + 1);
    }
}

bool qcow2_pin_has_passed(const PinState *p, uint64_t epoch)
{
    uint64_t e = atomic_load(&p->epoch);

    return e >= epoch + 2 || (e == epoch + 1 && parity_empty(p, epoch));
}
