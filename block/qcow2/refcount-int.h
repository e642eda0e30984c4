/* SPDX-License-Identifier: MIT */
/* What refcount.c, refblock.c and alloc.c share. meta_lock is held in all. */
#ifndef QCOW2_REFCOUNT_INT_H
#define QCOW2_REFCOUNT_INT_H

#include "qcow2.h"
#include "refcount-codec.h"

/* Clusters that a search or a new refcount block must not take. */
typedef struct ClusterRange {
    uint64_t first, n;
} ClusterRange;

static inline bool cluster_range_has(ClusterRange r, uint64_t c)
{
    return c - r.first < r.n;
}

/* Entries in one slice of the refcount cache. */
static inline uint64_t refcount_slice_entries(const Qcow2 *q)
{
    return (uint64_t)meta_cache_slice_size(q->ref_cache) * 8 >> q->geo.refcount_order;
}

/* Where the refcount block of @cluster is; *ret 0: none. -EIO: corrupt. */
int coroutine_fn refblock_co_offset(Qcow2 *q, uint64_t cluster, uint64_t *ret);
/* The slice with @cluster's entry; *slice NULL if it has no block. Holds a reference. */
int coroutine_fn refcount_co_slice(Qcow2 *q, uint64_t cluster, MetaSlice **slice, uint64_t *index);
/* Make the refcount blocks for @r; nothing that this takes lies in @avoid. */
int coroutine_fn refblock_co_ensure(Qcow2 *q, ClusterRange r, ClusterRange avoid);
/* First run of free clusters from @start on, that avoids @avoid: exactly @n if @exact, else 1..n.
 * *seen (may be NULL): the first free cluster met. Nothing is taken. */
int coroutine_fn alloc_co_find(Qcow2 *q, uint64_t start, uint64_t n, bool exact, ClusterRange avoid,
                               uint64_t *first, uint64_t *got, uint64_t *seen);
/* Remember a new value 0 of @cluster. */
void alloc_cluster_freed(Qcow2 *q, uint64_t cluster);

#endif
