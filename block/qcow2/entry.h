/* SPDX-License-Identifier: MIT */
/* What may be done with an L2 entry, and its change. */
#ifndef QCOW2_ENTRY_H
#define QCOW2_ENTRY_H

#include "qcow2.h"

/* -EIO with the image marked corrupt, in the words of the reference's reads: cluster @guest's entry
 * @e is a defect one, or SC_INVALID. */
int coroutine_fn qcow2_entry_co_unreadable(Qcow2 *q, L2Entry e, uint64_t guest);
/* The same, in the words of its writes, if @e has invalid bits. What cannot be read (a zero flag in
 * version 2) may be let go of. */
int coroutine_fn qcow2_entry_co_check(Qcow2 *q, L2Entry e, uint64_t guest);
/* May the host cluster of @e be written in place? */
static inline bool qcow2_entry_in_place(const Geometry *g, L2Entry e)
{
    return !(e.desc & L2E_COMPRESSED) && qcow2_l2_copied(e) && qcow2_l2_has_host(g, e);
}
static inline bool qcow2_entry_is_same(L2Entry a, L2Entry b)
{
    return a.desc == b.desc && a.bitmap == b.bitmap;
}
/* A write that puts the cluster elsewhere lets go of what @e refers to. */
bool qcow2_entry_is_replaced(const Geometry *g, L2Entry e);
/* All of guest [start, end), within the cluster of @e, reads zero without looking at data. */
bool qcow2_entry_reads_zero(Qcow2 *q, L2Entry e, uint64_t start, uint64_t end);
/* The same; @below: what the backing file has there reads zero. */
bool qcow2_entry_reads_zero_over(Qcow2 *q, L2Entry e, uint64_t start, uint64_t end, bool below);

/* Cluster @guest's entry, the @index-th of slice @s, becomes @e; what that lets go of goes to
 * quarantine in the same hold of the lock (INV-W-4), unless it is defect. */
void qcow2_entry_replace(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t guest, L2Entry e,
                         bool punch) REQUIRES_LOCK(q->alloc.meta_lock);
/* No table refers any more to what @e refers to. */
void qcow2_entry_free_later(Qcow2 *q, L2Entry e, bool punch) REQUIRES_LOCK(q->alloc.meta_lock);

#endif
