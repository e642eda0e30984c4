/* SPDX-License-Identifier: MIT */
/* Reserving host clusters (preallocation=metadata and more). */
#ifndef QCOW2_PREALLOC_H
#define QCOW2_PREALLOC_H

#include "qcow2.h"

/* For the guest's range, as its bits say. */
int coroutine_fn qcow2_prealloc_co_reserve(Qcow2 *q, uint64_t guest, uint64_t bytes,
                                           BlockPrealloc mode, GError **errp)
    EXCLUDES_LOCK(q->alloc.meta_lock);

#endif
