/* SPDX-License-Identifier: MIT */
/*
 * Metadata cache of slices: L2 tables and refcount blocks.
 *
 * INV-CACHE-1  A slice's bytes change only under the image's meta_lock AND the cache's spin lock;
 *              so a reader may decode under the spin lock alone, and a holder of meta_lock may read
 *              without it.
 * INV-CACHE-2  A dirty slice is never evicted; the flusher (flush.h) writes it. When every slice is
 *              dirty or held, the cache exceeds its budget for the moment.
 * INV-CACHE-3  A loading slice is found by others, who wait for it.
 */
#ifndef QCOW2_CACHE_H
#define QCOW2_CACHE_H

#include "block/io.h"
#include "util/co-lock.h"

typedef struct MetaCache MetaCache;

typedef struct MetaSlice {
    uint64_t offset;   /* of the slice in the image file */
    uint8_t *data;     /* slice_size bytes, on-disk byte order */
    struct Slab *slab; /* that they are in */
    /* guarded by the cache's spin lock: */
    unsigned refs;
    unsigned writing; /* sealed copies on their way: not to be evicted, a reload would read stale
                         bytes */
    bool dirty, loading, dead;
    int load_error;
    struct MetaSlice *hash_next, *lru_prev, *lru_next, *dirty_next, *dirty_prev;
    bool referenced;
    unsigned last_use; /* MetaCache.cleanings then */
} MetaSlice;

/* @event: debug event of a load. Budget in bytes. NULL without memory. */
MetaCache *qcow2_cache_new(BdrvChild *file, size_t slice_size, uint64_t budget,
                           BlkdebugEvent event);
void qcow2_cache_free(MetaCache *c); /* slices must be clean or to be lost */
size_t qcow2_cache_slice_size(const MetaCache *c);

/* Slice that holds image offset @offset (any byte of it); loads it if need be.
 * Holds a reference; *@ret is NULL after a failure. */
int coroutine_fn qcow2_cache_co_get(MetaCache *c, uint64_t offset, MetaSlice **ret);
/* A new slice of zeroes, without a load; @offset aligned; replaces what was cached. Not dirty
 * yet. */
int qcow2_cache_get_new(MetaCache *c, uint64_t offset, MetaSlice **ret);
void qcow2_cache_put(MetaCache *c, MetaSlice *s);

/* Hit path: spin lock held from begin to end; NULL (and no lock held) on a miss. No reference. */
MetaSlice *qcow2_cache_peek_begin(MetaCache *c, uint64_t offset);
void qcow2_cache_peek_end(MetaCache *c);
/* The same lock for a slice that the caller holds; ends with qcow2_cache_peek_end(). */
void qcow2_cache_lock(MetaCache *c);

/* Bracket a change of s->data (caller holds meta_lock and a reference). end marks dirty. */
void qcow2_cache_modify_begin(MetaCache *c, MetaSlice *s);
void qcow2_cache_modify_end(MetaCache *c, MetaSlice *s);

/* Forget slices of a freed table [@offset, @offset + bytes): dirty content is dropped. */
void qcow2_cache_drop(MetaCache *c, uint64_t offset, uint64_t bytes);

size_t qcow2_cache_dirty_bytes(MetaCache *c);
uint64_t qcow2_cache_budget(MetaCache *c);

/* Flusher: copies of all dirty slices, which become clean. Caller holds meta_lock. -ENOMEM leaves
 * all as it was. */
typedef struct SealedSlice {
    uint64_t offset;
    uint8_t *data;
    MetaSlice *slice;
} SealedSlice;
typedef struct SealedSet {
    SealedSlice *slices; /* by offset; their data lies in one buffer in that order */
    size_t count;
    size_t slice_size;
} SealedSet;
int qcow2_cache_seal(MetaCache *c, SealedSet *set);
/* Write the set (sorted, contiguous ones merged). On error the slices are dirty again. */
int coroutine_fn qcow2_cache_co_write_sealed(MetaCache *c, SealedSet *set, BlkdebugEvent event);
/* The set is not going to be written: its slices are dirty again. */
void qcow2_cache_unseal(MetaCache *c, SealedSet *set);
void qcow2_cache_sealed_clear(SealedSet *set);

/* Drop clean slices that were not used since the call before (cache-clean-interval); the first call
 * drops none. */
void qcow2_cache_clean(MetaCache *c);

#endif
