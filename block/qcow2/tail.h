/* SPDX-License-Identifier: MIT */
/*
 * The tail of the file: free clusters past the last one in use.
 *
 * INV-TAIL-1  What is cut has no count in memory, so no table on disk names it (INV-W-4) and no
 *             request works on it (INV-ALLOC-2); meta_lock keeps allocations away meanwhile. Counts
 *             on disk that are still too high are leaks past the end, no more.
 * INV-TAIL-2  At close the file is cut when the tables and the header that have left its tail are
 *             synced, and the counts, too (CUT_AFTER_LEFT): whatever part of that a power loss
 *             leaves undone, nothing on disk refers to what is past the end.
 */
#ifndef QCOW2_TAIL_H
#define QCOW2_TAIL_H

#include "qcow2.h"

/* End of the last cluster with a count, in bytes, of the first @file_bytes; 0: there is none. */
int coroutine_fn qcow2_tail_co_find(Qcow2 *q, uint64_t file_bytes, uint64_t *end)
    REQUIRES_LOCK(q->alloc.meta_lock);
/* Cut the file after its last cluster in use, if more than @keep bytes are past it. What waits in
 * quarantine is in use: a flush and qcow2_reap_co_ready() before, and the counts should be on disk
 * (a flush after them), or they come back as leaks where the file grows again.
 * 0, also when there is nothing to cut. */
int coroutine_fn qcow2_tail_co_cut(Qcow2 *q, uint64_t keep) EXCLUDES_LOCK(q->alloc.meta_lock);
/* At the end of writing, after qcow2_flush_co_all(): the same, if clusters were freed since the
 * file was cut. An image that nothing was freed of keeps what its file has past the end, as does
 * one whose discards are not to reach its file. Not where others use the file; one that cannot be
 * cut stays as it is. */
int coroutine_fn qcow2_tail_co_finish(Qcow2 *q) EXCLUDES_LOCK(q->alloc.meta_lock);
/* Broken rule CUT_AFTER_LEFT: what was let go of is cut while tables on disk still name it. */
void coroutine_fn qcow2_tail_co_cut_early(Qcow2 *q) EXCLUDES_LOCK(q->alloc.meta_lock);

#endif
