/* SPDX-License-Identifier: MIT */
/* What is left to let go of when entries of a part of the disk have become 0: its L2 tables, and
 * the space. */
#ifndef QCOW2_FORGET_H
#define QCOW2_FORGET_H

#include "qcow2.h"

/* The L2 tables of L1 entries [first, end), which describe nothing. */
void coroutine_fn qcow2_forget_co_tables(Qcow2 *q, uint64_t first, uint64_t end)
    REQUIRES_LOCK(q->alloc.meta_lock);
/* A flush; clusters that were let go of are free then. Best effort: nothing refers to them. */
void coroutine_fn qcow2_forget_co_free(Qcow2 *q) EXCLUDES_LOCK(q->alloc.meta_lock);
/* Counts of nothing, and the end of the file, go. The same; nobody makes the file longer
 * meanwhile. */
void coroutine_fn qcow2_forget_co_cut(Qcow2 *q) EXCLUDES_LOCK(q->alloc.meta_lock);

#endif
