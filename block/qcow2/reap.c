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

/* So many are freed in one hold of meta_lock, which others wait for in turn. */
#define BATCH 32

static uint64_t first_cluster(const Qcow2 *q, const Quarantined *e)
{
    return e->offset >> q->geo.cluster_bits;
}

static uint64_t last_cluster(const Qcow2 *q, const Quarantined *e)
{
    return (e->offset + e->bytes - 1) >> q->geo.cluster_bits;
}

/* What comes before its count falls. */
static void coroutine_fn co_prepare(Qcow2 *q, const Quarantined *e)
    EXCLUDES_LOCK(q->alloc.meta_lock)
{
    g_assert(e->bytes > 0);
    if (e->punch && !RULE_BROKEN(PUNCH_COUNTED)) {
        punch_range(&q->alloc, first_cluster(q, e), last_cluster(q, e));
    }
}

static int coroutine_fn co_uncount(Qcow2 *q, const Quarantined *e) REQUIRES_LOCK(q->alloc.meta_lock)
{
    uint64_t first = first_cluster(q, e);

    if (e->compressed) {
        /* What was unpacked from there is no longer valid. Not before: a request that found the
         * entry before it was let go of may have kept it until now. */
        atomic_fetch_add(&q->compressed_gen, 1);
    }
    bdrv_co_debug_event(q->file, BLKDBG_CLUSTER_FREE);
    return qcow2_refcount_co_change(&q->alloc, first, last_cluster(q, e) - first + 1, -1);
}

/* The first of @n, as many as can be; *@done. One that is to be punched waits until the counts of
 * those before it have fallen: the last to have a cluster finds it its own. */
static int coroutine_fn co_release(Qcow2 *q, Quarantined *const *batch, unsigned n, unsigned *done)
    EXCLUDES_LOCK(q->alloc.meta_lock)
{
    int ret = 0;

    for (*done = 0; *done < n && ret == 0;) {
        co_prepare(q, batch[*done]);
        co_mutex_lock(&q->alloc.meta_lock);
        do {
            ret = co_uncount(q, batch[*done]);
            *done += ret == 0;
        } while (ret == 0 && *done < n && !batch[*done]->punch);
        co_mutex_unlock(&q->alloc.meta_lock);
    }
    for (unsigned i = 0; i < *done && RULE_BROKEN(PUNCH_COUNTED); i++) {
        const Quarantined *e = batch[i];

        if (e->punch && IS_ALIGNED(e->offset | e->bytes, q->geo.cluster_size)) {
            (void)bdrv_co_pdiscard(q->file, e->offset, e->bytes);
        }
    }
    return ret;
}

static unsigned take_batch(Qcow2 *q, uint64_t gen, uint64_t most, Quarantined *batch[BATCH])
{
    unsigned n = 0;

    while (n < MIN(most, BATCH) && (batch[n] = qcow2_quarantine_take(q->quarantine, gen))) {
        n++;
    }
    return n;
}

int coroutine_fn qcow2_reap_co_some(Qcow2 *q, uint64_t most)
{
    /* Not what others let go of, and flush, meanwhile: that may be as much, again and again. */
    uint64_t gen = qcow2_quarantine_gen(q->quarantine);
    Quarantined *batch[BATCH];
    unsigned n, done;
    int ret = 0;

    while (most > 0 && ret == 0 && (n = take_batch(q, gen, most, batch)) > 0) {
        done = n;
        if (qcow2_health_may_write(&q->health) == 0) {
            ret = co_release(q, batch, n, &done);
        } /* else a leak; nothing is written to a broken image any more */
        for (unsigned i = n; i-- > done;) { /* nothing of them was released */
            qcow2_quarantine_put_back(q->quarantine, batch[i]);
        }
        for (unsigned i = 0; i < done; i++) {
            g_free(batch[i]);
        }
        most -= n;
    }
    return ret;
}

int coroutine_fn qcow2_reap_co_ready(Qcow2 *q)
{
    return qcow2_reap_co_some(q, UINT64_MAX);
}
