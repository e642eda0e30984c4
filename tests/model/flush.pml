/* SPDX-License-Identifier: MIT */
/*
 * Flush against quarantine, with writes and syncs that fail and a power failure at any moment. A guest
 * cluster moves to a new cluster of the file with each write (count, data, entry; the old cluster goes to
 * quarantine). Two flushes seal, write in order (counts, sync, entries, sync), and say what is synced; a
 * reap drops the counts of what was let go of. The file is what power loss could leave: for each item the
 * set of versions that may be on disk.
 *
 * A metadata write that fails may have reached the disk or not; it is written again by the next flush,
 * the steps after it wait. A sync that fails may have dropped what was written: those bytes count as clean
 * for the kernel, no later sync writes them, so the node writes nothing more.
 *
 * At every moment: whatever entry may be on disk, its cluster is counted in all that may be on disk, its
 * data is there, and no write that a flush has covered is missing.
 * INV-FLUSH-1, INV-FLUSH-2, INV-FLUSH-3, INV-W-1, INV-W-2, INV-W-4.
 * Code: block/qcow2/flush.c: seal_all co_flush_once co_take_steps co_take_step co_release
 * Code: block/qcow2/flush.c: co_sealed_clear co_sync qcow2_flush_co_metadata qcow2_co_flush_to_os
 * Code: block/qcow2/quarantine.c: qcow2_quarantine_synced
 * Code: block/qcow2/reap.c: qcow2_reap_co_ready co_release
 */
#ifndef WRITES
#define WRITES 2 /* LARGE: 3 */
#endif
#ifndef FAULTS
#define FAULTS 1 /* LARGE: 2 */
#endif
#define VERSIONS (WRITES + 1) /* version v of the entry names cluster v; 0 is there at first */
#define BIT(v) (1 << (v))

/* Memory */
bool flush_lock; /* what meta_lock guards is one step each time */
byte counts = 1;    /* bit c: cluster c is counted */
bool counts_dirty;
byte entry;         /* the version */
bool entry_dirty;
byte gen = 1;       /* meta_gen */
byte synced_gen;
byte freed_gen[VERSIONS]; /* version's cluster in quarantine since, or 0 */
bool stopped;       /* write_error */
byte begun, done;   /* flush_begun, flush_done */
byte faults;

/* The file: what may be on disk, and what the kernel still holds to write */
byte counted_surely = 1; /* clusters counted in all states of the disk */
byte counts_held;        /* the last written counts, if counts_to_sync */
bool counts_to_sync;
byte entry_may = 1;      /* versions that may be on disk */
byte entry_held;
bool entry_to_sync;
byte data_held;          /* versions whose data was written and not synced */
byte data_there = 1;     /* and synced */

byte promised;           /* the version that a completed flush covers */

#define OLDER(set, v) ((set) & (BIT(v) - 1))

/* Power may fail now. */
#define SOUND ((entry_may & ~counted_surely) == 0 && (entry_may & ~data_there) == 0 && OLDER(entry_may, promised) == 0)

inline lock(l) { atomic { !l -> l = true } }
inline unlock(l) { l = false }

/* A write of metadata; afterwards the disk may hold the old or the new. */
inline put_counts(c)
{
    atomic {
        counted_surely = counted_surely & (c);
        counts_held = c;
        counts_to_sync = true;
        assert(SOUND)
    }
}

inline put_entry(v)
{
    atomic {
        entry_may = entry_may | BIT(v);
        entry_held = v;
        entry_to_sync = true;
        assert(SOUND)
    }
}

inline sync()
{
    atomic {
        if
        :: counts_to_sync -> counted_surely = counts_held; counts_to_sync = false; counts_held = 0
        :: else
        fi;
        if
        :: entry_to_sync -> entry_may = BIT(entry_held); entry_to_sync = false; entry_held = 0
        :: else
        fi;
        data_there = data_there | data_held;
        data_held = 0;
        assert(SOUND)
    }
}

inline failed_sync() /* each of what was held may have been dropped, and nothing tries again */
{
    atomic {
        counts_to_sync = false; counts_held = 0;
        entry_to_sync = false; entry_held = 0;
        data_held = 0
    }
}

/* step: write or sync; ok says whether it worked */
inline co_sync()
{
    if
    :: sync(); ok = true
    :: atomic { faults < FAULTS -> faults++; ok = false };
       failed_sync();
#ifndef BROKEN_GOES_ON_AFTER_FAILED_SYNC
       stopped = true
#endif
    fi
}

inline co_write_refcounts()
{
    if
    :: put_counts(sealed_counts); ok = true
    :: atomic { faults < FAULTS -> faults++; ok = false };
       if /* it may have reached the disk, or not */
       :: put_counts(sealed_counts)
       :: true
       fi
    fi
}

inline co_write_entry()
{
    if
    :: put_entry(sealed_entry); ok = true
    :: atomic { faults < FAULTS -> faults++; ok = false };
       if
       :: put_entry(sealed_entry)
       :: true
       fi
    fi
}

inline seal()
{
    atomic {
        s_counts = counts_dirty;
        s_entry = entry_dirty;
        sealed_counts = counts;
        sealed_entry = entry;
        counts_dirty = false;
        entry_dirty = false;
        sealed_gen = gen;
        gen++
    }
}

inline unseal() /* what was not written, or not surely, is dirty again */
{
    atomic {
#ifndef BROKEN_FORGETS_COUNTS
        counts_dirty = counts_dirty || s_counts;
#endif
#ifndef BROKEN_FORGETS_ENTRY
        entry_dirty = entry_dirty || s_entry;
#endif
    }
}

inline co_write_all()
{
    ok = true;
    if
    :: s_counts ->
        co_write_refcounts();
#ifdef BROKEN_GOES_ON_AFTER_FAILED_WRITE
        ok = true;
#endif
#ifndef BROKEN_NO_SYNC_BETWEEN
        if
        :: ok -> co_sync()
        :: else
        fi
#endif
    :: else
    fi;
    if
    :: ok && s_entry ->
#if !defined(BROKEN_NO_SYNC_BEFORE_ENTRY) && !defined(BROKEN_NO_SYNC_BETWEEN)
        co_sync(); /* INV-W-2 */
#endif
        if
        :: ok -> co_write_entry()
        :: else
        fi
    :: else
    fi
}

inline synced()
{
    synced_gen = (synced_gen < sealed_gen -> sealed_gen : synced_gen)
}

inline co_flush_once()
{
    seal();
    co_write_all();
    if
    :: !ok -> unseal()
    :: else ->
#ifdef BROKEN_SYNCED_BEFORE_SYNC
        synced();
        co_sync();
#elif defined(BROKEN_SYNCED_DESPITE_FAILED_SYNC)
        co_sync();
        synced();
#else
        co_sync();
        if
        :: ok -> synced()
        :: else -> unseal()
        fi
#endif
    fi
}

/* Two guards stand before it: either alone is enough. */
#ifdef BROKEN_SYNCED_DESPITE_FAILED_SYNC
#define MAY_WRITE true
#else
#define MAY_WRITE !stopped /* qcow2_health_may_write */
#endif

/* Clusters in quarantine whose letting go is on disk lose their count. */
inline reap()
{
    atomic {
        v = 0;
        do
        :: v < VERSIONS ->
            if
            :: freed_gen[v] != 0 && freed_gen[v] <= synced_gen && MAY_WRITE ->
                freed_gen[v] = 0;
                counts = counts & ~BIT(v);
                counts_dirty = true;
                assert((entry_may & BIT(v)) == 0) /* or it is given out and overwritten */
            :: else
            fi;
            v++
        :: else -> v = 0; break
        od
    }
}

proctype flusher()
{
    byte v, want, mine, covers, sealed_counts, sealed_entry, sealed_gen, times;
    bool ok, s_counts, s_entry;

    for (times : 1 .. 2) {
        ok = false;
        atomic {
            covers = entry; /* the writes that had ended when the flush was asked for */
#ifdef BROKEN_TAKES_ANOTHERS_WORK
            want = begun;
#else
            want = begun + 1;
#endif
        }
        lock(flush_lock);
        if
        :: done >= want -> ok = true
        :: done < want && stopped -> ok = false
        :: done < want && !stopped ->
            begun++;
            mine = begun;
            co_flush_once();
            if
            :: ok -> done = mine
            :: else
            fi
        fi;
        unlock(flush_lock);
        if
        :: ok ->
            atomic {
                promised = (promised < covers -> covers : promised);
                assert(SOUND)
            };
            reap()
        :: else -> skip
        fi;
        atomic {
            v = 0; want = 0; mine = 0; covers = 0; sealed_counts = 0; sealed_entry = 0; sealed_gen = 0;
            s_counts = false; s_entry = false
        }
    }
}

/* Allocating writes: plan with the lock, data without it, finish with it. */
proctype writer()
{
    byte v;

    for (v : 1 .. WRITES) {
        if
        :: stopped -> break
        :: atomic { !stopped -> counts = counts | BIT(v); counts_dirty = true }
        fi;
        atomic { data_held = data_held | BIT(v) };
        atomic {
                freed_gen[entry] = gen;
            entry = v;
            entry_dirty = true
        }
    }
}

init
{
    atomic {
        run flusher();
        run flusher();
        run writer()
    }
end:
    false
}
