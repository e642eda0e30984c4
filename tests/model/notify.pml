/* SPDX-License-Identifier: MIT */
/*
 * An event loop that goes to sleep while others hand it work: whoever adds work adds it first and
 * looks at notify_me then; the loop sets notify_me first and looks for work then, and a fence keeps
 * the two apart on each side. The loop's store to notify_me waits in its store buffer (flag_buffered)
 * until a fence or any later moment. A wake-up that is lost leaves the loop asleep with work: no end.
 * GSOURCE: the loop is GLib's (prepare, poll, check, dispatch), not aio_poll.
 * INV-AIO-1.
 * Code: util/aio.c: aio_notify event_read aio_bh_schedule_oneshot aio_co_schedule aio_has_work
 * Code: util/aio.c: aio_poll block aio_run_ready source_prepare source_check source_dispatch
 * Variants: GSOURCE
 */
#define PRODUCERS 2
#define EACH 2
#define TOTAL (PRODUCERS * EACH)

byte work;           /* ctx->bhs, ctx->scheduled */
byte done;
bool notify_me;      /* what others see */
bool flag_buffered;  /* the loop's own "true" that they do not see yet */
bool notified;
byte event;          /* the eventfd's count, 0 or more */

/* A store buffer drains by itself some time. */
active proctype store_buffer()
{
end:
    do
    :: atomic { flag_buffered -> notify_me = true; flag_buffered = false }
    od
}

inline fence()
{
    atomic {
        notify_me = (flag_buffered -> true : notify_me);
        flag_buffered = false
    }
}

inline aio_notify()
{
    if
    :: notify_me ->
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

inline event_read()
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
        progress = work > 0;
        done = done + work;
        work = 0
    }
}

inline set_notify_me()
{
#ifdef BROKEN_NO_FENCE
    flag_buffered = true;
#else
    flag_buffered = true;
    fence();
#endif
}

inline clear_notify_me()
{
    atomic {
        flag_buffered = false;
        notify_me = false
    }
}

active proctype event_loop()
{
    bool progress, has_work;

    do
    :: done == TOTAL -> break
    :: done < TOTAL ->
#ifdef GSOURCE
        set_notify_me(); /* source_prepare */
        has_work = work > 0;
        if
        :: has_work -> skip; /* ready at once: source_check is not called */
        :: else ->
            event > 0; /* g_poll */
            clear_notify_me(); /* source_check */
            event_read()
        fi;
        clear_notify_me(); /* source_dispatch */
        run_ready()
#else
        run_ready(); /* aio_poll */
        if
        :: progress -> skip
        :: else ->
#ifdef BROKEN_LOOK_BEFORE_FLAG
            has_work = work > 0;
            set_notify_me();
#else
            set_notify_me();
            has_work = work > 0;
#endif
            if
            :: has_work -> /* a poll that does not wait */
                if
                :: event > 0 -> event_read()
                :: else
                fi
            :: else ->
                event > 0; /* ppoll */
                event_read()
            fi;
            clear_notify_me();
            run_ready()
        fi
#endif
    od
}
