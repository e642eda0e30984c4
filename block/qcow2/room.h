/* SPDX-License-Identifier: MIT */
/* Room: in the caches and in the file, by flushing and by emptying the quarantine. */
#ifndef QCOW2_ROOM_H
#define QCOW2_ROOM_H

#include "qcow2.h"

/* Before a write takes meta_lock: keeps what waits for a sync in quarantine to a share of the file,
 * and dirty slices under half of a cache that is smaller than its tables. */
int coroutine_fn qcow2_room_co_make(Qcow2 *q) EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);
/* The device, the file system, a quota or a limit of the process has no more. */
static inline bool qcow2_room_is_out(int64_t ret)
{
    return ret == -ENOSPC || ret == -EFBIG || ret == -EDQUOT;
}
/* After a request, with result @ret: true if it found no room, and there is some now (what was in
 * quarantine), or some that it did not look at: it is tried again, once. The caller has no pin. */
bool coroutine_fn qcow2_room_co_retry(Qcow2 *q, int64_t ret)
    EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);

#endif
