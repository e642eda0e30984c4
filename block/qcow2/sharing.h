/* SPDX-License-Identifier: MIT */
/*
 * L2 tables that a snapshot is about to share, counted while guest requests run.
 *
 * A snapshot is of one instant, for which requests are held back. From then on each table that the
 * active L1 table named is pending, until it has been counted once more and its entries say COPIED
 * no longer (share.h). The maker of the snapshot counts one after another; a request that is to
 * change an entry under a table that is pending counts that one first, and then finds it shared,
 * as any other table of a snapshot. A request never fails for the snapshot: if a table cannot be
 * counted, there will be no snapshot, and none is pending any more.
 *
 * INV-SHR-1  No entry under a table that is pending changes, nor what such an entry's cluster
 *            holds: whoever is to do that looks, in the hold of meta_lock in which it takes the
 *            table's slice, or, to overwrite without a lock, before it looks the entry up.
 * INV-SHR-2  At the instant at which tables become pending no request is in flight: none has looked
 *            up what it may no longer change.
 */
#ifndef QCOW2_SHARING_H
#define QCOW2_SHARING_H

#include "qcow2.h"

/* Those of @l1 (the active table's entries, as offsets) are pending. Requests are held back. */
int qcow2_sharing_begin(Qcow2 *q, const uint64_t *l1, uint32_t n);
/* Nothing is pending any more; what was counted is known until the next begin. */
void coroutine_fn qcow2_sharing_co_end(Qcow2 *q) EXCLUDES_LOCK(q->alloc.meta_lock);
void qcow2_sharing_fini(Qcow2 *q);

bool qcow2_sharing_looks_pending(const Qcow2 *q, uint64_t l1_index);
/* Is the table of L1 entry @l1_index pending? One load when no snapshot is being made. */
static inline bool qcow2_sharing_is_pending(const Qcow2 *q, uint64_t l1_index)
{
    return unlikely(atomic_load_explicit(&q->sharing.on, memory_order_acquire)) &&
           qcow2_sharing_looks_pending(q, l1_index);
}
/* It is to change: counts it, if it is pending. */
void coroutine_fn qcow2_sharing_co_settle(Qcow2 *q, uint64_t l1_index)
    REQUIRES_LOCK(q->alloc.meta_lock);
/* The same for the maker: 0, or why there will be no snapshot. */
int coroutine_fn qcow2_sharing_co_count(Qcow2 *q, uint64_t l1_index)
    REQUIRES_LOCK(q->alloc.meta_lock);
/* After the end: 0, or why a table was not counted, and none is any more. */
int qcow2_sharing_failure(const Qcow2 *q);
/* Has the table been counted since the last begin? */
bool qcow2_sharing_has_counted(const Qcow2 *q, uint64_t l1_index);

#endif
