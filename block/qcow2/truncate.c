/* SPDX-License-Identifier: MIT */
/*
 * Resizing the disk.
 *
 * Growing, in the order of the disk: a larger L1 table's clusters are counted and that is flushed;
 * the table is written whole and synced (INV-W-3); the header points to it and is synced; the old
 * table goes to quarantine (INV-W-4). Then what the new area would show of a longer backing file or
 * of old content past the end is set zero, then space is reserved, and the header's size comes
 * last.
 *
 * Shrinking: entries go in memory (to zero where a backing file would show), that is flushed, the
 * header's size is written and synced; then the L2 tables that describe nothing go, that is
 * flushed, and only then do refcounts fall, clusters get punched, blocks that count nothing go
 * (reftable-shrink.h), and the file is cut after the last cluster in use. If it ends in the middle,
 * what was to be cut is old or zero, and never what a backing file holds.
 */
#include "callbacks.h"
#include "change.h"
#include "discard.h"
#include "entry.h"
#include "flush.h"
#include "header-layout.h"
#include "l1.h"
#include "map.h"
#include "prealloc.h"
#include "reap.h"
#include "reftable-shrink.h"
#include "rules.h"
#include "tail.h"
#include "track.h"

static int coroutine_fn write_size(Qcow2 *q, uint64_t size)
{
    Qcow2Header h;
    int ret;

    if (q->hdr.has_bitmaps) {
        return qcow2_track_co_resize(q, size, NULL);
    }
    co_mutex_lock(&q->alloc.meta_lock);
    h = q->hdr;
    h.size = size;
    ret = qcow2_flush_co_header_fields(q, &h, HEADER_AT(size), HEADER_AT(crypt_method));
    if (ret == 0) {
        q->hdr.size = size;
    }
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

/* ---- Past the end of the disk ---- */

/* L2 tables that describe nothing of the disk. */
static void coroutine_fn drop_tables(Qcow2 *q, uint64_t keep) REQUIRES_LOCK(q->alloc.meta_lock)
{
    for (uint64_t i = keep; i < q->l1_size; i++) {
        uint64_t entry = atomic_load(&q->l1[i]), off = entry & QCOW2_OFFSET_MASK;

        if (!off) {
            continue;
        }
        qcow2_l1_set(q, i, 0);
        if (entry & L2E_COPIED) {
            qcow2_cache_drop(q->l2_cache, off, q->geo.cluster_size);
        }
        qcow2_metadata_remove(q->metadata, off, q->geo.cluster_size);
        qcow2_quarantine_add(q->quarantine, off, q->geo.cluster_size, q->discard_passthrough);
    }
}

/* Guest [@start, @end), past the disk within the last table that describes it, by whole clusters:
 * nothing of ours has entries there, but who knows who made the image. */
static int coroutine_fn forget_entries(Qcow2 *q, uint64_t start, uint64_t end)
{
    uint64_t at = start;
    int ret = 0;

    while (at < end && ret == 0) {
        Extent x;

        ret = qcow2_map_co_find(q, at, end - at, &x);
        if (ret == 0 && x.kind != SC_UNALLOCATED_PLAIN) {
            ret = qcow2_discard_co_forget(q, geo_cluster_start(&q->geo, at),
                                          ALIGN_UP(at + x.bytes, q->geo.cluster_size));
        }
        at += ret == 0 ? x.bytes : 0;
    }
    return ret;
}

/* What lies past a disk of @size must not show in it when that grows: the state of a virtual
 * machine, and entries that others left. */
static int coroutine_fn forget_past_end(Qcow2 *q, uint64_t size)
{
    unsigned shift = q->geo.l2_bits + q->geo.cluster_bits;
    uint64_t first = geo_l1_entries(&q->geo, size), i = first;
    int ret = forget_entries(q, ALIGN_UP(size, q->geo.cluster_size), first << shift);

    while (i < q->l1_size && !atomic_load(&q->l1[i])) {
        i++;
    }
    if (ret < 0 || i >= q->l1_size) {
        return ret;
    }
    ret = qcow2_discard_co_forget(q, i << shift, (uint64_t)q->l1_size << shift);
    if (ret == 0) {
        co_mutex_lock(&q->alloc.meta_lock);
        drop_tables(q, first);
        co_mutex_unlock(&q->alloc.meta_lock);
    }
    return ret;
}

/* ---- Grow ---- */

/* Zeroes as data, within a cluster. */
static int coroutine_fn write_zeroes(Qcow2 *q, uint64_t start, uint64_t end)
{
    g_autofree uint8_t *buf = g_try_malloc0(end - start);
    IOVector v;

    if (!buf) {
        return -ENOMEM;
    }
    iov_init_buf(&v, buf, end - start);
    return qcow2_co_pwritev(q->bs, start, &v, 0);
}

/* Write zeroes over [start, end) of one (sub)cluster if anything else could show there. */
static int coroutine_fn zero_edge(Qcow2 *q, uint64_t start, uint64_t end)
{
    Extent x;
    int ret;

    g_assert(start <= end);
    if (start == end) {
        return 0;
    }
    ret = qcow2_map_co_find(q, start, end - start, &x);
    if (ret < 0 || (x.bytes >= end - start && x.kind != SC_COMPRESSED &&
                    qcow2_entry_reads_zero(q, x.entry, start, end))) {
        return ret;
    }
    return write_zeroes(q, start, end);
}

/* Subclusters after @start in its cluster: a shrink within the cluster left them as they were. */
static int coroutine_fn zero_rest(Qcow2 *q, uint64_t start, uint64_t size)
{
    uint64_t end = ALIGN_UP(start, q->geo.cluster_size);
    Extent x;
    int ret;

    if (start >= MIN(end, size)) {
        return 0;
    }
    ret = qcow2_map_co_find(q, start, end - start, &x);
    if (ret < 0 || qcow2_entry_reads_zero(q, x.entry, start, end)) {
        return ret;
    }
    ret = qcow2_co_pwrite_zeroes(q->bs, start, end - start, 0);
    return ret == -ENOTSUP ? zero_edge(q, start, MIN(end, size)) : ret; /* a compressed cluster */
}

/* The area [old, size) reads zero: the rest of the old last cluster, and a longer backing file. */
static int coroutine_fn zero_new_area(Qcow2 *q, uint64_t old, uint64_t size)
{
    BlockDriverState *backing = bdrv_backing_bs(q->bs);
    uint64_t sub = q->geo.version < 3 ? q->geo.cluster_size : q->geo.subcluster_size;
    uint64_t edge = MIN(ALIGN_UP(old, sub), size), shown;
    int64_t len;
    int ret = zero_edge(q, old, edge);

    ret = ret < 0 ? ret : zero_rest(q, edge, size);
    if (ret < 0 || !backing) {
        return ret;
    }
    len = bdrv_co_getlength(backing);
    if (len < 0) {
        return len;
    }
    shown = MIN(size, (uint64_t)len);
    while (ret == 0 && edge < shown && q->geo.version < 3) {
        uint64_t next = MIN(edge + sub, shown);

        ret = zero_edge(q, edge, next);
        edge = next;
    }
    if (ret == 0 && edge < shown) {
        ret = qcow2_co_pwrite_zeroes(q->bs, edge, shown - edge, 0);
        if (ret == -ENOTSUP) { /* its last subcluster is not zero after it: cannot be by flag */
            uint64_t last = ALIGN_DOWN(shown, sub);

            ret = last > edge ? qcow2_co_pwrite_zeroes(q->bs, edge, last - edge, 0) : 0;
            ret = ret < 0 ? ret : zero_edge(q, MAX(edge, last), shown);
        }
    }
    return ret;
}

/* The old last cluster, before clusters are preallocated: an entry that begins to show its place
 * hides what it read until then (of the backing file, or zeroes), so that is copied there first. */
static int coroutine_fn place_edge(Qcow2 *q, uint64_t old, uint64_t size)
{
    uint64_t end = MIN(ALIGN_UP(old, q->geo.cluster_size), size);
    Extent x;
    int ret;

    if (old == end) {
        return 0;
    }
    ret = qcow2_map_co_find(q, old, end - old, &x);
    if (ret < 0 || (x.entry.desc & L2E_COMPRESSED) || qcow2_l2_has_host(&q->geo, x.entry)) {
        return ret;
    }
    CASE_MET(EDGE_PLACED);
    return write_zeroes(q, old, end);
}

/*
 * What a longer file holds past the old end would show once entries say that it is there. Without
 * preallocation no longer file is left: no entry refers to what is cut.
 */
static int coroutine_fn grow_data_file(Qcow2 *q, uint64_t old, uint64_t size, bool exact,
                                       BlockPrealloc prealloc, GError **errp)
{
    int64_t len = bdrv_co_getlength(q->data->bs);
    int ret;

    if (len < 0) {
        return error_set_errno(errp, len, "Failed to inquire current file length");
    }
    if ((uint64_t)len > old && prealloc != BLK_PREALLOC_OFF) {
        ret =
            bdrv_co_pwrite_zeroes(q->data, old, MIN((uint64_t)len, size) - old, BLK_REQ_MAY_UNMAP);
        if (ret < 0) {
            return error_set_errno(errp, ret, "Failed to zero out the new area");
        }
    }
    if ((uint64_t)len >= size && prealloc != BLK_PREALLOC_OFF) {
        return 0;
    }
    if (prealloc == BLK_PREALLOC_METADATA) {
        prealloc = BLK_PREALLOC_OFF;
    }
    return (uint64_t)len == size ? 0 : bdrv_co_truncate(q->data, size, exact, prealloc, 0, errp);
}

static int coroutine_fn grow(Qcow2 *q, uint64_t old, uint64_t size, bool exact,
                             BlockPrealloc prealloc, GError **errp)
{
    int ret = forget_past_end(q, old);

    g_assert(size > old);
    if (q->geo.data_raw && prealloc == BLK_PREALLOC_OFF) {
        prealloc = BLK_PREALLOC_METADATA;
    }
    ret = ret < 0 ? ret : qcow2_l1_co_grow(q, geo_l1_entries(&q->geo, size));
    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to grow the L1 table");
    }
    if (q->geo.external_data) {
        ret = grow_data_file(q, old, size, exact, prealloc, errp);
        if (ret < 0) {
            return ret;
        }
    }
    ret = zero_new_area(q, old, size);
    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to zero out the new area");
    }
    if (prealloc != BLK_PREALLOC_OFF) {
        ret = place_edge(q, old, size);
        if (ret < 0) {
            return error_set_errno(errp, ret, "Allocating clusters failed");
        }
        ret = qcow2_prealloc_co_reserve(q, old, size - old, prealloc, errp);
        if (ret < 0) {
            return ret;
        }
    }
    ret = RULE_BROKEN(HIDDEN_BEFORE_GROWN) ? 0 : qcow2_flush_co_metadata(q, true);
    if (ret == 0) {
        ret = write_size(q, size);
    }
    return ret < 0 ? error_set_errno(errp, ret, "Failed to update the image size") : 0;
}

/* ---- Shrink ---- */

/* Give back counts of nothing, and the end of the file. Best effort: nothing refers to what is
 * there. */
static void coroutine_fn cut_file(Qcow2 *q)
{
    uint64_t gone;

    if (qcow2_reftable_shrink_co_run(q, &gone) == 0 && gone) {
        (void)qcow2_flush_co_metadata(q, true);
    }
    (void)qcow2_tail_co_cut(q, 0);
}

static int coroutine_fn shrink(Qcow2 *q, uint64_t old, uint64_t size, bool exact, GError **errp)
{
    uint64_t from = ALIGN_UP(size, q->geo.cluster_size), to = ALIGN_UP(old, q->geo.cluster_size);
    int ret = forget_past_end(q, old);

    g_assert(size < old);
    ret = ret == 0 && from < to ? qcow2_discard_co_forget(q, from, to) : ret;
    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to discard cropped clusters");
    }
    ret = RULE_BROKEN(FORGOTTEN_BEFORE_SHRUNK) ? 0 : qcow2_flush_co_metadata(q, true);
    if (ret == 0) {
        ret = write_size(q, size);
    }
    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to update the image size");
    }
    /* Done. Of the rest a failure leaks clusters, no more. */
    co_mutex_lock(&q->alloc.meta_lock);
    bdrv_co_debug_event(q->file, BLKDBG_L1_SHRINK_FREE_L2_CLUSTERS);
    drop_tables(q, geo_l1_entries(&q->geo, size));
    co_mutex_unlock(&q->alloc.meta_lock);
    if (qcow2_flush_co_metadata(q, true) == 0) {
        (void)qcow2_reap_co_ready(q);
    }
    cut_file(q);
    return q->geo.external_data ? bdrv_co_truncate(q->data, size, exact, BLK_PREALLOC_OFF, 0, errp)
                                : 0;
}

int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                   BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    Qcow2 *q = bs->opaque;
    uint64_t old =
        (uint64_t)atomic_load(&bs->total_bytes); /* not hdr.size, which may end within a sector */
    int ret = qcow2_health_may_write(&q->health);

    if (ret < 0) {
        return error_set_errno(errp, ret, "Cannot resize image");
    }
    if (!IS_ALIGNED(bytes, 512)) {
        return error_set(errp, EINVAL, "The new size must be a multiple of 512");
    }
    if (q->hdr.nb_snapshots && q->geo.version < 3) {
        return error_set(errp, ENOTSUP, "Can't resize a v2 image which has snapshots");
    }
    ret = qcow2_track_co_may_resize(q, (uint64_t)bytes, errp);
    if (ret < 0) {
        return ret;
    }
    if ((uint64_t)bytes == old) {
        return 0;
    }
    if ((uint64_t)bytes < old && prealloc != BLK_PREALLOC_OFF) {
        return error_set(errp, EINVAL, "Preallocation can't be used for shrinking an image");
    }
    ret = qcow2_change_co_begin(q, QCOW2_CHANGE_DISK | QCOW2_CHANGE_IMAGE);
    if (ret < 0) {
        return error_set_errno(errp, ret, "Cannot resize image");
    }
    ret = (uint64_t)bytes < old ? shrink(q, old, bytes, exact, errp)
                                : grow(q, old, bytes, exact, prealloc, errp);
    atomic_store(&bs->total_bytes,
                 (int64_t)ALIGN_DOWN(q->hdr.size, UINT64_C(512))); /* also after a failure */
    return ret;
}
