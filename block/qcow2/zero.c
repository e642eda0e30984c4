/* SPDX-License-Identifier: MIT */
/*
 * Zero writes by flag: entries only, no data.
 *
 * Clusters that are let go of go to quarantine in the same hold of meta_lock as their entry's
 * change (INV-W-4). Clusters that stay keep their content, which no reader sees again: a later
 * write fills the whole (sub)cluster or sets it zero.
 */
#include "rules.h"
#include "write-int.h"

typedef struct ZeroOp {
    uint64_t start, end; /* as asked for, byte exact */
    bool unmap;          /* let go of host clusters */
    bool punch;
} ZeroOp;

/* What @old becomes with subclusters [first, first + n) zero. False: it cannot be said by flag. */
static bool zeroed_entry(Qcow2 *q, L2Entry old, unsigned first, unsigned n, const ZeroOp *op,
                         L2Entry *new_e)
{
    const Geometry *g = &q->geo;
    bool whole = n == g->subclusters, compressed = old.desc & L2E_COMPRESSED;

    if (compressed && !whole) {
        return false;
    }
    if (g->version < 3) {
        *new_e = (L2Entry){ 0, 0 }; /* only without a backing file: checked by the caller */
    } else if (compressed || (whole && op->unmap)) {
        *new_e = l2_set_zero(g, (L2Entry){ 0, 0 }, 0, g->subclusters);
    } else {
        *new_e = l2_set_zero(g, old, first, n);
    }
    return true;
}

static bool same_entry(L2Entry a, L2Entry b)
{
    return a.desc == b.desc && a.bitmap == b.bitmap;
}

/*
 * A partial subcluster at an edge of the request can be set zero if the rest of it reads zero
 * anyway. Decided under the meta_lock that the change is made under; nobody overwrites in place
 * what reads zero by its entry.
 */
static bool edges_read_zero(Qcow2 *q, L2Entry e, uint64_t start, uint64_t end, const ZeroOp *op)
{
    uint64_t size = atomic_load(&q->bs->total_bytes);

    if (start < op->start && !entry_reads_zero(q, e, start, op->start)) {
        return false;
    }
    return op->end >= end || op->end == size || entry_reads_zero(q, e, op->end, end);
}

/* The part [start, end) of one cluster, whole subclusters; under meta_lock. */
static int coroutine_fn zero_cluster(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t start,
                                     uint64_t end, const ZeroOp *op)
{
    const Geometry *g = &q->geo;
    L2Entry old = l2_load(g, s->data, index), e;
    unsigned first = geo_sc_index(g, start), n = geo_sc_index(g, end - 1) - first + 1;
    int ret = entry_co_check(q, old, geo_cluster_start(g, start));

    if (ret < 0) {
        return ret;
    }
    if (!edges_read_zero(q, old, start, end, op) || !zeroed_entry(q, old, first, n, op, &e)) {
        return -ENOTSUP;
    }
    if (start < op->start || op->end < end) {
        CASE_MET(ZERO_EDGE);
    }
    if (same_entry(old, e)) {
        return 0;
    }
    entry_replace(q, s, index, geo_cluster_start(g, start), e, op->punch);
    return 0;
}

/* As much of [start, end) as one L2 slice describes; bytes done or -errno. Under meta_lock. */
static int64_t coroutine_fn zero_slice(Qcow2 *q, uint64_t start, uint64_t end, const ZeroOp *op)
{
    const Geometry *g = &q->geo;
    uint64_t at = start, room;
    unsigned index;
    MetaSlice *s;
    int ret;

    ret = entries_co_get_idle(q, start, end, &s, &index, &room);
    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(q->file, BLKDBG_L2_UPDATE);
    while (at < room && ret == 0) {
        uint64_t to = MIN(geo_cluster_start(g, at) + g->cluster_size, room);

        ret = zero_cluster(q, s, index, at, to, op);
        if (ret == 0) {
            at = to;
            index++;
        }
    }
    meta_cache_put(q->l2_cache, s);
    return ret < 0 ? ret : (int64_t)(at - start);
}

static int coroutine_fn zero_entries(Qcow2 *q, uint64_t start, uint64_t end, const ZeroOp *op)
{
    bool reclaimed = false;
    int64_t n = 0;

    while (start < end && n >= 0) {
        n = qcow2_co_relieve(q);
        if (n < 0) {
            break;
        }
        co_mutex_lock(&q->meta_lock);
        n = zero_slice(q, start, end, op);
        co_mutex_unlock(&q->meta_lock);
        if (!reclaimed && qcow2_co_retry(q, n)) {
            reclaimed = true;
            n = 0;
        }
        start += MAX(n, 0);
    }
    return n < 0 ? n : 0;
}

int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        unsigned flags)
{
    Qcow2 *q = bs->opaque;
    uint64_t sub = q->geo.subcluster_size;
    uint64_t start = ALIGN_DOWN((uint64_t)offset, sub),
             end = ALIGN_UP((uint64_t)(offset + bytes), sub);
    ZeroOp op = { .start = offset,
                  .end = offset + bytes,
                  .unmap = flags & BLK_REQ_MAY_UNMAP,
                  .punch = q->discard_passthrough };
    int ret = qcow2_may_write(q);

    if (ret < 0 || bytes == 0) {
        return ret;
    }
    if (q->geo.version < 3 && bs->backing) {
        return -ENOTSUP;
    }
    ret = qcow2_co_begin_change(q, QCOW2_CHANGE_DISK | QCOW2_CHANGE_IMAGE);
    if (ret < 0) {
        return ret;
    }
    return qcow2_file_is_disk(q) ? raw_co_zero(q, offset, offset + bytes, flags)
                                 : zero_entries(q, start, end, &op);
}
