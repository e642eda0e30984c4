/* SPDX-License-Identifier: MIT */
/*
 * CoMutex, CoQueue, CoRwLock: waiter lists under a spin lock.
 *
 * INV-LOCK-1  A waiter is taken off its list by whoever wakes it, and owns what it waited for from
 *             then on (a mutex is handed over, never raced for): FIFO, no lost wake-up.
 * INV-LOCK-2  A waiter lives on the stack of its coroutine: nothing reads it after the wake.
 */
#include "util/co-lock.h"

#include "util/aio.h"

struct CoWaiter {
    Coroutine *co;
    CoWaiter *next;
    bool writer;
};

static void list_init(CoWaitList *l)
{
    l->head = NULL;
    l->tail = &l->head;
}

static void list_push(CoWaitList *l, CoWaiter *w)
{
    w->next = NULL;
    *l->tail = w;
    l->tail = &w->next;
}

static CoWaiter *list_pop(CoWaitList *l)
{
    CoWaiter *w = l->head;

    if (w) {
        l->head = w->next;
        if (!l->head) {
            l->tail = &l->head;
        }
    }
    return w;
}

/* Never runs the woken one inside of this call. */
static void wake(Coroutine *co)
{
    if (in_coroutine()) {
        aio_co_wake(co);
    } else {
        aio_co_schedule(coroutine_home(co), co);
    }
}

/* ---- CoMutex ---- */

void co_mutex_init(CoMutex *m)
{
    spin_init(&m->guard);
    m->locked = false;
    m->holder = NULL;
    list_init(&m->waiters);
}

bool co_mutex_trylock(CoMutex *m) UNCHECKED_LOCKS
{
    bool taken;

    spin_lock(&m->guard);
    taken = !m->locked;
    if (taken) {
        m->locked = true;
        m->holder = coroutine_self();
    }
    spin_unlock(&m->guard);
    return taken;
}

void coroutine_fn co_mutex_lock(CoMutex *m) UNCHECKED_LOCKS
{
    CoWaiter w;

    spin_lock(&m->guard);
    if (likely(!m->locked)) {
        m->locked = true;
        m->holder = coroutine_self();
        spin_unlock(&m->guard);
        return;
    }
    w = (CoWaiter){ .co = coroutine_self() };
    g_assert(w.co && m->holder != w.co);
    list_push(&m->waiters, &w);
    spin_unlock(&m->guard);
    coroutine_yield(); /* INV-LOCK-1: we hold it when we are back */
}

void coroutine_fn co_mutex_unlock(CoMutex *m) UNCHECKED_LOCKS
{
    CoWaiter *w;
    Coroutine *next = NULL;

    spin_lock(&m->guard);
    g_assert(m->locked && m->holder == coroutine_self());
    w = list_pop(&m->waiters);
    if (w) {
        next = w->co;
        m->holder = next;
    } else {
        m->locked = false;
        m->holder = NULL;
    }
    spin_unlock(&m->guard);
    if (next) {
        wake(next);
    }
}

/* ---- CoQueue ---- */

void co_queue_init(CoQueue *q)
{
    spin_init(&q->guard);
    list_init(&q->waiters);
}

static void queue_push(CoQueue *q, CoWaiter *w)
{
    *w = (CoWaiter){ .co = coroutine_self() };
    g_assert(w->co);
    spin_lock(&q->guard);
    list_push(&q->waiters, w);
    spin_unlock(&q->guard);
}

void coroutine_fn co_queue_wait(CoQueue *q, CoMutex *m) UNCHECKED_LOCKS
{
    CoWaiter w;

    queue_push(q, &w);
    if (m) {
        co_mutex_unlock(m);
    }
    coroutine_yield();
    if (m) {
        co_mutex_lock(m);
    }
}

void coroutine_fn co_queue_wait_spin(CoQueue *q, SpinLock *l)
{
    CoWaiter w;

    queue_push(q, &w);
    spin_unlock(l);
    coroutine_yield();
    spin_lock(l);
}

bool co_queue_next(CoQueue *q)
{
    CoWaiter *w;
    Coroutine *co = NULL;

    spin_lock(&q->guard);
    w = list_pop(&q->waiters);
    if (w) {
        co = w->co;
    }
    spin_unlock(&q->guard);
    if (co) {
        wake(co);
    }
    return co != NULL;
}

void co_queue_all(CoQueue *q)
{
    CoWaiter *w;

    spin_lock(&q->guard);
    w = q->waiters.head;
    list_init(&q->waiters);
    spin_unlock(&q->guard);
    while (w) {
        CoWaiter *next = w->next; /* INV-LOCK-2 */

        wake(w->co);
        w = next;
    }
}

bool co_queue_empty(CoQueue *q)
{
    bool empty;

    spin_lock(&q->guard);
    empty = !q->waiters.head;
    spin_unlock(&q->guard);
    return empty;
}

/* ---- CoRwLock ---- */

void co_rwlock_init(CoRwLock *l)
{
    spin_init(&l->guard);
    l->readers = 0;
    list_init(&l->waiters);
}

static void coroutine_fn rwlock_lock(CoRwLock *l, bool writer)
{
    CoWaiter w;

    spin_lock(&l->guard);
    if (!l->waiters.head && (writer ? l->readers == 0 : l->readers >= 0)) {
        l->readers = writer ? -1 : l->readers + 1;
        spin_unlock(&l->guard);
        return;
    }
    w = (CoWaiter){ .co = coroutine_self(), .writer = writer };
    g_assert(w.co);
    list_push(&l->waiters, &w);
    spin_unlock(&l->guard);
    coroutine_yield();
}

void coroutine_fn co_rwlock_rdlock(CoRwLock *l)
{
    rwlock_lock(l, false);
}

void coroutine_fn co_rwlock_wrlock(CoRwLock *l)
{
    rwlock_lock(l, true);
}

/* Give the lock to all waiters in front that may have it now: a list of them. */
static CoWaiter *rwlock_grant(CoRwLock *l) REQUIRES_LOCK(l->guard)
{
    CoWaiter *granted = NULL, **tail = &granted;

    for (;;) {
        CoWaiter *w = l->waiters.head;

        if (!w || (w->writer ? l->readers != 0 : l->readers < 0)) {
            *tail = NULL;
            return granted;
        }
        l->readers = w->writer ? -1 : l->readers + 1;
        *tail = list_pop(&l->waiters);
        tail = &w->next;
    }
}

void coroutine_fn co_rwlock_unlock(CoRwLock *l)
{
    CoWaiter *w;

    spin_lock(&l->guard);
    g_assert(l->readers != 0);
    l->readers = l->readers < 0 ? 0 : l->readers - 1;
    w = rwlock_grant(l);
    spin_unlock(&l->guard);
    while (w) {                   /* the lock is not touched any more: who is woken may free it */
        CoWaiter *next = w->next; /* INV-LOCK-2 */

        wake(w->co);
        w = next;
    }
}
