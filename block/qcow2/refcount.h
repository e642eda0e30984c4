/* SPDX-License-Identifier: MIT */
/*
 * Reference counts: load the table, read and change counts whose blocks exist.
 *
 * All changes are in memory; flush.c brings them to disk before the tables that rely on them
 * (INV-W-1). Decrements come only from the undo of an allocation and from reap.c, after the last
 * reference has left the disk (INV-W-4).
 *
 * INV-REF-1  The table in memory has reftable_entries entries, which fill whole clusters.
 * INV-REF-2  A change of a range happens whole or not at all: slices changed so far are dirty, so
 *            they stay in the cache until the flusher seals them, which needs meta_lock; the undo
 *            therefore cannot fail.
 */
#ifndef QCOW2_REFCOUNT_H
#define QCOW2_REFCOUNT_H

#include "allocator.h"

/* The table as the header says, instead of what was there. */
int coroutine_fn qcow2_refcount_co_load_table(Allocator *a, GError **errp)
    REQUIRES_LOCK(a->meta_lock);
/* Entries in one slice of the refcount cache. */
static inline uint64_t qcow2_refcount_slice_entries(const Allocator *a)
{
    return (uint64_t)qcow2_cache_slice_size(a->ref_cache) * 8 >> a->geo->refcount_order;
}
/* Where the refcount block of @cluster is; *ret 0: none. -EIO: corrupt. */
int coroutine_fn qcow2_refcount_co_block_offset(Allocator *a, uint64_t cluster, uint64_t *ret)
    REQUIRES_LOCK(a->meta_lock);
/* The slice with @cluster's entry, held; *slice NULL if it has no block. */
int coroutine_fn qcow2_refcount_co_slice(Allocator *a, uint64_t cluster, MetaSlice **slice,
                                         uint64_t *index) REQUIRES_LOCK(a->meta_lock);
int coroutine_fn qcow2_refcount_co_get(Allocator *a, uint64_t cluster, uint64_t *ret)
    REQUIRES_LOCK(a->meta_lock);
/* Add @delta to clusters [@first, @first + @n), which have their refcount blocks. All or nothing:
 * -EINVAL past the largest count, -EIO (and the image is corrupt) below zero. */
int coroutine_fn qcow2_refcount_co_change(Allocator *a, uint64_t first, uint64_t n, int delta)
    REQUIRES_LOCK(a->meta_lock);
/* The count of @cluster becomes @count, which is no more than it is: nothing on disk needs the rest
 * any more. */
int coroutine_fn qcow2_refcount_co_lower(Allocator *a, uint64_t cluster, uint64_t count)
    REQUIRES_LOCK(a->meta_lock);
/* The undo of a failed allocation: [@offset, +@bytes) was never on disk, nor in any table; the
 * counts drop now. */
void coroutine_fn qcow2_refcount_co_free_unused(Allocator *a, uint64_t offset, uint64_t bytes)
    REQUIRES_LOCK(a->meta_lock);

#endif
