/* SPDX-License-Identifier: MIT */
/*
 * The open image and the internal contracts of the driver's parts.
 *
 * Lock order (outer first): flush_lock, meta_lock, feature_lock, then the spin locks (caches',
 * pin's), which never nest in one another.
 *
 * INV-W-1  A refcount reaches the disk before any table that refers to the cluster.
 * INV-W-2  Data (the guest's and what copy-on-write fills in) reaches the disk before the L2 entry
 *          that shows it.
 * INV-W-3  A new L2 table or refcount block reaches the disk whole before its parent points to it.
 * INV-W-4  The last reference to a cluster leaves the disk before its refcount drops, and before
 *          the cluster is used again or punched (pin.h).
 */
#ifndef QCOW2_QCOW2_H
#define QCOW2_QCOW2_H

#include "block/io.h"
#include "cache.h"
#include "geometry.h"
#include "header.h"
#include "l2.h"

#include <errno.h>

typedef struct Qcow2 Qcow2;
typedef struct PinState PinState;           /* pin.h */
typedef struct InflightAlloc InflightAlloc; /* write.c */
typedef struct CowBuffers CowBuffers;       /* cow-buffer.c */

typedef struct Snapshot {
    uint64_t l1_offset;
    uint32_t l1_size;
    char *id, *name;
    uint64_t disk_size, vm_state_size;
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec;
    uint64_t icount;
    uint8_t *extra;
    uint32_t extra_len; /* unknown extra data */
} Snapshot;

struct Qcow2 {
    BlockDriverState *bs;
    BdrvChild *file; /* metadata (and data) */
    BdrvChild *data; /* == file, or the external data file; NULL with BLK_O_NO_IO and none there */
    Geometry geo;    /* constant after open */
    Qcow2Header hdr; /* meta_lock */
    Snapshot *snapshots; /* constant after open; hdr.nb_snapshots */

    CoMutex meta_lock;    /* allocation state, L1, reftable, and every change of a slice */
    CoMutex flush_lock;   /* one metadata flush at a time */
    CoMutex feature_lock; /* the feature bits of the header on disk */
    atomic_uint_fast64_t flush_begun; /* count of flushes begun; */
    uint64_t flush_done;              /* ... and the last one that ended well (flush_lock) */
    atomic_uint_fast64_t
        compressed_gen; /* moved before the place of a compressed cluster is used again */
    struct DecompressCache *decompressed; /* decompress.c */
    struct PackOrder *pack_order;         /* compress.c */

    /* L1: host byte order, entries as on disk (flags included). Changed under meta_lock with
     * atomic stores; read anywhere with atomic loads. l1_table is replaced (resize) only while
     * drained. */
    _Atomic uint64_t *l1;
    uint32_t l1_size;
    bool l1_dirty;
    uint32_t l1_dirty_first, l1_dirty_last; /* meta_lock */
    MetaCache *l2_cache;

    /* Refcounts (meta_lock). reftable: host byte order. */
    uint64_t *reftable;
    uint64_t reftable_entries;
    bool reftable_dirty;
    uint64_t reftable_dirty_first, reftable_dirty_last;
    uint64_t reftable_new_offset; /* not 0: the table grew; the flush moves it there (refblock.c) */
    uint64_t reftable_sealed_offset; /* a flush is writing the moved table there */
    MetaCache *ref_cache;
    uint64_t free_hint;   /* cluster index where the search for free clusters starts */
    atomic_bool grows;    /* the last allocation was past the end of the file */
    atomic_bool was_full; /* the file could not grow once: free clusters in it come first */
    atomic_bool
        wished_past; /* a wish went past the end of the file, with free clusters in it, perhaps */
    uint64_t compress_next; /* next byte for compressed data, 0: none */

    PinState *pin;
    uint64_t meta_gen; /* meta_lock: tag of changes not yet sealed; see flush.c */
    CowBuffers *cow_buffers;
    atomic_uint unmarked; /* kinds of change that the image does not announce yet; bitmap.c */
    InflightAlloc *inflight_allocs; /* intrusive list, meta_lock; write.c */
    atomic_bool
        fresh_unsafe; /* a data write failed: clusters past the end of file may not read zero */

    bool opened_empty; /* no L2 table was there at the open: nothing is allocated but by writes */
    bool lazy_refcounts;
    atomic_bool write_counts; /* flushes write counts, lazy or not */
    atomic_bool corrupt;      /* found so while open: no more writes */
    atomic_int write_error;   /* a sync failed: no more writes (-errno) */
    bool header_in_doubt;     /* meta_lock: a write of header fields failed; flush.c */
    bool discard_passthrough, discard_no_unref;
    bool discard_other;           /* punch what writes let go of, too */
    bool overlap_off;             /* overlap-check=none */
    uint64_t budget_taken;        /* of the process's budget; budget.c */
    struct MetadataSet *metadata; /* metadata-set.c */
    atomic_int preallocated; /* status.c: 1 clusters are reserved that the host has no space for, -1
                                not, 0 unknown */
    uint64_t cache_clean_interval_ns; /* 0: never */
    atomic_int_fast64_t clean_due;    /* clean.c; monotonic, ns */
    AioTimer *clean_timer;
};

/* ---- clean.c ---- */
void qcow2_clean_start(Qcow2 *q, uint64_t interval_s);
void qcow2_clean_stop(Qcow2 *q);
/* For slow paths: those of a request that reads metadata, or flushes. Any thread. */
void qcow2_clean_if_due(Qcow2 *q);

/* ---- corrupt.c ---- The one function for bad bytes in an image. Remembers, marks the image
 * corrupt (if writable) once, returns -EIO. */
int coroutine_fn qcow2_co_corrupt(Qcow2 *q, const char *site, int64_t offset, const char *what);
/* 0, or why nothing may be written (-EIO, write_error). */
int qcow2_may_write(Qcow2 *q);

/* ---- bitmap.c ---- */
#define QCOW2_CHANGE_DISK 1u  /* of what the guest reads */
#define QCOW2_CHANGE_IMAGE 2u /* of anything in the image */
/* A writer opens the image: its bitmaps can be marked, and their tables are metadata. */
int coroutine_fn qcow2_co_bitmaps_open(Qcow2 *q, GError **errp);
/* The autoclear bits that stay true while we write. */
uint64_t qcow2_autoclear_kept(const Qcow2 *q);
int coroutine_fn qcow2_co_mark_change(Qcow2 *q, unsigned what);
/* Comes before every change (@what: its kinds), with no lock held: whatever would no longer be true
 * says so on stable storage (bitmaps, autoclear bits). One load when that is done. */
static inline int coroutine_fn qcow2_co_begin_change(Qcow2 *q, unsigned what)
{
    return likely(!(atomic_load_explicit(&q->unmarked, memory_order_acquire) & what))
               ? 0
               : qcow2_co_mark_change(q, what);
}

/* ---- map.c ---- A run of one kind and (with a host offset) of one state of COPIED. */
typedef struct Extent {
    ScKind kind;
    uint64_t bytes; /* > 0 */
    uint64_t host;  /* of the first byte, for NORMAL, ZERO_ALLOC, UNALLOCATED_ALLOC; COMPRESSED: see
                       entry */
    L2Entry entry;  /* of the first cluster */
} Extent;
/* Longest run from @guest, at most @bytes, that is one kind and, where a host offset counts,
 * contiguous on the host; may end at a slice boundary. No allocation and no yield on a cache hit.
 * SC_INVALID never returned: corrupt is reported, -EIO. */
int coroutine_fn qcow2_co_map(Qcow2 *q, uint64_t guest, uint64_t bytes, Extent *ret);
/* The slice with entry @at of the L2 table at @table; refuses a table that lies behind the end of
 * the file. */
int coroutine_fn qcow2_co_l2_load(Qcow2 *q, uint64_t l1_index, uint64_t table, uint64_t at,
                                  MetaSlice **slice);
/* Under meta_lock: the slice and index for the entry of @guest; *slice NULL if there is no L2
 * table. */
int coroutine_fn qcow2_co_l2_get(Qcow2 *q, uint64_t guest, MetaSlice **slice, unsigned *index);
/* The same for change: allocates the table, or copies it when shared (L1 COPIED clear). */
int coroutine_fn qcow2_co_l2_get_writable(Qcow2 *q, uint64_t guest, MetaSlice **slice,
                                          unsigned *index);
/* Under meta_lock, memory only. */
void qcow2_l1_set(Qcow2 *q, uint32_t index, uint64_t entry);
/* True if host cluster of @offset is known metadata (header, L1s, L2 tables, reftable, refblocks,
 * snapshot table): data must not be written there. NULL or what it is. Any thread, cheap. */
const char *qcow2_metadata_at(Qcow2 *q, uint64_t offset, uint64_t bytes);
void qcow2_metadata_add(Qcow2 *q, uint64_t offset, uint64_t bytes, const char *what);
/* NULL, or what the first cluster that was added as two things was first. */
const char *qcow2_metadata_overlap(Qcow2 *q, uint64_t *offset);
int qcow2_metadata_init(Qcow2 *q);
void qcow2_metadata_fini(Qcow2 *q);
void qcow2_metadata_remove(Qcow2 *q, uint64_t offset, uint64_t bytes);

/* ---- read.c, compress.c, status.c ---- */
int coroutine_fn qcow2_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v, unsigned flags);
int coroutine_fn qcow2_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                       int64_t bytes, int64_t *pnum, int64_t *map,
                                       BlockDriverState **file);
/* Whole cluster of @e, decompressed into @buf (cluster_size bytes). */
int coroutine_fn qcow2_co_read_compressed(Qcow2 *q, L2Entry e, void *buf);
int qcow2_compress_init(Qcow2 *q);
void qcow2_compress_fini(Qcow2 *q);
int coroutine_fn qcow2_co_pwritev_compressed(BlockDriverState *bs, int64_t offset, IOVector *v);

/* ---- flush.c ---- */
/* Syncs the file; on failure the node takes no more writes. Any lock may be held. */
int coroutine_fn qcow2_co_sync_file(Qcow2 *q);
/* Metadata to the file in the order of INV-W-1..3:
 * refcount blocks; sync; reftable; sync (data too); L2 slices; sync; L1. Steps with nothing to do,
 * and their syncs, fall away. With @final a sync ends it and cleared references are reported to
 * pin. What could not be written is dirty again, for the next flush. No lock held by the caller. */
int coroutine_fn qcow2_co_flush_metadata(Qcow2 *q, bool final);
/* Before a write takes meta_lock: keeps what waits for a sync in quarantine to a share of the file,
 * and dirty slices under half of a cache that is smaller than its tables. */
int coroutine_fn qcow2_co_relieve(Qcow2 *q);
/* The device, the file system, a quota or a limit of the process has no more. */
static inline bool qcow2_no_room(int64_t ret)
{
    return ret == -ENOSPC || ret == -EFBIG || ret == -EDQUOT;
}
/* After a request, with result @ret: true if it found no room, and there is some now (what was in
 * quarantine), or some that it did not look at: it is tried again, once. The caller has no lock and
 * no pin. */
bool coroutine_fn qcow2_co_retry(Qcow2 *q, int64_t ret);
/* All of it to the file, refcounts too where they are lazy, and what is in quarantine free as far
 * as no request is in flight: for a check, and at the end. */
int coroutine_fn qcow2_co_settle(Qcow2 *q);
int coroutine_fn qcow2_co_flush_to_os(BlockDriverState *bs);

/* ---- refcount.c, alloc.c (meta_lock held in all) ---- */
/* [offset, +bytes) of the file into @buf; zeroes past its end, where only info and check come. */
int coroutine_fn qcow2_co_read_table(Qcow2 *q, uint64_t offset, uint64_t bytes, void *buf);
int coroutine_fn qcow2_refcount_co_load_table(Qcow2 *q, GError **errp);
int coroutine_fn qcow2_co_refcount_get(Qcow2 *q, uint64_t cluster, uint64_t *ret);
/* Add @delta to clusters [first, first + n): makes refcount blocks, grows the table. All or
 * nothing. */
int coroutine_fn qcow2_co_refcount_add(Qcow2 *q, uint64_t first, uint64_t n, int delta);
/* The reftable's way to disk, for flush.c. hdr.reftable_offset is what the header on disk says; a
 * grown table lives in memory until a flush has written it whole, synced, and switched the header.
 * seal (meta_lock, with the other seals; -ENOMEM leaves all as it was); write after the sync of the
 * refblocks; the caller syncs; switch (no lock held; nothing to do unless moved; synced within);
 * clear always (no lock held;
 * @failed: dirty again). n == 0: nothing to write. */
typedef struct ReftableSeal {
    uint64_t table_offset, first, n; /* entries [first, first + n) of the table at table_offset */
    uint8_t *data;                   /* on-disk byte order */
    bool moved;
    uint32_t clusters;
} ReftableSeal;
int qcow2_reftable_seal(Qcow2 *q, ReftableSeal *s);
int coroutine_fn qcow2_co_reftable_write(Qcow2 *q, const ReftableSeal *s);
int coroutine_fn qcow2_co_reftable_switch(Qcow2 *q, const ReftableSeal *s);
void coroutine_fn qcow2_co_reftable_seal_clear(Qcow2 *q, ReftableSeal *s, bool failed);
/* @n contiguous free clusters, refcount 1; *offset. */
int coroutine_fn qcow2_co_alloc_clusters(Qcow2 *q, uint64_t n, uint64_t *offset);
/* Up to @n contiguous free clusters, at @want if that is free (0: anywhere); *got >= 1. */
int coroutine_fn qcow2_co_alloc_upto(Qcow2 *q, uint64_t want, uint64_t n, uint64_t *offset,
                                     uint64_t *got);
/* Room for @bytes of compressed data, packed behind the last. */
int coroutine_fn qcow2_co_alloc_bytes(Qcow2 *q, uint64_t bytes, uint64_t *offset);
/* Room for new metadata at @offset, before anything names it: it becomes zero and has its space on
 * the disk, as far as the file system gives it. On failure nothing has changed. */
int coroutine_fn qcow2_co_secure(Qcow2 *q, uint64_t offset, uint64_t bytes);
/* Never on disk, never in any table: refcount drops now. (Undo of a failed allocation.) */
void coroutine_fn qcow2_co_free_unused(Qcow2 *q, uint64_t offset, uint64_t bytes);
/* A table let go of these (in memory): quarantine, then punch if wanted, then refcount drops. */
void qcow2_free_later(Qcow2 *q, uint64_t offset, uint64_t bytes, bool punch);
void qcow2_free_compressed_later(Qcow2 *q, uint64_t offset, uint64_t bytes, bool punch);
/* The same for whatever an L2 entry refers to. */
void qcow2_free_entry_later(Qcow2 *q, L2Entry e, bool punch);

/* ---- pin.c ---- */
PinState *qcow2_pin_new(void);
void qcow2_pin_free(PinState *p);
/* Every request brackets itself, from before its lookup to after its last I/O or table change. */
unsigned qcow2_pin_enter(Qcow2 *q); /* returns a token */
void qcow2_pin_leave(Qcow2 *q, unsigned token);
/* Ends the generation of changes: what was let go of so far. meta_lock held. */
typedef struct QuarantineMark {
    uint64_t gen, bytes, runs;
} QuarantineMark;
QuarantineMark qcow2_pin_mark(Qcow2 *q);
/* The changes up to @m are on stable storage. */
void qcow2_pin_synced(Qcow2 *q, QuarantineMark m);
/* Bytes, and *runs of them, that wait for a sync (also for requests, perhaps). Any thread. */
uint64_t qcow2_pin_unsynced(Qcow2 *q, uint64_t *runs);
/* Free what may be freed. No lock held. */
int coroutine_fn qcow2_co_pin_reap(Qcow2 *q);
uint64_t qcow2_pin_waiting_bytes(Qcow2 *q);
/* g_free(@mem) when the image is closed: lookups without a lock may still read it. */
void qcow2_pin_retire(Qcow2 *q, void *mem);

/* ---- vmstate.c ---- */
int coroutine_fn qcow2_co_vmstate(BlockDriverState *bs, int64_t pos, IOVector *v, bool save);

/* ---- write.c, cow.c, zero.c, discard.c, truncate.c ---- */
int coroutine_fn qcow2_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                  unsigned flags);
int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        unsigned flags);
int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes);
int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                   BlockPrealloc prealloc, unsigned flags, GError **errp);
/* The same without qcow2_co_begin_change(); @offset may be past the disk. */
int coroutine_fn qcow2_co_write(Qcow2 *q, uint64_t offset, IOVector *v, unsigned flags);
/* The L1 table gets @entries at least. The caller is alone on the image. */
int coroutine_fn qcow2_co_grow_l1(Qcow2 *q, uint64_t entries);
/* Wait, under meta_lock (dropped meanwhile), for allocating writes that touch the clusters of the
 * range; true if it waited (look again). */
bool coroutine_fn qcow2_co_wait_allocs(Qcow2 *q, uint64_t guest, uint64_t bytes);
/* Reserve host clusters for the range (preallocation=metadata and on), as its bits say. */
int coroutine_fn qcow2_co_preallocate(Qcow2 *q, uint64_t guest, uint64_t bytes, BlockPrealloc mode,
                                      GError **errp);

/* ---- cow-buffer.c ---- */
int cow_buffers_init(Qcow2 *q);
void cow_buffers_fini(Qcow2 *q);
void *cow_buffer_get(Qcow2 *q, uint64_t bytes);           /* aligned for I/O; NULL without memory */
void cow_buffer_put(Qcow2 *q, void *buf, uint64_t bytes); /* the same @bytes; NULL is fine */
void cow_buffers_trim(Qcow2 *q); /* give back what was not used since the last call */

/* ---- check.c, dirty.c ---- */
int coroutine_fn qcow2_co_check(BlockDriverState *bs, BlockCheckResult *res, unsigned fix,
                                BlockReportFunc *report, void *opaque);
/* Set or clear the dirty bit on disk, synced. */
int coroutine_fn qcow2_co_mark_dirty(Qcow2 *q);
int coroutine_fn qcow2_co_mark_clean(Qcow2 *q);
/* The header's place of the refcount table and no dirty bit, in one write; synced. */
int coroutine_fn qcow2_co_switch_rebuilt(Qcow2 *q);

/* ---- rebuild.c ---- Rebuild the refcounts of a dirty image (on a writable open). */
int coroutine_fn qcow2_co_rebuild_refcounts(Qcow2 *q, GError **errp);

/* ---- open.c, create.c, info.c, snapshot.c, bitmap.c ---- */
int coroutine_fn qcow2_co_open(BlockDriverState *bs, Options *options, int flags, GError **errp);
int coroutine_fn qcow2_co_close(BlockDriverState *bs);
int coroutine_fn qcow2_co_create(const char *filename, Options *opts, GError **errp);
bool qcow2_unwritten_reads_zero(BlockDriverState *bs);
int qcow2_get_info(BlockDriverState *bs, BlockDriverInfo *info);
GArray *qcow2_list_snapshots(BlockDriverState *bs);
Options *qcow2_get_specific_info(BlockDriverState *bs, GError **errp);
/* Adds "bitmaps.N.…" to @o. */
bool qcow2_list_bitmaps(Qcow2 *q, Options *o, GError **errp);
int coroutine_fn qcow2_co_load_snapshots(Qcow2 *q, GError **errp);
void qcow2_free_snapshots(Qcow2 *q);
/* Its L1 table is aligned, no larger than any may be, and inside of the file. */
bool qcow2_snapshot_l1_sound(const Qcow2 *q, const Snapshot *s, uint64_t file_length);
extern const BlockCreateOption qcow2_create_options[];
extern const BlockDriver bdrv_qcow2;

#endif
