/* SPDX-License-Identifier: MIT */
/*
 * Zero writes by flag: entries only, no data.
 *
 * Clusters that are let go of go to quarantine in the same hold of meta_lock as their entry's
 * change (INV-W-4). Clusters that stay keep their content, which no reader sees again: a later
 * write fills the whole (sub)cluster or sets it zero.
 */
#include "callbacks.h"
#include "change.h"
#include "discard.h"
#include "entry.h"
#include "inflight.h"
#include "raw-file.h"
#include "rules.h"
#include "track.h"
#include "walk.h"

typedef struct ZeroOp {
    uint64_t start, end;         /* as asked for, byte exact */
    bool head_below, tail_below; /* the backing file reads zero beside them, in their subclusters */
    bool unmap;                  /* let go of host clusters */
    bool keep;                   /* ... but where they stay reserved (discard-no-unref) */
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
    } else if (compressed || (whole && op->unmap && !(op->keep && qcow2_entry_in_place(g, old)))) {
        *new_e = qcow2_l2_set_zero(g, (L2Entry){ 0, 0 }, 0, g->subclusters);
    } else {
        *new_e = qcow2_l2_set_zero(g, old, first, n);
    }
    return true;
}

/*
 * A partial subcluster at an edge of the request can be set zero if the rest of it reads zero
 * anyway. Decided under the meta_lock that the change is made under; nobody overwrites in place
 * what reads zero by its entry.
 */
static bool edges_read_zero(Qcow2 *q, L2Entry e, uint64_t start, uint64_t end, const ZeroOp *op)
{
    uint64_t size = atomic_load(&q->bs->total_bytes);

    if (start < op->start && !qcow2_entry_reads_zero_over(q, e, start, op->start, op->head_below)) {
        return false;
    }
    return op->end >= end || op->end == size ||
           qcow2_entry_reads_zero_over(q, e, op->end, end, op->tail_below);
}

/* Whole subclusters of one cluster. */
static int coroutine_fn zero_cluster(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t start,
                                     uint64_t end, void *opaque) REQUIRES_LOCK(q->alloc.meta_lock)
{
    const ZeroOp *op = opaque;
    const Geometry *g = &q->geo;
    L2Entry old = qcow2_l2_load(g, s->data, index), e;
    unsigned first = geo_sc_index(g, start), n = geo_sc_index(g, end - 1) - first + 1;
    int ret = qcow2_entry_co_check(q, old, geo_cluster_start(g, start));

    g_assert(IS_ALIGNED(start | end, g->subcluster_size));
    if (ret < 0) {
        return ret;
    }
    if (!edges_read_zero(q, old, start, end, op) || !zeroed_entry(q, old, first, n, op, &e)) {
        return -ENOTSUP;
    }
    if (start < op->start || op->end < end) {
        CASE_MET(ZERO_EDGE);
    }
    if (qcow2_entry_is_same(old, e)) {
        return 0;
    }
    qcow2_entry_replace(q, s, index, geo_cluster_start(g, start), e, op->punch);
    return 0;
}

/*
 * What the backing file shows in [start, end) reads zero, by its status. Asked without a lock, and
 * true until the request has ended: while this image defers to it there, nobody writes to it but
 * what reads there already.
 */
static bool coroutine_fn co_reads_zero_below(Qcow2 *q, uint64_t start, uint64_t end)
{
    BlockDriverState *backing = bdrv_backing_bs(q->bs), *file;
    int64_t n = 0, map;

    if (!backing || start >= end) {
        return false; /* nobody asks */
    }
    end = MIN(end, (uint64_t)atomic_load(&backing->total_bytes));
    for (; start < end; start += (uint64_t)n) {
        int ret = bdrv_co_block_status_above(backing, NULL, (int64_t)start, (int64_t)(end - start),
                                             &n, &map, &file, NULL);

        if (ret < 0 || !(ret & BLK_ZERO) || n <= 0) {
            return false;
        }
    }
    return true;
}

/* As much of [start, end) as one L2 slice describes. */
static int64_t coroutine_fn zero_slice(Qcow2 *q, uint64_t start, uint64_t end, void *opaque)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    const ZeroOp *op = opaque;
    uint64_t room, at = start;
    unsigned index;
    MetaSlice *s;
    int ret = qcow2_inflight_co_get_idle(q, start, end, NULL, &s, &index, &room);

    if (ret < 0) {
        return ret;
    }
    ret = qcow2_walk_co_entries(q, s, index, start, room, zero_cluster, opaque, &at);
    qcow2_cache_put(q->l2_cache, s);
    if (op->keep && op->unmap && op->punch && at > start && !q->geo.external_data) {
        CASE_MET(ZERO_KEPT);
        qcow2_discard_co_punch_kept(q, start, at);
    }
    return ret < 0 ? ret : (int64_t)(at - start);
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
                  .keep = q->discard_no_unref,
                  .punch = q->discard_passthrough };
    int ret = qcow2_health_may_write(&q->health);

    g_assert(offset >= 0 && bytes >= 0);
    if (ret < 0 || bytes == 0) {
        return ret;
    }
    if (q->geo.version < 3 && bs->backing) {
        return -ENOTSUP;
    }
    ret = qcow2_change_co_begin(q, QCOW2_CHANGE_DISK | QCOW2_CHANGE_IMAGE);
    ret = ret < 0 ? ret : qcow2_track_co_begin(q, (uint64_t)offset, (uint64_t)bytes);
    if (ret < 0) {
        return ret;
    }
    if (qcow2_raw_file_is_disk(q)) {
        return qcow2_raw_file_co_zero(q, offset, offset + bytes, flags);
    }
    op.head_below = co_reads_zero_below(q, start, op.start);
    op.tail_below =
        co_reads_zero_below(q, op.end, MIN(end, (uint64_t)atomic_load(&bs->total_bytes)));
    if (op.head_below || op.tail_below) {
        CASE_MET(ZERO_EDGE_BELOW);
    }
    return qcow2_walk_co_parts(q, start, end, zero_slice, &op);
}
