/* SPDX-License-Identifier: MIT */
#ifndef TESTS_LIB_WITH_CO_LOCK_H
#define TESTS_LIB_WITH_CO_LOCK_H

#include "util/co-lock.h"

static inline CoMutex *coroutine_fn co_mutex_guard_enter(CoMutex *m) UNCHECKED_LOCKS
{
    co_mutex_lock(m);
    return m;
}
static inline void coroutine_fn co_mutex_guard_leave(CoMutex **m) UNCHECKED_LOCKS
{
    if (*m) {
        co_mutex_unlock(*m);
    }
}
/* WITH_CO_LOCK(&m) { ... }: unlocked on every way out of the block but goto and longjmp across
 * coroutines. Do not use break or continue for an outer loop inside. */
#define WITH_CO_LOCK(m)                                                                            \
    for (__attribute__((cleanup(co_mutex_guard_leave)))                                            \
         CoMutex *co_guard_ = co_mutex_guard_enter(m);                                             \
         co_guard_; co_guard_leave_now(&co_guard_))
static inline void coroutine_fn co_guard_leave_now(CoMutex **m) UNCHECKED_LOCKS
{
    co_mutex_unlock(*m);
    *m = NULL;
}

#endif
