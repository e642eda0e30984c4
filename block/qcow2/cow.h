/* SPDX-License-Identifier: MIT */
/* Copy-on-write: what a write must fill in around the guest's bytes. */
#ifndef QCOW2_COW_H
#define QCOW2_COW_H

#include "write.h"

/* One vector of head, the guest's data (@v from @v_offset) and tail to the run's clusters. */
int coroutine_fn qcow2_cow_co_write(Qcow2 *q, const WriteRun *r, IOVector *v, size_t v_offset,
                                    unsigned flags) EXCLUDES_LOCK(q->alloc.meta_lock);
/* Where copy-on-write must begin and end around [start, end) in the cluster of @e, which is
 * changed in place or replaced. Pure. */
uint64_t qcow2_cow_begin(const Geometry *g, L2Entry e, bool in_place, uint64_t start);
uint64_t qcow2_cow_finish(const Geometry *g, L2Entry e, bool in_place, uint64_t end);

#endif
