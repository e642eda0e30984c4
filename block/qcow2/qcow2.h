/* SPDX-License-Identifier: MIT */
/*
 * The open image.  Each module's functions are in its own header; this is what they share.
 *
 * Lock order (outer first): start_lock, bitmaps->lock, flush_lock, alloc.meta_lock, header.lock,
 * then the spin locks (caches', quarantine's), which never nest in one another.
 *
 * INV-W-1  A refcount reaches the disk before any table that refers to the cluster.
 * INV-W-2  Data (the guest's and what copy-on-write fills in) reaches the disk before the L2 entry
 *          that shows it.
 * INV-W-3  A new L2 table or refcount block reaches the disk whole before its parent points to it.
 * INV-W-4  The last reference to a cluster leaves the disk before its refcount drops, and before
 *          the cluster is used again or punched (quarantine.h).
 */
#ifndef QCOW2_QCOW2_H
#define QCOW2_QCOW2_H

#include "allocator.h"
#include "block/io.h"
#include "block/crypto/volume.h"
#include "cache.h"
#include "geometry.h"
#include "header-io.h"
#include "health.h"
#include "l2.h"
#include "metadata-set.h"
#include "pin.h"
#include "quarantine.h"

#include <errno.h>

/* sharing.h; changes under alloc.meta_lock */
typedef struct SharingState {
    atomic_bool on;         /* tables may be pending */
    _Atomic uint8_t *state; /* of each L1 entry; replaced while requests are held back */
    uint32_t n;             /* of them */
    int failed;             /* one could not be counted: there will be no snapshot */
    uint32_t failed_at;     /* ... that one; its flags may have gone */
} SharingState;

typedef struct Qcow2 {
    BlockDriverState *bs;
    BdrvChild *file;    /* metadata (and data) */
    CryptVolume *crypt; /* NULL: not encrypted; constant after open */
    BdrvChild *data; /* == file, or the external data file; NULL with BLK_O_NO_IO and none there */
    Geometry geo;    /* constant after open */
    Qcow2Header hdr; /* alloc.meta_lock; the feature bits: header.lock */
    HeaderFile header;
    Health health;
    /* hdr.nb_snapshots of them; changed by one operation at a time (block/driver.h) */
    struct Snapshot *snapshots;
    char *snapshots_lost; /* why a reader does not know them; NULL: it does */
    SharingState sharing;

    /* L1: host byte order, entries as on disk (flags included). Changed under meta_lock with
     * atomic stores; read anywhere with atomic loads. l1 is replaced (INV-TR-1) under meta_lock. */
    _Atomic uint64_t *_Atomic l1;
    atomic_uint_least32_t l1_size;
    bool l1_dirty GUARDED_BY(alloc.meta_lock);
    uint32_t l1_dirty_first GUARDED_BY(alloc.meta_lock), l1_dirty_last GUARDED_BY(alloc.meta_lock);
    MetaCache *l2_cache; /* another one after a reopen */

    Allocator alloc; /* with meta_lock */
    MetadataSet *metadata;
    PinState *pin;
    Quarantine *quarantine;
    struct InflightAlloc *inflight_allocs GUARDED_BY(alloc.meta_lock); /* inflight.h */

    CoMutex flush_lock;                               /* one metadata flush at a time */
    atomic_uint_fast64_t flush_begun;                 /* count of flushes begun; */
    uint64_t flush_done GUARDED_BY(flush_lock);       /* ... and the last one that ended well */
    bool header_in_doubt GUARDED_BY(alloc.meta_lock); /* a write of header fields failed */
    bool header_whole_in_doubt GUARDED_BY(alloc.meta_lock); /* ... or of the whole header */
    atomic_bool write_counts;                               /* flushes write counts, lazy or not */

    CoMutex start_lock;                   /* one first change at a time */
    struct Qcow2Bitmaps *bitmaps;         /* bitmap-set.h */
    _Atomic(struct TrackedSet *) tracked; /* NULL: no bitmap is; track.h */
    atomic_uint unmarked; /* kinds of change that the image does not announce yet; change.h */
    /* Moved before a compressed cluster's place is used again. */
    atomic_uint_fast64_t compressed_gen;
    struct DecompressCache *decompressed; /* decompress.c */
    struct PackOrder *pack_order;         /* compress.c */
    struct CowBuffers *cow_buffers;       /* cow-buffer.c */
    /* A data write failed: clusters past the end of the file may not read zero. */
    atomic_bool fresh_unsafe;
    /* 1: clusters are reserved that the host has no space for; -1: not; 0: unknown (status.c). */
    atomic_int preallocated;

    /* Of the open, or the reopen, which nothing else runs beside. */
    bool opened_empty; /* no L2 table was there at the open: nothing is allocated but by writes */
    bool lazy_refcounts;
    /* Of compressed writes; 0: the type's own; -1: what the image says. */
    int compression_level;
    bool discard_passthrough, discard_no_unref, discard_snapshot;
    bool at_snapshot;      /* what is read is a snapshot: nothing is written */
    bool stays_dirty;      /* counts or flags are wrong: the next writer puts them right */
    uint64_t budget_taken; /* of the process's budget; budget.c */

    uint64_t cache_clean_interval_ns; /* clean.c; 0: never */
    atomic_int_fast64_t clean_due;    /* monotonic, ns */
    AioTimer *clean_timer;
} Qcow2;

/* Requests see a disk of @size bytes from now on: of whole sectors, as the reference. */
static inline void qcow2_show_length(Qcow2 *q, uint64_t size)
{
    atomic_store(&q->bs->total_bytes, (int64_t)ALIGN_DOWN(size, UINT64_C(512)));
}

#endif
