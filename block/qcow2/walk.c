/* SPDX-License-Identifier: MIT */
/* The walk over entries: see walk.h. */
#include "walk.h"

#include "room.h"

int coroutine_fn qcow2_walk_co_parts(Qcow2 *q, uint64_t start, uint64_t end, WalkPart *part,
                                     void *opaque)
{
    bool retried = false;
    int64_t n = 0;

    while (start < end && n >= 0) {
        n = qcow2_room_co_make(q);
        if (n < 0) {
            break;
        }
        co_mutex_lock(&q->alloc.meta_lock);
        n = part(q, start, end, opaque);
        co_mutex_unlock(&q->alloc.meta_lock);
        g_assert(n < 0 || (n > 0 && start + (uint64_t)n <= end));
        if (!retried && qcow2_room_co_retry(q, n)) {
            retried = true;
            n = 0;
        }
        start += (uint64_t)MAX(n, 0);
    }
    return n < 0 ? (int)n : 0;
}

int coroutine_fn qcow2_walk_co_entries(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t start,
                                       uint64_t end, WalkEntry *entry, void *opaque, uint64_t *at)
{
    int ret = 0;

    bdrv_co_debug_event(q->file, BLKDBG_L2_UPDATE);
    for (*at = start; *at < end && ret == 0; index++) {
        uint64_t to = MIN(geo_cluster_start(&q->geo, *at) + q->geo.cluster_size, end);

        ret = entry(q, s, index, *at, to, opaque);
        *at = ret == 0 ? to : *at;
    }
    return ret;
}
