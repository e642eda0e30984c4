/* SPDX-License-Identifier: MIT */
/*
 * The allocator's state: which host clusters are in use, as the refcounts in memory say.
 *
 * Its functions, from the bottom up: refcount.h (read and change counts), search.h (free
 * clusters), reftable.h and refblock.h (room for more counts), alloc.h (take clusters).
 *
 * INV-ALLOC-1  Every cluster below free_hint is in use (or its count is unknown: the hint only ever
 *              moves up over clusters that were seen in use or just taken).
 * INV-ALLOC-2  A cluster in quarantine still has its count, so no search finds it.
 * INV-ALLOC-3  compress_next, if not 0, is in a cluster with a count > 0 whose bytes from there on
 *              nobody else owns; a count that falls to 0, or a punch to come, resets it.
 */
#ifndef QCOW2_ALLOCATOR_H
#define QCOW2_ALLOCATOR_H

#include "cache.h"
#include "full-map.h"
#include "geometry.h"
#include "health.h"
#include "metadata-set.h"
#include "oracle-counts.h"
#include "quarantine.h"

typedef struct Allocator {
    /* Constant after open; the image's. */
    const Geometry *geo;
    BdrvChild *file;
    HeaderFile *header;
    Health *health;
    MetadataSet *metadata;
    Quarantine *quarantine;
    bool discard_other; /* punch what writes let go of, too; changes at a reopen */

    CoMutex meta_lock; /* this, L1, and every change of a slice of L2 tables or refcount blocks */

    /* In memory; the place in the file is what the image's header says (hdr). */
    Qcow2Header *hdr;
    uint64_t *reftable GUARDED_BY(meta_lock); /* host byte order */
    uint64_t reftable_entries GUARDED_BY(meta_lock);
    bool reftable_dirty GUARDED_BY(meta_lock);
    uint64_t reftable_dirty_first GUARDED_BY(meta_lock), reftable_dirty_last GUARDED_BY(meta_lock);
    /* Not 0: the table grew, and the flush moves it there / is writing it there (reftable.h). */
    uint64_t reftable_new_offset GUARDED_BY(meta_lock);
    uint64_t reftable_sealed_offset GUARDED_BY(meta_lock);
    MetaCache *ref_cache; /* another one after a reopen */

    bool freed GUARDED_BY(meta_lock); /* some count fell to 0 since the file was cut (tail.h) */
    uint64_t free_hint GUARDED_BY(meta_lock); /* cluster from which on free ones are looked for */
    FullMap full GUARDED_BY(meta_lock);       /* by slices of counts */
    uint64_t compress_next GUARDED_BY(meta_lock); /* next byte for compressed data, 0: none */
#ifdef CONFIG_ORACLES
    CountOracle *oracle;
#endif
    atomic_bool grows;       /* the last allocation was past the end of the file */
    atomic_bool was_full;    /* the file could not grow once: free clusters in it come first */
    atomic_bool wished_past; /* one went past the end of the file, with free clusters in it */
} Allocator;

/* Host clusters. */
typedef struct ClusterRange {
    uint64_t first, n;
} ClusterRange;

static inline bool cluster_range_has(ClusterRange r, uint64_t c)
{
    return c - r.first < r.n;
}

#endif
