/* SPDX-License-Identifier: MIT */
/*
 * L2 tables that several L1 tables name: the counts of what such a table refers to, and the COPIED
 * flags, as L1 tables begin and end to name it.
 *
 * INV-SH-1  COPIED in an entry that the active L1 table reaches says that nothing else refers to
 *           the cluster. It is cleared before a second one refers to it, on disk too, and set again
 *           only when the count says 1.
 * INV-SH-2  A count is never less than the references: it rises before the reference is on disk and
 *           falls after the reference has left it.
 * INV-SH-3  COPIED does not come back to an entry that a request is about to replace (inflight.h):
 *           others would overwrite in place what that request has read to be copied.
 */
#ifndef QCOW2_SHARE_H
#define QCOW2_SHARE_H

#include "qcow2.h"

/* One more L1 table names the L2 table at @table: it and all that it refers to are counted once
 * more, and no entry of it says COPIED any more. -EINVAL: a count would be too large; then the
 * counts are as before (and qcow2_share_co_mend() restores the flags). */
int coroutine_fn qcow2_share_co_add(Qcow2 *q, uint64_t l1_index, uint64_t table)
    REQUIRES_LOCK(q->alloc.meta_lock);
/* One less does, on stable storage: counts fall, and what nobody counts on any more goes to
 * quarantine. */
int coroutine_fn qcow2_share_co_remove(Qcow2 *q, uint64_t l1_index, uint64_t table)
    REQUIRES_LOCK(q->alloc.meta_lock);
/* How many refer to @cluster: 0, or -errno. With meta_lock. */
typedef int coroutine_fn ShareCount(Qcow2 *q, uint64_t cluster, uint64_t *count, void *opaque);
/* COPIED is set for what L1 entry @l1_index of the active table reaches and @co_count counts once,
 * and cleared for what else it reaches. 1: some flag changed; 0: none did; or -errno; -EAGAIN:
 * meta_lock was let go of to wait for a request (INV-SH-3), and not all is done. */
int coroutine_fn qcow2_share_co_mend_by(Qcow2 *q, uint64_t l1_index, ShareCount *co_count,
                                        void *opaque) REQUIRES_LOCK(q->alloc.meta_lock);
/* The same by the refcounts, and to its end. */
int coroutine_fn qcow2_share_co_mend(Qcow2 *q, uint64_t l1_index) REQUIRES_LOCK(q->alloc.meta_lock);

#endif
