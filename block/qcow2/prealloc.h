/* SPDX-License-Identifier: MIT */
/* Reserving host clusters (preallocation=metadata and more). */
#ifndef QCOW2_PREALLOC_H
#define QCOW2_PREALLOC_H

#include "qcow2.h"

/* For the guest's range, as its bits say. Others may write and allocate meanwhile. */
int coroutine_fn qcow2_prealloc_co_reserve(Qcow2 *q, uint64_t guest, uint64_t bytes,
                                           BlockPrealloc mode, GError **errp)
    EXCLUDES_LOCK(q->alloc.meta_lock);
/* Whether that can be, as far as is known beforehand. Nobody else makes the file longer
 * meanwhile. */
int coroutine_fn qcow2_prealloc_co_may_reserve(Qcow2 *q, BlockPrealloc mode, GError **errp)
    EXCLUDES_LOCK(q->alloc.meta_lock);

#endif
