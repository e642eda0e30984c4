/* SPDX-License-Identifier: MIT */
/*
 * Pins, epochs and the quarantine: a request that found a cluster may use it until it leaves, however
 * often the guest's cluster moves elsewhere meanwhile and whatever is released. One guest cluster moves
 * between the clusters of the file; requests look it up and do I/O, for ever; a flush seals, writes and
 * syncs; a reap releases, and what is released is given out again. Released while a request may use it,
 * while the table in memory or the one on disk names it: an assertion each.
 * What a lock guards and nobody reads without it is one step here; what is read without a lock (the
 * table, the epoch, the counts of pins) is a step each.
 * INV-PIN-1 to 3, INV-W-4.
 * Code: block/qcow2/pin.c: qcow2_pin_enter qcow2_pin_leave parity_empty qcow2_pin_advance
 * Code: block/qcow2/pin.c: qcow2_pin_has_passed qcow2_pin_epoch
 * Code: block/qcow2/quarantine.c: add append is_ready qcow2_quarantine_take qcow2_quarantine_synced
 * Code: block/qcow2/reap.c: co_release qcow2_reap_co_ready
 * Code: block/qcow2/flush.c: seal_all co_flush_once
 */
#define STRIPES 2
#define CLUSTERS 3
#ifndef MOVES
#define MOVES 2 /* LARGE: 3 */
#endif
#define NONE 255

/* PinState; a stripe a request */
byte count[4]; /* [parity * STRIPES + stripe] */
byte epoch = 1;
byte synced_gen;
bool pin_lock;
typedef Entry {
    byte cluster, more; /* more: one that was merged into it, or NONE */
    byte epoch, gen
};
Entry queue[MOVES]; /* the first is queue[0] */
byte queued;

/* The image */
bool meta_lock;
byte meta_gen = 1;
byte table;             /* the guest cluster's entry, in memory */
byte on_disk;           /* the same as of the last sync */
bool counted[CLUSTERS]; /* refcount 1 */
byte moves;

/* Ghost: what a request found and may do I/O with */
byte held[STRIPES] = NONE;

/* The first processes: their number is their stripe. */
active [STRIPES] proctype request()
{
    byte e;
begin:
#ifdef BROKEN_LOOKUP_BEFORE_PIN
    held[_pid] = table;
#endif
    do
    :: e = epoch;
       count[(e & 1) * STRIPES + _pid]++;
       if
       :: epoch == e -> break
       :: else -> count[(e & 1) * STRIPES + _pid]-- /* the epoch moved on in between */
       fi
    od;
#ifndef BROKEN_LOOKUP_BEFORE_PIN
    held[_pid] = table;
#endif
#ifdef BROKEN_LEAVE_BEFORE_IO
    count[(e & 1) * STRIPES + _pid]--;
    atomic { held[_pid] = NONE; e = 0 };
#else
    held[_pid] = NONE; /* the I/O has ended */
    atomic { count[(e & 1) * STRIPES + _pid]--; e = 0 };
#endif
    goto begin
}

/* p->lock is held, and the last entry may take the cluster in */
#ifdef BROKEN_MERGE_EPOCHS
#define SAME_EPOCH true
#else
#define SAME_EPOCH (queue[queued - 1].epoch == epoch)
#endif
#define MERGES (queued > 0 && queue[queued - 1].gen == meta_gen && queue[queued - 1].more == NONE && SAME_EPOCH)

inline free_later(c)
{
    atomic {
        !pin_lock ->
        if
        :: MERGES -> queue[queued - 1].more = c
        :: else ->
            queue[queued].cluster = c;
            queue[queued].more = NONE;
            queue[queued].epoch = epoch;
            queue[queued].gen = meta_gen;
            queued++
        fi
    }
}

/* The guest cluster moves to a free one: an allocating write over a shared cluster, or a discard and a
 * write. */
proctype mover()
{
    byte old, c;

    do
    :: moves == MOVES -> break
    :: moves < MOVES && (!counted[0] || !counted[1] || !counted[2]) ->
        atomic {
            !meta_lock -> meta_lock = true;
            c = 0;
            do
            :: counted[c] -> c++
            :: !counted[c] -> break
            od;
            counted[c] = true;
            old = table;
            moves++
        };
#ifdef BROKEN_QUEUED_BEFORE_CHANGE /* not in the same hold of the lock */
        free_later(old);
        meta_lock = false;
        atomic { !meta_lock -> meta_lock = true; table = c };
#else
        table = c;
        free_later(old);
#endif
        atomic { meta_lock = false; old = 0; c = 0 }
    od
}

inline flush()
{
    atomic { !meta_lock -> sealed = table; gen = meta_gen; meta_gen++ };
#ifdef BROKEN_SYNCED_TOO_EARLY
    synced_gen = gen;
    on_disk = sealed;
#elif defined(BROKEN_SYNCED_TOO_MUCH) /* not what was sealed: what there is by now */
    on_disk = sealed;
    synced_gen = meta_gen;
#else
    on_disk = sealed; /* written, and synced */
    synced_gen = gen;
#endif
}

inline parity_empty(p) /* one stripe after the other */
{
    is_empty = count[((p) & 1) * STRIPES] == 0;
    if
    :: is_empty -> is_empty = count[((p) & 1) * STRIPES + 1] == 0
    :: else
    fi
}

inline advance_epoch()
{
    if
    :: epoch >= queue[0].epoch + 2 -> skip /* to keep the model finite */
    :: else ->
#ifdef BROKEN_ADVANCE_ANYWAY
        epoch++
#else
        parity_empty(epoch + 1);
        if
        :: is_empty -> epoch++
        :: else
        fi
#endif
    fi
}

inline is_ready()
{
#ifdef BROKEN_NO_SYNC
    ready = true;
#else
    ready = queue[0].gen <= synced_gen;
#endif
#ifdef BROKEN_ONE_EPOCH
    ready = ready && epoch >= queue[0].epoch + 1;
#elif !defined(BROKEN_NO_PINS)
    if
    :: ready && epoch == queue[0].epoch + 1 ->
        parity_empty(queue[0].epoch);
        ready = is_empty
    :: else -> ready = ready && epoch >= queue[0].epoch + 2
    fi;
#endif
}

inline release(c)
{
    assert(held[0] != c && held[1] != c);
    assert(on_disk != c); /* power fails: the table names a cluster that has another owner */
    assert(table != c);
    counted[c] = false
}

inline take()
{
    one = queue[0].cluster;
    two = queue[0].more;
    queued--;
    i = 0;
    do
    :: i < queued ->
        queue[i].cluster = queue[i + 1].cluster;
        queue[i].more = queue[i + 1].more;
        queue[i].epoch = queue[i + 1].epoch;
        queue[i].gen = queue[i + 1].gen;
        i++
    :: else -> break
    od;
    queue[queued].cluster = 0;
    queue[queued].more = 0;
    queue[queued].epoch = 0;
    queue[queued].gen = 0;
    i = 0
}

proctype flusher()
{
    byte sealed, gen;

end:
    do
    :: queued > 0 && queue[queued - 1].gen > synced_gen ->
        flush();
        d_step { sealed = 0; gen = 0 }
    od
}

/* After any flush, from any loop: one at a time is enough, each takes its entry under the lock. */
proctype reaper()
{
    byte one, two, i;
    bool is_empty, ready;

end:
    do
    :: atomic { queued > 0 && !pin_lock -> pin_lock = true };
        advance_epoch();
        is_ready();
        if
        :: ready ->
            d_step { take(); pin_lock = false };
            d_step { release(one) };
            d_step { if :: two != NONE -> release(two) :: else fi }
        :: else -> pin_lock = false
        fi;
        d_step { one = 0; two = 0; is_empty = 0; ready = 0 }
    od
}

init
{
    atomic {
        counted[0] = true;
        run mover();
        run flusher();
        run reaper()
    }
}
