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
#define QCOW2_CHANGE_START 4u /* the first one since the image became writable (a reopen) */

/* A writer opens the image: what there is to announce is known, counts that a crash left wrong are
 * made anew. Opening alone changes nothing of a clean image. */
int coroutine_fn qcow2_change_co_start(Qcow2 *q, GError **errp);
/* The same at the first change; the caller is alone on the image. */
void qcow2_change_start_later(Qcow2 *q);
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
