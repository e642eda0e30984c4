/* SPDX-License-Identifier: MIT */
/* Changes of entries in flight: see inflight.h. */
#include "inflight.h"

#include "l2-table.h"
#include "rules.h"

/* They are a proper list of proper ranges. */
static void check_list(const Qcow2 *q) REQUIRES_LOCK(q->alloc.meta_lock)
{
    const InflightAlloc *first = q->inflight_allocs;

    g_assert(!first || (first->start < first->end && *first->pprev == first));
    g_assert(!first || !first->next || *first->next->pprev == first->next);
}

void qcow2_inflight_begin(Qcow2 *q, InflightAlloc *a, uint64_t start, uint64_t end)
{
    g_assert(start < end);
    a->start = start;
    a->end = end;
    co_queue_init(&a->waiters);
    a->next = q->inflight_allocs;
    a->pprev = &q->inflight_allocs;
    if (a->next) {
        a->next->pprev = &a->next;
    }
    q->inflight_allocs = a;
    check_list(q);
}

void qcow2_inflight_end(Qcow2 *q, InflightAlloc *a)
{
    g_assert(*a->pprev == a);
    *a->pprev = a->next;
    if (a->next) {
        a->next->pprev = a->pprev;
    }
    check_list(q);
    co_queue_all(&a->waiters);
}

uint64_t qcow2_inflight_next(Qcow2 *q, uint64_t at)
{
    uint64_t next = UINT64_MAX;

    for (const InflightAlloc *a = q->inflight_allocs; a; a = a->next) {
        if (a->start >= at) {
            next = MIN(next, a->start);
        }
    }
    return next;
}

/* One that touches [start, end), in whole pieces of @unit. */
static InflightAlloc *find(Qcow2 *q, uint64_t start, uint64_t end, uint64_t unit)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    InflightAlloc *a = q->inflight_allocs;

    start = ALIGN_DOWN(start, unit);
    end = ALIGN_UP(end, unit);
    while (a && (a->start >= end || a->end <= start)) {
        a = a->next;
    }
    return RULE_BROKEN(ALLOCS_WAIT) ? NULL : a;
}

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
        other = ret == 0 ? find(q, start, *room, unit) : NULL;
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
