/* SPDX-License-Identifier: MIT */
/*
 * Locks between coroutines.  All are safe across event loops (threads): a
 * waiter is woken in its home AioContext.  FIFO; none recurses.
 */
#ifndef UTIL_CO_LOCK_H
#define UTIL_CO_LOCK_H

#include "util/coroutine.h"
#include "util/spinlock.h"

DRIVER_API_BEGIN

typedef struct CoWaiter CoWaiter; /* lives on the waiter's stack */

typedef struct CoWaitList {
    CoWaiter *head;
    CoWaiter **tail;
} CoWaitList;

typedef struct LOCK_TYPE("coroutine mutex") CoMutex {
    SpinLock guard; /* guards the fields below */
    bool locked;
    Coroutine *holder; /* for assertions */
    CoWaitList waiters;
} CoMutex;

/* A mutex between coroutines: a waiter sleeps, and is handed the lock in its turn. It may be held
 * over a yield; the coroutine that took it gives it back. trylock does not sleep. */
void co_mutex_init(CoMutex *m);
void coroutine_fn co_mutex_lock(CoMutex *m) ACQUIRES_LOCK(*m);
bool co_mutex_trylock(CoMutex *m) TRIES_LOCK(true, *m);
void coroutine_fn co_mutex_unlock(CoMutex *m) RELEASES_LOCK(*m);

/*
 * A queue of coroutines that wait for a condition.  The condition is guarded
 * by a CoMutex or SpinLock of the caller's, which wait() drops while it sleeps.
 */
typedef struct CoQueue {
    SpinLock guard;
    CoWaitList waiters;
} CoQueue;

void co_queue_init(CoQueue *q);
/* Sleep until woken; @m (may be NULL) is unlocked after queueing and locked
 * again before the return. */
void coroutine_fn co_queue_wait(CoQueue *q, CoMutex *m);
/* The same with a spin lock. */
void coroutine_fn co_queue_wait_spin(CoQueue *q, SpinLock *l) REQUIRES_LOCK(*l);
/* Wake the first (returns false if none) or all.  Callable from anywhere,
 * outside of coroutines too. Waiters run later, never inside this call. */
bool co_queue_next(CoQueue *q);
void co_queue_all(CoQueue *q);
bool co_queue_empty(CoQueue *q);

typedef struct CoRwLock {
    SpinLock guard;
    int readers; /* -1: a writer holds it */
    CoWaitList waiters;
} CoRwLock;

/* Many readers or one writer, in the order in which they come: a reader waits for a writer that
 * waits. Whoever holds it unlocks it, in either role. */
void co_rwlock_init(CoRwLock *l);
void coroutine_fn co_rwlock_rdlock(CoRwLock *l);
void coroutine_fn co_rwlock_wrlock(CoRwLock *l);
void coroutine_fn co_rwlock_unlock(CoRwLock *l);

DRIVER_API_END

#endif
