/* SPDX-License-Identifier: MIT */
/*
 * Before every change: whatever would no longer be true says so on stable storage (bitmaps that
 * track changes, features that we do not keep up).
 */
#ifndef QCOW2_CHANGE_H
#define QCOW2_CHANGE_H

#include "qcow2.h"

#define QCOW2_CHANGE_DISK 1u  /* of what the guest reads */
#define QCOW2_CHANGE_IMAGE 2u /* of anything in the image */

/* The autoclear bits that stay true while we write. */
uint64_t qcow2_change_autoclear_kept(const Qcow2 *q);
int coroutine_fn qcow2_change_co_mark(Qcow2 *q, unsigned what);
/* @what: the kinds of change to come. One load when they are announced. */
static inline int coroutine_fn qcow2_change_co_begin(Qcow2 *q, unsigned what)
    EXCLUDES_LOCK(q->alloc.meta_lock)
{
    return likely(!(atomic_load_explicit(&q->unmarked, memory_order_acquire) & what))
               ? 0
               : qcow2_change_co_mark(q, what);
}

#endif
