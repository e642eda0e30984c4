/* SPDX-License-Identifier: MIT */
/* A spin lock for critical sections of nanoseconds: no I/O, no allocation, no
 * yield under it. */
#ifndef UTIL_SPINLOCK_H
#define UTIL_SPINLOCK_H

#include "util/lock-annotations.h"

#include <stdatomic.h>
#include <stdbool.h>

typedef struct LOCK_TYPE("spin lock") SpinLock {
    atomic_bool held;
} SpinLock;

static inline void spin_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static inline void spin_init(SpinLock *l)
{
    atomic_init(&l->held, false);
}

static inline bool spin_trylock(SpinLock *l) TRIES_LOCK(true, *l) UNCHECKED_LOCKS
{
    return !atomic_exchange_explicit(&l->held, true, memory_order_acquire);
}

/* Spins, then sched_yield()s; util/spinlock.c. */
void spin_lock_slow(SpinLock *l) ACQUIRES_LOCK(*l);

static inline void spin_lock(SpinLock *l) ACQUIRES_LOCK(*l) UNCHECKED_LOCKS
{
    if (__builtin_expect(!spin_trylock(l), 0)) {
        spin_lock_slow(l);
    }
}

static inline void spin_unlock(SpinLock *l) RELEASES_LOCK(*l) UNCHECKED_LOCKS
{
    atomic_store_explicit(&l->held, false, memory_order_release);
}

#endif
