/* SPDX-License-Identifier: MIT */
/* Changes of entries in flight: see inflight.h. */
#include "inflight.h"

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

InflightAlloc *qcow2_inflight_find(Qcow2 *q, uint64_t start, uint64_t end, uint64_t unit)
{
    InflightAlloc *a = q->inflight_allocs;

    start = ALIGN_DOWN(start, unit);
    end = ALIGN_UP(end, unit);
    while (a && (a->start >= end || a->end <= start)) {
        a = a->next;
    }
    return RULE_BROKEN(ALLOCS_WAIT) ? NULL : a;
}

bool coroutine_fn qcow2_inflight_co_wait(Qcow2 *q, uint64_t guest)
{
    InflightAlloc *a = qcow2_inflight_find(q, guest, guest + 1, q->geo.cluster_size);

    if (!a || RULE_BROKEN(FLAGS_BACK_AT_REST)) {
        return false;
    }
    CASE_MET(FLAG_WAITED);
    co_queue_wait(&a->waiters, &q->alloc.meta_lock);
    return true;
}
