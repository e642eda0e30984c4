/* SPDX-License-Identifier: MIT */
/*
 * A cluster that holds the last compressed piece to go is punched and given back, while a compressed
 * write wants the room that is left in it and an allocation searches for free clusters. Nobody else may
 * own a byte of a cluster that is punched; nobody packs into a cluster that is free.
 * INV-ALLOC-3, INV-PIN (punched with its count, then the count drops).
 * Code: block/qcow2/reap.c: may_punch punch_range co_release
 * Code: block/qcow2/alloc.c: qcow2_alloc_co_bytes take
 * Code: block/qcow2/refcount.c: note_freed qcow2_refcount_co_change
 */
bool meta_lock;
byte count = 1;         /* of the cluster: the piece in quarantine */
bool next_here = true;  /* compress_next is in it */
byte owners;            /* ghost: who was given room in it since */
bool punched;           /* ghost */

inline lock() { atomic { !meta_lock -> meta_lock = true } }
inline unlock() { meta_lock = false }

inline count_falls() /* the lock is held */
{
    count--;
#ifndef BROKEN_PACKS_INTO_FREE
    if
    :: count == 0 -> next_here = false /* alloc_cluster_freed */
    :: else
    fi
#endif
}

inline punch()
{
    assert(owners == 0);
    punched = true
}

active proctype reaper()
{
    bool may;

    lock();
    if
#ifdef BROKEN_PUNCH_SHARED
    :: may = true
#else
    :: may = count == 1
#endif
    :: may = false /* no punch is wanted */
    fi;
#ifndef BROKEN_PACKS_BEHIND_PUNCH
    next_here = (may -> false : next_here);
#endif
    unlock();
#ifdef BROKEN_COUNT_BEFORE_PUNCH
    lock();
    count_falls();
    unlock();
    if
    :: may -> punch()
    :: else
    fi
#else
    if
    :: may -> punch()
    :: else
    fi;
    lock();
    count_falls();
    unlock()
#endif
}

active [2] proctype packer()
{
    lock();
    if
#ifdef BROKEN_PACKS_INTO_FREE
    :: next_here ->
#else
    :: next_here && count > 0 ->
#endif
        assert(count > 0);
        count++;
        owners++
    :: else /* another cluster */
    fi;
    unlock()
}

active proctype allocator()
{
    lock();
    if
    :: count == 0 ->
        count = 1;
        owners++
    :: else /* another cluster */
    fi;
    unlock()
}
