/* SPDX-License-Identifier: MIT */
/*
 * What leaves quarantine is punched, if that is wanted and nobody else counts on it, still with its
 * refcount; then the refcount drops.
 */
#ifndef QCOW2_REAP_H
#define QCOW2_REAP_H

#include "qcow2.h"

/* Free what may be freed, of what was let go of before the call. On an error the rest stays in
 * quarantine. */
int coroutine_fn qcow2_reap_co_ready(Qcow2 *q) EXCLUDES_LOCK(q->alloc.meta_lock);
/* The same with no more than @most of the runs that were let go of: for a request, which does not
 * do the work of all others. */
int coroutine_fn qcow2_reap_co_some(Qcow2 *q, uint64_t most) EXCLUDES_LOCK(q->alloc.meta_lock);

#endif
