/* SPDX-License-Identifier: MIT */
/* Entries that nobody is about to change: see inflight.h. */
#include "inflight.h"

#include "l2-table.h"

int coroutine_fn qcow2_inflight_co_get_idle(Qcow2 *q, uint64_t start, uint64_t end,
                                            InflightLook *look, MetaSlice **s, unsigned *index,
                                            uint64_t *room)
{
    unsigned cb = q->geo.cluster_bits, entries = qcow2_l2_table_slice_entries(q);

    for (;;) {
        uint64_t unit = q->geo.cluster_size;
        int ret = qcow2_l2_table_co_get_writable(q, start, s, index);
        InflightAlloc *other;

        if (ret < 0) {
            return ret;
        }
        *room = MIN(((start >> cb) + entries - *index) << cb, end);
        ret = look ? look(q, start, *s, *index, &unit) : 0;
        other = ret == 0 ? qcow2_inflight_find(q, start, *room, unit) : NULL;
        if (ret == 0 && !other) {
            return 0;
        }
        if (other) {
            co_queue_wait(&other->waiters, &q->alloc.meta_lock); /* INV-WR-2 */
        }
        qcow2_cache_put(q->l2_cache,
                        *s); /* the lock was let go of: it may not be the one any more */
        if (ret) {
            return ret;
        }
    }
}
