/* SPDX-License-Identifier: MIT */
/*
 * The walk over entries that a zero write, a discard and a preallocation share: slice by slice,
 * each in one hold of meta_lock, with room made before and once more when the file is full.
 */
#ifndef QCOW2_WALK_H
#define QCOW2_WALK_H

#include "qcow2.h"

/* As much of guest [@start, @end) as it likes; bytes done (> 0) or -errno. With meta_lock. */
typedef int64_t coroutine_fn WalkPart(Qcow2 *q, uint64_t start, uint64_t end, void *opaque);

int coroutine_fn qcow2_walk_co_parts(Qcow2 *q, uint64_t start, uint64_t end, WalkPart *part,
                                     void *opaque) EXCLUDES_LOCK(q->alloc.meta_lock);

/* The part [@start, @end) of one cluster, whose entry is at @index of @s, idle. With
 * meta_lock. */
typedef int coroutine_fn WalkEntry(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t start,
                                   uint64_t end, void *opaque);

/* Entries from @index on of slice @s, for guest [@start, @end); *@at: how far it came. */
int coroutine_fn qcow2_walk_co_entries(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t start,
                                       uint64_t end, WalkEntry *entry, void *opaque, uint64_t *at)
    REQUIRES_LOCK(q->alloc.meta_lock);

#endif
