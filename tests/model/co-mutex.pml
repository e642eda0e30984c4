/* SPDX-License-Identifier: MIT */
/*
 * CoMutex between coroutines of two threads: never two inside, nobody waits for ever, and nobody is
 * entered who has not gone to sleep yet (a waiter is seen on the list before it yields).
 * INV-LOCK-1.
 * Code: util/co-lock.c: co_mutex_lock co_mutex_trylock co_mutex_unlock
 */
#define NCO 4
#include "coroutine.inc"
#include "co-mutex.inc"

byte inside;

active [NCO] coroutine co() RUNS
{
    byte next, round;

    for (round : 1 .. 2) {
        if
        :: true -> mutex_lock()
        :: atomic { !guard && !locked -> locked = true; holder = _pid } /* co_mutex_trylock */
        fi
        inside++;
        assert(inside == 1);
        if
        :: reschedule_self() /* the holder sleeps */
        :: skip
        fi;
        assert(inside == 1 && locked && holder == _pid);
        inside--;
        mutex_unlock()
    }
    leave_loop()
}

init
{
    start_loops()
}
