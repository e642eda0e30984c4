/* SPDX-License-Identifier: MIT */
/*
 * Refcount blocks at the end of their table that count nothing but themselves.
 *
 * INV-RS-1  The table on disk has left a block, and that is synced, before its cluster is free;
 *           until then no allocation runs (meta_lock). If that write fails, the next flush writes
 *           the entries again, as memory has them, before any table relies on those blocks.
 */
#ifndef QCOW2_REFTABLE_SHRINK_H
#define QCOW2_REFTABLE_SHRINK_H

#include "qcow2.h"

/* Gives them back. Flushes; afterwards counts may be dirty. *@gone: how many. */
int coroutine_fn qcow2_reftable_shrink_co_run(Qcow2 *q, uint64_t *gone)
    EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);

#endif
