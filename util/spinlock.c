/* SPDX-License-Identifier: MIT */
/* The contended half of the spin lock: look without writing, then let others run. */
#include "util/spinlock.h"

#include <sched.h>

#define SPINS_BEFORE_SCHED_YIELD 200

void spin_lock_slow(SpinLock *l)
{
    unsigned n = 0;

    do {
        while (atomic_load_explicit(&l->held, memory_order_relaxed)) {
            if (++n < SPINS_BEFORE_SCHED_YIELD) {
                spin_pause();
            } else {
                sched_yield(); /* the holder may not be running */
            }
        }
    } while (!spin_trylock(l));
}
