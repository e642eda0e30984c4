/* SPDX-License-Identifier: MIT */
/*
 * CoQueue with the CoMutex that guards its condition: a waiter is queued before it drops the lock, so
 * whoever makes the condition true afterwards finds it. Two consumers wait for items that two
 * producers make; one wakes the first waiter, one wakes all.
 * INV-LOCK-1, INV-LOCK-2.
 * Code: util/co-lock.c: queue_push co_queue_wait co_queue_wait_spin co_queue_next co_queue_all list_push list_pop
 */
#define NCO 4
#include "coroutine.inc"
#include "co-mutex.inc"

bool qguard;
chan queue = [NCO] of { byte };
byte items;

inline queue_push()
{
    spin_lock(qguard);
    waiter_lives[_pid] = true;
    queue!_pid;
    spin_unlock(qguard)
}

inline queue_wait()
{
#ifdef BROKEN_UNLOCK_BEFORE_QUEUE
    mutex_unlock();
    queue_push();
#else
    queue_push();
    mutex_unlock();
#endif
    yield();
    waiter_lives[_pid] = false;
    mutex_lock()
}

inline queue_next()
{
    spin_lock(qguard);
    if
    :: len(queue) > 0 ->
        queue?next;
        read_waiter(next);
        spin_unlock(qguard);
        wake(next)
    :: else -> spin_unlock(qguard)
    fi
}

inline queue_all() /* the whole list is taken off, then each is woken */
{
    spin_lock(qguard);
    n = 0;
    do
    :: len(queue) > 0 -> queue?taken[n]; n++
    :: else -> break
    od;
    spin_unlock(qguard);
    i = 0;
    do
    :: i < n ->
#ifdef BROKEN_READ_AFTER_WAKE /* w = w->next after wake(w->co) */
        wake(taken[i]);
        read_waiter(taken[i]);
#else
        read_waiter(taken[i]);
        wake(taken[i]);
#endif
        i++
    :: else -> break
    od
}

active [NCO] coroutine co() RUNS
{
    byte next, n, i;
    byte taken[2];

    if
    :: _pid < 2 -> /* one consumer in each thread */
        mutex_lock();
        do
        :: items == 0 -> queue_wait()
        :: else -> break
        od;
        items--;
        mutex_unlock()
    :: _pid == 2 ->
        mutex_lock();
        items++;
        queue_next();
        mutex_unlock()
    :: else ->
        mutex_lock();
        items++;
#ifdef BROKEN_WAKE_FORGOTTEN /* nobody is told of the second item */
        skip;
#else
        queue_all();
#endif
        mutex_unlock()
    fi;
    leave_loop()
}

init
{
    start_loops()
}
