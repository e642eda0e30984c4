/* SPDX-License-Identifier: MIT */
/*
 * Compacting: the course of it.  See compact.h.
 *
 * Passes follow one another until the file has no free cluster before its last one in use, or a
 * pass makes it no shorter. What is done stays done whenever it stops: another run goes on from
 * there.
 */
#include "compact.h"

#include "callbacks.h"
#include "change.h"
#include "dirty.h"
#include "flush.h"
#include "refblock.h"
#include "tail.h"
#include "track.h"

#define MAX_PASSES 16

/* All is on disk, and nothing is in quarantine; from here on flushes write counts. */
static int coroutine_fn co_settle(Compact *c)
{
    int ret = qcow2_flush_co_all(c->q);

    atomic_store(&c->q->write_counts, true);
    return ret == 0 && qcow2_quarantine_bytes(c->q->quarantine) ? -EBUSY : ret;
}

/* All clusters that may be taken have blocks to be counted in. *@clusters: of the file. */
static int coroutine_fn co_prepare_counts(Compact *c, uint64_t *clusters)
{
    const Geometry *g = &c->q->geo;
    int64_t length = bdrv_co_getlength(c->q->file->bs);
    ClusterRange all = { .n = geo_clusters(g, (uint64_t)MAX(length, 1)) + c->slack };
    int ret;

    co_mutex_lock(&c->q->alloc.meta_lock);
    c->q->alloc.compress_next = 0;
    ret =
        length < 0 ? (int)length : qcow2_refblock_co_ensure(&c->q->alloc, all, (ClusterRange){ 0 });
    co_mutex_unlock(&c->q->alloc.meta_lock);
    ret = ret < 0 ? ret : co_settle(c);
    length = ret < 0 ? ret : bdrv_co_getlength(c->q->file->bs);
    if (length < 0) {
        return (int)length;
    }
    *clusters = geo_clusters(g, (uint64_t)length);
    if (!c->batch) { /* (of a small image so little that it can stop soon) */
        c->batch = MIN(COMPACT_MAX_BATCH, MAX((uint64_t)length / 8, 4 * g->cluster_size));
    }
    if (geo_in_cluster(g, (uint64_t)length)) { /* whole clusters can be copied */
        return bdrv_co_truncate(c->q->file, (int64_t)(*clusters << g->cluster_bits), false,
                                BLK_PREALLOC_OFF, 0, NULL);
    }
    return 0;
}

/* Clusters that were being moved when a run before was cut off (INV-LEAK-1). 1: there is no
 * room. */
static int coroutine_fn co_move_lonely(Compact *c, const uint8_t *lonely)
{
    uint64_t hi, below = c->map.end + c->slack;
    int ret = 0;

    if (qcow2_compact_map_find(&c->map, 1, 1, below) == 0) {
        return 1;
    }
    for (uint64_t lo = 0; lo < c->map.end && ret == 0; lo = hi) {
        hi = c->map.end;
        ret = qcow2_compact_index_co_make(c, lo, &hi, lonely);
        ret = ret < 0 ? ret
                      : qcow2_compact_move_co_out(c, lo, hi, lonely, below, (ClusterRange){ 0 });
    }
    return ret;
}

/* What lies past cluster @end goes below it. */
static int coroutine_fn co_move_tail(Compact *c, uint64_t end)
{
    uint64_t last = c->map.end, hi;
    int ret = qcow2_compact_tables_co_move(c, end);

    for (uint64_t lo = end; lo < last && ret == 0; lo = hi) {
        hi = last;
        ret = qcow2_compact_index_co_make(c, lo - 1, &hi, NULL); /* data may lie in lo - 1, too */
        ret = ret < 0 ? ret : qcow2_compact_move_co_out(c, lo, hi, NULL, end, (ClusterRange){ 0 });
        ret = ret < 0 ? ret : qcow2_compact_packed_co_move(c, lo, end);
    }
    return ret;
}

/* What comes before the tail. 1: it needs room past the end. */
static int coroutine_fn co_before_tail(Compact *c)
{
    g_autofree uint8_t *lonely = NULL;
    int ret = qcow2_compact_leaks_co_return(c, &lonely);

    ret = ret == 0 && lonely ? co_move_lonely(c, lonely) : ret;
    ret = ret == 0 && c->ordering ? qcow2_compact_order_co_make(c) : ret;
    qcow2_compact_map_sum_up(&c->map);
    return ret;
}

/* > 0: another pass may have something to do. */
static int coroutine_fn co_work(Compact *c)
{
    uint64_t end;
    int ret = co_before_tail(c);

    if (ret != 0) {
        c->slack = ret > 0 ? geo_clusters(&c->q->geo, c->batch) : 0;
        return ret;
    }
    c->slack = 0;
    end = c->map.used;
    c->todo = c->done;
    for (uint64_t i = end; i < c->map.end; i++) {
        c->todo += c->map.refs[i] != 0;
    }
    ret = c->map.end == end ? 0 : co_move_tail(c, end);
    ret = ret < 0 ? ret : qcow2_compact_leaks_co_drop_blocks(c, end);
    return ret == 0 ? c->moved > 0 : ret;
}

/* The same; the file ends after its last cluster in use. */
static int coroutine_fn co_pass(Compact *c)
{
    uint64_t clusters = 0;
    int ret = co_prepare_counts(c, &clusters), end;

    c->moved = c->packed = 0;
    ret = ret < 0 ? ret : qcow2_compact_map_init(&c->map, clusters + c->slack);
    ret = ret < 0 ? ret : qcow2_compact_scan_co_all(c);
    ret = ret < 0 ? ret : co_work(c);
    qcow2_compact_index_clear(&c->index);
    qcow2_compact_map_clear(&c->map);
    if (ret >= 0) {
        end = co_settle(c);
        end = end < 0 ? end : qcow2_tail_co_cut(c->q, 0);
        ret = end < 0 ? end : ret;
    }
    return ret;
}

/* Passes, until one finds nothing to do, or makes the file no shorter. */
static int coroutine_fn co_squeeze(Compact *c)
{
    int64_t shortest = INT64_MAX, length;
    int ret = 1;

    for (int pass = 0; pass < MAX_PASSES && ret > 0; pass++) {
        ret = co_pass(c);
        length = ret < 0 ? ret : bdrv_co_getlength(c->q->file->bs);
        if (length < 0) {
            return (int)length;
        }
        ret = c->slack || (ret > 0 && length < shortest);
        shortest = c->slack ? INT64_MAX : length;
    }
    return MIN(ret, 0);
}

/* Twice at most: where blocks of counts went meanwhile, others may have come to their place. */
static int coroutine_fn co_defragment(Compact *c)
{
    int ret = 0;

    for (int round = 0; round < 2 && ret == 0; round++) {
        c->ordering = true;
        ret = co_pass(c);
        if (ret > 0 && c->slack) {
            ret = co_pass(c);
        } else if (ret >= 0) {
            return 0; /* it is in order */
        }
        c->ordering = false;
        ret = ret < 0 ? ret : co_squeeze(c);
    }
    return ret;
}

/* ---- Begin and end ---- */

static int coroutine_fn co_expect_sound(Qcow2 *q, GError **errp)
{
    BlockCheckResult res = { 0 };
    int ret = qcow2_co_check(q->bs, &res, 0, NULL);

    if (ret < 0 || res.check_errors) {
        return error_set_errno(errp, ret < 0 ? ret : -EIO, "Could not check the image");
    }
    if (res.corruptions) {
        return error_set(errp, EIO, "The image has errors; repair it before it is compacted");
    }
    return 0;
}

static int coroutine_fn co_begin(Compact *c, GError **errp)
{
    Qcow2 *q = c->q;
    int ret = qcow2_health_may_write(&q->health);

    ret = ret < 0 ? ret : qcow2_change_co_begin(q, QCOW2_CHANGE_IMAGE);
    ret = ret < 0 ? ret : qcow2_track_co_forget(q); /* bitmaps move */
    ret = ret < 0 ? ret : co_settle(c);
    if (ret == 0 && (q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY)) {
        /* Counts made anew would be right, and flags of what was half moved not (INV-LEAK-1). */
        ret = qcow2_dirty_co_clear(q);
    }
    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not begin to compact the image");
    }
    return co_expect_sound(q, errp);
}

/* Whatever ended it: what was given back is. */
static int coroutine_fn co_end(Compact *c)
{
    int ret = qcow2_flush_co_all(c->q);

    ret = ret < 0 ? ret : qcow2_tail_co_cut(c->q, 0);
    atomic_store(&c->q->preallocated, 0);
    return ret;
}

int coroutine_fn qcow2_co_compact(BlockDriverState *bs, unsigned flags, BlockProgressFunc *progress,
                                  void *opaque, GError **errp)
{
    Compact c = { .q = bs->opaque, .progress = progress, .opaque = opaque };
    int ret = co_begin(&c, errp), end;

    if (ret < 0) {
        atomic_store(&c.q->write_counts, false);
        return ret;
    }
    c.tables = g_array_new(FALSE, FALSE, sizeof(CompactTable));
    c.at = g_hash_table_new(NULL, NULL);
    ret = co_squeeze(&c);
    ret = ret == 0 && (flags & BLK_COMPACT_DEFRAGMENT) ? co_defragment(&c) : ret;
    g_array_unref(c.tables);
    g_hash_table_unref(c.at);
    end = co_end(&c);
    ret = ret < 0 ? ret : end;
    if (ret == -ECANCELED) {
        return error_set(errp, ECANCELED, "Interrupted");
    }
    return ret < 0 ? error_set_errno(errp, ret, "Could not compact the image") : 0;
}
