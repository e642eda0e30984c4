/* SPDX-License-Identifier: MIT */
/* Freeing what may leave quarantine: see reap.h. */
#include "reap.h"

#include "refcount.h"
#include "rules.h"

/* May cluster @c be punched: one count is left, ours, and none will be added. */
static bool coroutine_fn may_punch(Allocator *a, uint64_t c) REQUIRES_LOCK(a->meta_lock)
{
    uint64_t count;

    if (qcow2_refcount_co_get(a, c, &count) < 0 || (count != 1 && !RULE_BROKEN(PUNCH_UNSHARED))) {
        return false;
    }
    if (a->compress_next && a->compress_next >> a->geo->cluster_bits == c) {
        a->compress_next = 0; /* INV-ALLOC-3: nobody packs data after what is about to go */
    }
    return true;
}

/* Punch the clusters of [first, last] that nobody else uses; their refcount is still 1. */
static void coroutine_fn punch_range(Allocator *a, uint64_t first, uint64_t last)
    EXCLUDES_LOCK(a->meta_lock)
{
    unsigned cb = a->geo->cluster_bits;

    for (uint64_t c = first; c <= last;) {
        uint64_t run = 0;

        co_mutex_lock(&a->meta_lock);
        while (c + run <= last && may_punch(a, c + run)) {
            run++;
        }
        co_mutex_unlock(&a->meta_lock);
        if (run) {
            /* Best effort: the space stays allocated on the host if this fails. */
            (void)bdrv_co_pdiscard(a->file, c << cb, run << cb);
        }
        c += run + 1;
    }
}

static int coroutine_fn release(Qcow2 *q, const Quarantined *e) EXCLUDES_LOCK(q->alloc.meta_lock)
{
    Allocator *a = &q->alloc;
    uint64_t first = e->offset >> q->geo.cluster_bits;
    uint64_t last = (e->offset + e->bytes - 1) >> q->geo.cluster_bits;
    int ret;

    g_assert(e->bytes > 0);
    if (e->compressed) {
        /* What was unpacked from there is no longer valid. Not before: a request that found the
         * entry before it was let go of may have kept it until now. */
        atomic_fetch_add(&q->compressed_gen, 1);
    }
    if (e->punch && !RULE_BROKEN(PUNCH_COUNTED)) {
        punch_range(a, first, last);
    }
    co_mutex_lock(&a->meta_lock);
    bdrv_co_debug_event(q->file, BLKDBG_CLUSTER_FREE);
    ret = qcow2_refcount_co_change(a, first, last - first + 1, -1);
    co_mutex_unlock(&a->meta_lock);
    if (e->punch && RULE_BROKEN(PUNCH_COUNTED) &&
        IS_ALIGNED(e->offset | e->bytes, q->geo.cluster_size)) {
        (void)bdrv_co_pdiscard(q->file, e->offset, e->bytes);
    }
    return ret;
}

int coroutine_fn qcow2_reap_co_some(Qcow2 *q, uint64_t most)
{
    for (uint64_t n = 0; n < most && qcow2_quarantine_bytes(q->quarantine); n++) {
        g_autofree Quarantined *e = qcow2_quarantine_take(q->quarantine);
        int ret;

        if (!e) {
            break;
        }
        if (qcow2_health_may_write(&q->health) < 0) {
            continue; /* a leak; nothing is written to a broken image any more */
        }
        ret = release(q, e);
        if (ret < 0) {
            /* Nothing of it was released. */
            qcow2_quarantine_put_back(q->quarantine, g_steal_pointer(&e));
            return ret;
        }
    }
    return 0;
}

int coroutine_fn qcow2_reap_co_ready(Qcow2 *q)
{
    return qcow2_reap_co_some(q, UINT64_MAX);
}
