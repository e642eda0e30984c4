/* SPDX-License-Identifier: MIT */
/*
 * Resizing the disk, while requests of the guest run.
 *
 * INV-TRUNC-1  They see one size or the other, and what they do near it is the same with both: so
 *              the size in memory changes, and the cluster that the old end lies in gets its
 *              zeroes, only while requests are held back. What lies past the end, which none
 *              reaches, is made ready before that (a larger disk), or taken down after it (a
 *              smaller one).
 *
 * Growing, in the order of the disk: a larger L1 table's clusters are counted and that is flushed;
 * the table is written whole and synced (INV-W-3); the header points to it and is synced; the old
 * table goes to quarantine (INV-W-4). Then what the new area would show of a longer backing file or
 * of old content past the end is set zero, and space is reserved; the header's size comes last. If
 * that fails, what was reserved is given back, as in a shrink to the old size.
 *
 * Shrinking: no request reaches what goes; entries go in memory (to zero where a backing file
 * would show), that is flushed, the header's size is written and synced; then the L2 tables that
 * describe nothing go, that is flushed, and only then do refcounts fall, clusters get punched,
 * blocks that count nothing go (reftable-shrink.h), and the file is cut after the last cluster in
 * use. If it ends in the middle, what was to be cut is old or zero, and never what a backing file
 * holds.
 */
#include "callbacks.h"
#include "change.h"
#include "discard.h"
#include "entry.h"
#include "flush.h"
#include "forget.h"
#include "header-layout.h"
#include "l1.h"
#include "map.h"
#include "prealloc.h"
#include "rules.h"
#include "track.h"

/* ---- Requests, held back ---- */

/* NULL: the caller is alone on the image already. */
static void coroutine_fn hold_begin(const BlockHold *hold)
{
    if (hold && !RULE_BROKEN(RESIZE_HELD)) {
        hold->co_begin(hold->opaque);
    }
}

static void hold_end(const BlockHold *hold)
{
    if (hold && !RULE_BROKEN(RESIZE_HELD)) {
        hold->end(hold->opaque);
    }
}

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
    uint64_t first = geo_l1_entries(&q->geo, size), i = first;
    int ret = forget_entries(q, ALIGN_UP(size, q->geo.cluster_size), geo_l1_start(&q->geo, first));

    while (i < q->l1_size && !atomic_load(&q->l1[i])) {
        i++;
    }
    if (ret < 0 || i >= q->l1_size) {
        return ret;
    }
    ret = qcow2_discard_co_forget(q, geo_l1_start(&q->geo, i), geo_l1_start(&q->geo, q->l1_size));
    if (ret == 0) {
        co_mutex_lock(&q->alloc.meta_lock);
        qcow2_forget_co_tables(q, first, q->l1_size);
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

/* [@edge, @shown), which a backing file shows in, reads zero; without an entry of that by flags. */
static int coroutine_fn zero_backing_by_data(Qcow2 *q, uint64_t edge, uint64_t shown)
{
    int ret = 0;

    while (edge < shown && ret == 0) {
        uint64_t next = MIN(geo_cluster_start(&q->geo, edge) + q->geo.cluster_size, shown);

        ret = zero_edge(q, edge, next);
        edge = next;
    }
    return ret;
}

/* The part of [@edge, @end) that a backing file is long enough to show in reads zero. */
static int coroutine_fn zero_backing(Qcow2 *q, uint64_t edge, uint64_t end)
{
    BlockDriverState *backing = bdrv_backing_bs(q->bs);
    uint64_t shown, last;
    int64_t len = backing ? bdrv_co_getlength(backing) : 0;
    int ret;

    if (len < 0) {
        return (int)len;
    }
    shown = MIN(end, (uint64_t)len);
    if (edge >= shown || q->geo.version < 3) {
        return zero_backing_by_data(q, edge, shown);
    }
    ret = qcow2_co_pwrite_zeroes(q->bs, (int64_t)edge, (int64_t)(shown - edge), 0);
    if (ret != -ENOTSUP) {
        return ret;
    }
    /* Its last subcluster is not zero after it: cannot be by flag. */
    last = ALIGN_DOWN(shown, q->geo.subcluster_size);
    ret = last > edge ? qcow2_co_pwrite_zeroes(q->bs, (int64_t)edge, (int64_t)(last - edge), 0) : 0;
    return ret < 0 ? ret : zero_edge(q, MAX(edge, last), shown);
}

/* Past the old end, in its cluster: [old, @end) reads zero. */
static int coroutine_fn zero_last_cluster(Qcow2 *q, uint64_t old, uint64_t end)
{
    uint64_t sub = q->geo.version < 3 ? q->geo.cluster_size : q->geo.subcluster_size;
    uint64_t edge = MIN(ALIGN_UP(old, sub), end);
    int ret = zero_edge(q, old, edge);

    ret = ret < 0 ? ret : zero_rest(q, edge, end);
    return ret < 0 ? ret : zero_backing(q, edge, end);
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

typedef struct Resize {
    Qcow2 *q;
    uint64_t old, size;
    uint64_t edge; /* where the cluster that the old end lies in ends, or the new disk */
    bool exact;
    BlockPrealloc prealloc;
    const BlockHold *hold;
    int64_t data_length; /* of an external data file, before */
    bool announced;      /* the header may have the new size */
} Resize;

static int coroutine_fn co_reserve(const Resize *r, uint64_t start, uint64_t end, GError **errp)
{
    return r->prealloc == BLK_PREALLOC_OFF
               ? 0
               : qcow2_prealloc_co_reserve(r->q, start, end - start, r->prealloc, errp);
}

/* What lies past the cluster of the old end. */
static int coroutine_fn grow_beside(Resize *r, GError **errp)
{
    Qcow2 *q = r->q;
    int ret = forget_past_end(q, r->old);

    ret = ret < 0 ? ret : qcow2_l1_co_grow(q, geo_l1_entries(&q->geo, r->size));
    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to grow the L1 table");
    }
    if (q->geo.external_data) {
        ret = grow_data_file(q, r->old, r->size, r->exact, r->prealloc, errp);
        if (ret < 0) {
            return ret;
        }
    }
    ret = zero_backing(q, r->edge, r->size);
    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to zero out the new area");
    }
    ret = co_reserve(r, r->edge, r->size, errp);
    if (ret < 0) {
        return ret;
    }
    ret = r->hold ? qcow2_flush_co_metadata(q, true) : 0; /* less to do while all wait */
    return ret < 0 ? error_set_errno(errp, ret, "Failed to update the image size") : 0;
}

/* The rest, and the size. */
static int coroutine_fn grow_held(Resize *r, GError **errp)
{
    Qcow2 *q = r->q;
    int ret = zero_last_cluster(q, r->old, r->edge);

    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to zero out the new area");
    }
    if (r->prealloc != BLK_PREALLOC_OFF) {
        ret = place_edge(q, r->old, r->size);
        if (ret < 0) {
            return error_set_errno(errp, ret, "Allocating clusters failed");
        }
        ret = co_reserve(r, r->old, r->edge, errp);
        if (ret < 0) {
            return ret;
        }
    }
    ret = RULE_BROKEN(HIDDEN_BEFORE_GROWN) ? 0 : qcow2_flush_co_metadata(q, true);
    if (ret == 0) {
        r->announced = true;
        ret = write_size(q, r->size);
    }
    return ret < 0 ? error_set_errno(errp, ret, "Failed to update the image size") : 0;
}

/* ---- Shrink ---- */

/* Clusters that were let go of, counts of nothing and the end of the file go. Best effort. */
static void coroutine_fn give_back(Resize *r)
{
    qcow2_forget_co_free(r->q);
    hold_begin(r->hold); /* writes that make the file longer end first */
    qcow2_forget_co_cut(r->q);
    hold_end(r->hold);
}

static int coroutine_fn shrink(Resize *r, GError **errp)
{
    Qcow2 *q = r->q;
    uint64_t from = ALIGN_UP(r->size, q->geo.cluster_size);
    uint64_t to = ALIGN_UP(r->old, q->geo.cluster_size);
    int ret;

    g_assert(r->size < r->old);
    hold_begin(r->hold);
    qcow2_show_length(q, r->size); /* none reaches what is past it any more */
    hold_end(r->hold);
    ret = forget_past_end(q, r->old);
    ret = ret == 0 && from < to ? qcow2_discard_co_forget(q, from, to) : ret;
    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to discard cropped clusters");
    }
    ret = RULE_BROKEN(FORGOTTEN_BEFORE_SHRUNK) ? 0 : qcow2_flush_co_metadata(q, true);
    if (ret == 0) {
        hold_begin(r->hold);
        ret = write_size(q, r->size);
        hold_end(r->hold);
    }
    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to update the image size");
    }
    /* Done. Of the rest a failure leaks clusters, no more. */
    co_mutex_lock(&q->alloc.meta_lock);
    bdrv_co_debug_event(q->file, BLKDBG_L1_SHRINK_FREE_L2_CLUSTERS);
    qcow2_forget_co_tables(q, geo_l1_entries(&q->geo, r->size), q->l1_size);
    co_mutex_unlock(&q->alloc.meta_lock);
    give_back(r);
    return q->geo.external_data
               ? bdrv_co_truncate(q->data, (int64_t)r->size, r->exact, BLK_PREALLOC_OFF, 0, errp)
               : 0;
}

/* ---- Either ---- */

/* It has the old size: what was reserved past it goes. Best effort. */
static void coroutine_fn undo_grow(Resize *r)
{
    Qcow2 *q = r->q;

    if (r->prealloc == BLK_PREALLOC_OFF || r->announced || qcow2_health_may_write(&q->health) < 0 ||
        forget_past_end(q, r->old) < 0) {
        return;
    }
    CASE_MET(GROWTH_UNDONE);
    give_back(r);
    if (q->geo.external_data && r->data_length >= 0) {
        g_autoptr(GError) unsaid = NULL;

        hold_begin(r->hold); /* writes up to the old end may have made it longer */
        (void)bdrv_co_truncate(q->data, MAX(r->data_length, (int64_t)r->old), false,
                               BLK_PREALLOC_OFF, 0, &unsaid);
        hold_end(r->hold);
    }
}

static int coroutine_fn grow(Resize *r, GError **errp)
{
    int ret;

    g_assert(r->size > r->old);
    ret = grow_beside(r, errp);
    if (ret == 0) {
        hold_begin(r->hold);
        ret = grow_held(r, errp);
        qcow2_show_length(r->q, r->q->hdr.size);
        hold_end(r->hold);
    }
    if (ret < 0) {
        undo_grow(r);
    }
    return ret;
}

/* What can be told before anything is done, while nobody else makes files longer. */
static int coroutine_fn co_may_resize(Resize *r, GError **errp)
{
    Qcow2 *q = r->q;
    int ret = qcow2_track_co_may_resize(q, r->size, errp);

    if (ret < 0 || r->size <= r->old) {
        return ret;
    }
    r->data_length = q->geo.external_data ? bdrv_co_getlength(q->data->bs) : 0;
    return r->prealloc == BLK_PREALLOC_OFF ? 0
                                           : qcow2_prealloc_co_may_reserve(q, r->prealloc, errp);
}

static int coroutine_fn co_resize(Resize *r, GError **errp)
{
    Qcow2 *q = r->q;
    int ret = qcow2_health_may_write(&q->health);

    if (ret < 0) {
        return error_set_errno(errp, ret, "Cannot resize image");
    }
    if (!IS_ALIGNED(r->size, UINT64_C(512))) {
        return error_set(errp, EINVAL, "The new size must be a multiple of 512");
    }
    if (q->hdr.nb_snapshots && q->geo.version < 3) {
        return error_set(errp, ENOTSUP, "Can't resize a v2 image which has snapshots");
    }
    hold_begin(r->hold);
    ret = co_may_resize(r, errp);
    hold_end(r->hold);
    if (ret < 0 || r->size == r->old) {
        return ret;
    }
    if (r->size < r->old && r->prealloc != BLK_PREALLOC_OFF) {
        return error_set(errp, EINVAL, "Preallocation can't be used for shrinking an image");
    }
    ret = qcow2_change_co_begin(q, QCOW2_CHANGE_DISK | QCOW2_CHANGE_IMAGE);
    if (ret < 0) {
        return error_set_errno(errp, ret, "Cannot resize image");
    }
    if (r->size > r->old && q->geo.data_raw && r->prealloc == BLK_PREALLOC_OFF) {
        r->prealloc = BLK_PREALLOC_METADATA;
    }
    ret = r->size < r->old ? shrink(r, errp) : grow(r, errp);
    qcow2_show_length(q, q->hdr.size); /* also after a failure */
    return ret;
}

int coroutine_fn qcow2_co_truncate_beside(BlockDriverState *bs, int64_t bytes, bool exact,
                                          BlockPrealloc prealloc, const BlockHold *hold,
                                          GError **errp)
{
    Qcow2 *q = bs->opaque;
    Resize r = { .q = q,
                 .old = (uint64_t)atomic_load(
                     &bs->total_bytes), /* not hdr.size, which may end within a sector */
                 .size = (uint64_t)bytes,
                 .exact = exact,
                 .prealloc = prealloc,
                 .hold = hold };

    r.edge = MIN(ALIGN_UP(r.old, q->geo.cluster_size), r.size);
    return co_resize(&r, errp);
}

int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                   BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    return qcow2_co_truncate_beside(bs, bytes, exact, prealloc, NULL, errp);
}
