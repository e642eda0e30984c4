/* SPDX-License-Identifier: MIT */
/*
 * CoRwLock between coroutines of two threads: a writer is alone, nobody waits for ever, and a reader
 * that comes while a writer waits queues behind it (so readers cannot keep a writer out).
 * INV-LOCK-1, INV-LOCK-2.
 * Code: util/co-lock.c: rwlock_lock rwlock_grant co_rwlock_unlock co_rwlock_rdlock co_rwlock_wrlock
 */
#define NCO 4
#define WRITER(co) ((co) >= 2)
#include "coroutine.inc"

bool guard;
short readers; /* -1: a writer has it */
chan waiters = [NCO] of { byte };
byte in_readers, in_writers;
bool writer_waits[NCO]; /* ghost: writers on the list */
byte passed;            /* ghost: readers that got it past a waiting writer */

inline rwlock_lock()
{
    spin_lock(guard);
    if
#ifdef BROKEN_READER_PASSES
    :: (WRITER(_pid) -> readers == 0 && len(waiters) == 0 : readers >= 0) ->
#else
    :: len(waiters) == 0 && (WRITER(_pid) -> readers == 0 : readers >= 0) ->
#endif
        readers = (WRITER(_pid) -> -1 : readers + 1);
        passed = (!WRITER(_pid) && (writer_waits[2] || writer_waits[3]) -> passed + 1 : passed);
        spin_unlock(guard)
    :: else ->
        waiter_lives[_pid] = true;
#ifdef BROKEN_QUEUE_WITHOUT_GUARD
        spin_unlock(guard);
        waiters!_pid;
#else
        waiters!_pid;
        writer_waits[_pid] = WRITER(_pid);
        spin_unlock(guard);
#endif
        yield();
        waiter_lives[_pid] = false
    fi;
    assert(passed == 0)
}

#ifdef BROKEN_WRITER_BESIDE_READERS
#define GRANTABLE(w) (readers >= 0)
#else
#define GRANTABLE(w) (WRITER(w) -> readers == 0 : readers >= 0)
#endif
#ifdef BROKEN_READER_GRANTS_NOTHING /* only the end of a writer is looked at */
#define GRANTS was_writer
#else
#define GRANTS true
#endif

inline rwlock_unlock()
{
    spin_lock(guard);
    assert(readers != 0);
    was_writer = readers < 0;
    readers = (readers < 0 -> 0 : readers - 1);
    n = 0;
    do
    :: GRANTS && len(waiters) > 0 -> /* rwlock_grant */
        waiters?<next>;
        if
        :: !GRANTABLE(next) -> break
        :: else
        fi;
        waiters?next;
        readers = (WRITER(next) -> -1 : readers + 1);
        writer_waits[next] = false;
        granted[n] = next;
        n++
    :: else -> break
    od;
    spin_unlock(guard);
    i = 0;
    do
    :: i < n ->
#ifdef BROKEN_READ_AFTER_WAKE
        wake(granted[i]);
        read_waiter(granted[i]);
#else
        read_waiter(granted[i]);
        wake(granted[i]);
#endif
        i++
    :: else -> break
    od
}

active [NCO] coroutine co() RUNS
{
    byte next, n, i, round;
    bool was_writer;
    byte granted[NCO];

    for (round : 1 .. 2) {
        rwlock_lock();
        if
        :: WRITER(_pid) ->
            in_writers++;
            assert(in_writers == 1 && in_readers == 0);
            reschedule_self();
            assert(in_writers == 1 && in_readers == 0);
            in_writers--
        :: else ->
            in_readers++;
            assert(in_writers == 0);
            reschedule_self();
            assert(in_writers == 0);
            in_readers--
        fi;
        rwlock_unlock()
    }
    leave_loop()
}

init
{
    start_loops()
}
