/* SPDX-License-Identifier: MIT */
/*
 * An event loop that goes to sleep while others hand it work: whoever adds work adds it first and
 * looks at poll_waits and source_waits then (here: waits); the loop sets one of them first and looks
 * for work then, and a fence keeps the two apart on each side. The loop's store to waits stays in its
 * store buffer (flag_buffered) until a fence or any later moment. A wake-up that is lost leaves the
 * loop asleep with work: no end.
 * GSOURCE: the loop is GLib's (prepare, poll, check, dispatch), not aio_poll.
 * HELPED: as GSOURCE, and now and then another thread runs the context (INV-RUN-2). What that ends is
 * told by the loop alone (ctx->done, here: ended), and a loop that finds the context taken sleeps
 * for a bounded time (INV-SOURCE-1).
 * INV-AIO-1.
 * Code: util/aio.c: aio_notify aio_event_read aio_bh_schedule_oneshot aio_co_schedule aio_has_work
 * Code: util/aio.c: aio_poll_held sleep_until_event aio_block aio_run_ready
 * Code: util/aio-source.c: prepare_held source_prepare check_held source_check source_dispatch
 * Code: util/aio-run.c: aio_try_acquire aio_release_quietly aio_release help
 * Variants: GSOURCE
 * Variants: HELPED
 */
#ifdef BROKEN_QUIET_HELP
#define HELPED
#endif
#ifdef HELPED
#define GSOURCE
#endif
#define PRODUCERS 2
#define EACH 2
#define TOTAL (PRODUCERS * EACH)

byte work;           /* ctx->bhs, ctx->scheduled */
byte done;
bool waits;      /* what others see */
bool flag_buffered;  /* the loop's own "true" that they do not see yet */
bool notified;
byte event;          /* the eventfd's count, 0 or more */
byte ended;          /* ctx->done */
bool runner;         /* somebody runs the context */

/* A store buffer drains by itself some time. */
active proctype store_buffer()
{
end:
    do
    :: atomic { flag_buffered -> waits = true; flag_buffered = false }
    od
}

inline fence()
{
    atomic {
        waits = (flag_buffered -> true : waits);
        flag_buffered = false
    }
}

inline aio_notify()
{
    if
    :: waits ->
        atomic { was = notified; notified = true }; /* atomic_exchange */
        if
        :: !was -> event++
        :: else
        fi
    :: else
    fi
}

active [PRODUCERS] proctype producer()
{
    bool was;
    byte i;

    for (i : 1 .. EACH) {
#ifdef BROKEN_NOTIFY_BEFORE_WORK /* or without the fence in aio_notify, on a weak machine */
        aio_notify();
        work++;
#else
        work++;
        aio_notify();
#endif
    }
}

inline aio_event_read()
{
#ifdef BROKEN_CLEAR_BEFORE_READ
    notified = false;
    event = 0;
#else
    event = 0;
    notified = false; /* and a fence: work is looked for after this */
#endif
}

inline run_ready()
{
    atomic {
        progress = work + ended > 0;
        done = done + work + ended;
        work = 0;
        ended = 0
    }
}

inline set_waits()
{
#ifdef BROKEN_NO_FENCE
    flag_buffered = true;
#else
    flag_buffered = true;
    fence();
#endif
}

inline clear_waits()
{
    atomic {
        flag_buffered = false;
        waits = false
    }
}

active proctype event_loop()
{
    bool progress, has_work;

    do
    :: done == TOTAL -> break
    :: done < TOTAL ->
#ifdef GSOURCE
        if /* source_prepare */
        :: atomic { !runner -> runner = true };
            set_waits();
            has_work = work + ended > 0;
            runner = false;
            if
            :: has_work -> goto dispatch; /* ready at once: source_check is not called */
            :: else -> event > 0 /* g_poll */
            fi
        :: runner -> skip /* a poll of a millisecond */
        fi;
        clear_waits(); /* source_check */
        if
        :: atomic { !runner -> runner = true };
            if
            :: event > 0 -> aio_event_read()
            :: else
            fi;
            has_work = work + ended > 0;
            runner = false
        :: runner -> has_work = false
        fi;
        if
        :: !has_work -> goto next
        :: else
        fi;
dispatch:
        if
        :: atomic { !runner -> runner = true };
            clear_waits();
            run_ready();
            runner = false
        :: runner -> skip
        fi;
next:
        skip
#else
        run_ready(); /* aio_poll */
        if
        :: progress -> skip
        :: else ->
#ifdef BROKEN_LOOK_BEFORE_FLAG
            has_work = work > 0;
            set_waits();
#else
            set_waits();
            has_work = work > 0;
#endif
            if
            :: has_work -> /* a poll that does not wait */
                if
                :: event > 0 -> aio_event_read()
                :: else
                fi
            :: else ->
                event > 0; /* ppoll */
                aio_event_read()
            fi;
            clear_waits();
            run_ready()
        fi
#endif
    od
}

#ifdef HELPED
active proctype helper()
{
    bool was, left;
    byte i;

    for (i : 1 .. 2) { /* so that it does not hide a loop that sleeps for ever */
        atomic { !runner -> runner = true };
        atomic { /* aio_poll_held */
            ended = ended + work;
            work = 0
        };
        if
        :: event > 0 -> aio_event_read()
        :: true
        fi;
        left = work + ended > 0; /* aio_release */
        runner = false;
#ifndef BROKEN_QUIET_HELP
        if
        :: left -> aio_notify()
        :: else
        fi
#endif
    }
}
#endif
