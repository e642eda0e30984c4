/* SPDX-License-Identifier: MIT */
/* The dirty bit: refcounts on disk may be too low or too high, and are rebuilt before a writer
 * starts. */
#ifndef QCOW2_DIRTY_H
#define QCOW2_DIRTY_H

#include "qcow2.h"

/* On disk, synced; what the bit speaks of is synced before. */
int coroutine_fn qcow2_dirty_co_set(Qcow2 *q) EXCLUDES_LOCK(q->header.lock);
int coroutine_fn qcow2_dirty_co_clear(Qcow2 *q) EXCLUDES_LOCK(q->header.lock);
/* The header's place of the refcount table and no dirty bit, in one write. */
int coroutine_fn qcow2_dirty_co_switch_rebuilt(Qcow2 *q) EXCLUDES_LOCK(q->header.lock);
/* The same of an image that is marked as corrupt, or of version 2, and stays it. */
int coroutine_fn qcow2_dirty_co_switch_repaired(Qcow2 *q) EXCLUDES_LOCK(q->header.lock);

#endif
