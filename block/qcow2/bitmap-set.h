/* SPDX-License-Identifier: MIT */
/*
 * The persistent bitmaps of an open image, in memory: read from the directory when they are needed,
 * their bits when these are.
 *
 * INV-BMS-1  A bitmap that is loaded has as many bits as the disk has parts of its granularity, and
 *            a table of as many entries as these fill clusters.
 * INV-BMS-2  What is loaded at a time stays under BITMAP_MAX_MEMORY, whatever the directory says.
 */
#ifndef QCOW2_BITMAP_SET_H
#define QCOW2_BITMAP_SET_H

#include "bitmap.h"
#include "util/dirty-bits.h"
#include "util/spinlock.h"

#define BITMAP_MAX_MEMORY (512 * MiB)
#ifdef QCOW2_BREAK_RULES
#define BITMAP_REGION_BYTES 8 /* so that the small disks of the explorer have many */
#else
#define BITMAP_REGION_BYTES 512 /* of its bits on disk; they reach it whole or not at all */
#endif
#define BITMAP_REGION_BITS (BITMAP_REGION_BYTES * UINT64_C(8))
#define BITMAP_ENTRY_OFFSET UINT64_C(0x00fffffffffffe00) /* of a table: the cluster, or 0 */
#define BITMAP_ALL_ONES UINT64_C(1) /* an entry of a table that needs no cluster */

typedef struct Bitmap {
    char *name;
    uint32_t flags;
    unsigned granularity_bits;
    uint8_t *extra;
    uint32_t extra_len;
    uint64_t table_offset; /* 0: not on disk yet */
    uint32_t table_entries;
    DirtyBits *bits; /* NULL: not loaded */
    uint64_t *table; /* host byte order; loaded with the bits, or for itself */
    /* While it is tracked, one each BITMAP_REGION_BITS: see track.h. */
    _Atomic uint8_t *regions;
    uint64_t n_regions;
    uint64_t at_once, set_first, set_end; /* of making them hot */
    int64_t heated;                       /* when; monotonic, microseconds */
    bool inexact;   /* entries of its table say all ones, and memory less */
    uint64_t epoch; /* in the list of those retired: when it went */
} Bitmap;

typedef struct TrackedSet {
    unsigned n;
    Bitmap *list[]; /* by name */
} TrackedSet;

/* A request that waits for its regions to be hot. */
typedef struct TrackWait {
    uint64_t offset, bytes;
    struct TrackWait *next;
    int ret; /* these two under the lock of the bitmaps */
    bool done;
} TrackWait;

typedef struct Qcow2Bitmaps {
    CoMutex lock;                        /* outside of flush_lock; inside of start_lock */
    GPtrArray *all GUARDED_BY(lock);     /* Bitmap; NULL: not read yet */
    GPtrArray *retired GUARDED_BY(lock); /* ... that requests may still see */
    uint64_t memory GUARDED_BY(lock);
    _Atomic int64_t cooled;        /* monotonic, microseconds */
    bool started GUARDED_BY(lock); /* the disk may have changed: those that are enabled track */
    bool registered;               /* tables are in the metadata set */
    SpinLock wait_lock;
    TrackWait *waits GUARDED_BY(wait_lock);
} Qcow2Bitmaps;

static inline bool qcow2_bitmap_is_live(const Bitmap *b)
{
    return (b->flags & (BITMAP_AUTO | BITMAP_IN_USE)) == BITMAP_AUTO;
}

int qcow2_bitmap_set_init(Qcow2 *q);
void qcow2_bitmap_set_fini(Qcow2 *q);
/* The list is read. */
int coroutine_fn qcow2_bitmap_set_co_read(Qcow2 *q, GError **errp) REQUIRES_LOCK(q->bitmaps->lock);
Bitmap *qcow2_bitmap_set_find(const Qcow2 *q, const char *name) REQUIRES_LOCK(q->bitmaps->lock);
/* -EINVAL: @b is in use by nobody any more, and was not stored. */
int qcow2_bitmap_refuse_inconsistent(const Bitmap *b, GError **errp);
/* A copy that shares the place on disk and the bits. NULL without memory. */
Bitmap *qcow2_bitmap_copy(const Bitmap *b);
void qcow2_bitmap_free(Bitmap *b);
uint64_t qcow2_bitmap_bits(uint64_t disk_size, unsigned granularity_bits);
/* Its table, whose entries are sound. */
int coroutine_fn qcow2_bitmap_co_load_table(Qcow2 *q, Bitmap *b, GError **errp);
/* Table and bits; nothing if they are there. */
int coroutine_fn qcow2_bitmap_co_load(Qcow2 *q, Bitmap *b, GError **errp)
    REQUIRES_LOCK(q->bitmaps->lock);

#endif
