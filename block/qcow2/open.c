/* SPDX-License-Identifier: MIT */
/* Open and close: read the header, set up the parts in the order in which they need each other. */
#include "bitmap.h"
#include "callbacks.h"
#include "change.h"
#include "clean.h"
#include "compress.h"
#include "cow-buffer.h"
#include "dirty.h"
#include "flush.h"
#include "l1.h"
#include "options.h"
#include "rebuild.h"
#include "refcount.h"
#include "rules.h"
#include "snapshot.h"

#include <errno.h>
#include <string.h>

#define DEFAULT_L2_CACHE (INT64_C(32) * MiB)
#define MIN_CACHES (UINT64_C(256) * KiB)

/* ---- Pieces of open ---- */

static void init_geometry(Qcow2 *q)
{
    const Qcow2Header *h = &q->hdr;

    qcow2_geometry_init(
        &q->geo, (int)h->version, h->cluster_bits, h->refcount_order,
        h->incompatible & QCOW2_INCOMPAT_EXTL2, h->incompatible & QCOW2_INCOMPAT_DATA_FILE,
        (h->incompatible & QCOW2_INCOMPAT_DATA_FILE) && (h->autoclear & QCOW2_AUTOCLEAR_DATA_RAW));
}

static int coroutine_fn co_open_data_file(Qcow2 *q, Options *o, int flags, GError **errp)
{
    bool given = opts_has(o, "data-file") || opts_has_subtree(o, "data-file");

    if (!q->geo.external_data) {
        q->data = q->file;
        return given ? error_set(errp, EINVAL,
                                 "'data-file' can only be set for images with an "
                                 "external data file")
                     : 0;
    }
    if (!given && (flags & BLK_O_NO_IO)) {
        atomic_store(&q->health.write_error, -EIO);
        return 0; /* who only asks about an image opens no file that it names */
    }
    if (!given && !q->hdr.data_file) {
        return error_set(errp, EINVAL, "'data-file' is required for this image");
    }
    q->data =
        given ? bdrv_co_open_child(NULL, o, "data-file", q->bs, flags, BDRV_ROLE_DATA, false, errp)
              : bdrv_co_open_data_file(q->hdr.data_file, "data-file", q->bs, flags, errp);
    return q->data ? 0 : -EINVAL;
}

/* What the user lets an image take: its tables' sizes, and what is left for caches. */
static int check_caps(Qcow2 *q, uint64_t *left, GError **errp)
{
    const BlockCaps *caps = bdrv_caps(q->bs);
    uint64_t l1 = q->hdr.l1_size * UINT64_C(8);
    uint64_t reftable = q->hdr.reftable_clusters * q->geo.cluster_size;

    if (MAX(l1, reftable) > caps->table_size) {
        return error_set(errp, EFBIG,
                         "The image has a table of %" G_GUINT64_FORMAT " bytes, more than "
                         "limits.table-size=%" G_GUINT64_FORMAT " allows",
                         MAX(l1, reftable), caps->table_size);
    }
    if (l1 + reftable + MIN_CACHES > caps->metadata) {
        return error_set(errp, EFBIG,
                         "The image needs %" G_GUINT64_FORMAT " bytes for its metadata, more than "
                         "limits.metadata=%" G_GUINT64_FORMAT " allows",
                         l1 + reftable + MIN_CACHES, caps->metadata);
    }
    *left = caps->metadata - l1 - reftable;
    return 0;
}

static int make_caches(Qcow2 *q, const Qcow2Options *opt, GError **errp)
{
    const Geometry *g = &q->geo;
    uint64_t slice = opt->l2_slice_bytes;
    uint64_t full = geo_clusters(g, q->hdr.size) * g->l2_entry_size;
    uint64_t l2 = opt->l2_cache_bytes, ref = opt->ref_cache_bytes;
    uint64_t ref_slice = MIN(g->cluster_size, UINT64_C(4096)), left = 0;
    int ret = check_caps(q, &left, errp);

    if (ret < 0) {
        return ret;
    }
    if (!l2) {
        l2 = MIN(ALIGN_UP(MAX(full, slice), slice), (uint64_t)DEFAULT_L2_CACHE);
        l2 = MIN(l2, left / 2);
        q->budget_taken = qcow2_budget_take(l2, MIN(l2, (uint64_t)MiB));
        l2 = q->budget_taken;
    }
    if (!ref) {
        ref = MIN(4 * g->cluster_size, left / 4);
    }
    if (l2 + ref > left) {
        return error_set(
            errp, EFBIG,
            "Caches of %" G_GUINT64_FORMAT " bytes are more than limits.metadata allows", l2 + ref);
    }
    q->l2_cache = qcow2_cache_new(q->file, slice, MAX(l2, 2 * slice), BLKDBG_L2_LOAD);
    q->alloc.ref_cache =
        qcow2_cache_new(q->file, ref_slice, MAX(ref, 4 * ref_slice), BLKDBG_REFBLOCK_LOAD);
    return q->l2_cache && q->alloc.ref_cache
               ? 0
               : error_set(errp, ENOMEM, "Could not allocate metadata caches");
}

static int make_parts(Qcow2 *q, const Qcow2Options *opt, GError **errp)
{
    Allocator *a = &q->alloc;
    int ret = make_caches(q, opt, errp);

    if (ret < 0) {
        return ret;
    }
    q->metadata = qcow2_metadata_new(q->geo.cluster_bits);
    q->pin = qcow2_pin_new();
    q->quarantine = q->pin ? qcow2_quarantine_new(q->pin, q->geo.cluster_size) : NULL;
    if (!q->quarantine || qcow2_decompress_init(q) < 0 || qcow2_compress_init(q) < 0 ||
        qcow2_cow_buffer_init(q) < 0) {
        return error_set(errp, ENOMEM, "Could not allocate the image's state");
    }
    a->geo = &q->geo;
    a->file = q->file;
    a->header = &q->header;
    a->health = &q->health;
    a->metadata = q->metadata;
    a->quarantine = q->quarantine;
    a->hdr = &q->hdr;
    return 0;
}

static int coroutine_fn co_load_reftable(Qcow2 *q, GError **errp)
{
    int ret;

    co_mutex_lock(&q->alloc.meta_lock);
    ret = qcow2_refcount_co_load_table(&q->alloc, errp);
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

static void publish_backing(Qcow2 *q)
{
    g_free(q->bs->backing_file);
    g_free(q->bs->backing_format);
    q->bs->backing_file = g_strdup(q->hdr.backing_file);
    q->bs->backing_format = g_strdup(q->hdr.backing_format);
}

/* What a writer does first. Features and bitmaps that it does not keep true are marked by the first
 * change (bitmap.c): opening alone changes nothing of a clean image. */
static int coroutine_fn co_start_writing(Qcow2 *q, int flags, GError **errp)
{
    const char *overlap;
    bool bitmaps;
    uint64_t at;
    int ret;

    if (q->bs->read_only || (flags & BLK_O_CHECK)) {
        return 0;
    }
    ret = qcow2_bitmap_co_open(q, &bitmaps, errp);
    if (ret < 0) {
        return ret;
    }
    if (bitmaps) {
        atomic_fetch_or(&q->unmarked, QCOW2_CHANGE_DISK);
    }
    if (q->hdr.autoclear != qcow2_change_autoclear_kept(q)) {
        atomic_fetch_or(&q->unmarked, QCOW2_CHANGE_IMAGE);
    }
    overlap = qcow2_metadata_overlap(q->metadata, &at);
    if (overlap) { /* a change of one table would be one of the other */
        (void)qcow2_health_co_corrupt(&q->health, overlap, (int64_t)at,
                                      "metadata overlaps other metadata");
        return 0;
    }
    if (q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY) {
        ret = qcow2_change_co_begin(q, QCOW2_CHANGE_IMAGE);
        ret = ret < 0 ? error_set_errno(errp, ret, "Could not update qcow2 header")
                      : qcow2_rebuild_co_refcounts(q, errp);
    }
    return ret;
}

static void apply_options(Qcow2 *q, const Qcow2Options *opt)
{
    q->lazy_refcounts = q->geo.version >= 3 &&
                        (opt->lazy_given ? opt->lazy_refcounts
                                         : (q->hdr.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS) != 0);
    q->discard_passthrough = opt->discard_request;
    q->alloc.discard_other = opt->discard_other;
    q->discard_no_unref = opt->discard_no_unref;
    if (opt->overlap_off) {
        qcow2_metadata_ignore(q->metadata);
    }
    qcow2_clean_start(q, opt->clean_interval_s);
}

static void free_state(Qcow2 *q)
{
    qcow2_clean_stop(q);
    qcow2_snapshot_free_all(q);
    g_clear_pointer(&q->l2_cache, qcow2_cache_free);
    g_clear_pointer(&q->alloc.ref_cache, qcow2_cache_free);
    g_clear_pointer(&q->quarantine, qcow2_quarantine_free);
    g_clear_pointer(&q->pin, qcow2_pin_free);
    g_clear_pointer(&q->metadata, qcow2_metadata_free);
    qcow2_decompress_fini(q);
    qcow2_compress_fini(q);
    qcow2_cow_buffer_fini(q);
    g_clear_pointer(&q->l1, g_free);
    g_clear_pointer(&q->alloc.reftable, g_free);
    qcow2_header_clear(&q->hdr);
    if (q->budget_taken) {
        qcow2_budget_return(q->budget_taken);
        q->budget_taken = 0;
    }
}

/* ---- Open ---- */

static int coroutine_fn co_open_parts(Qcow2 *q, Options *o, int flags, GError **errp)
{
    Qcow2Options opt;
    int ret = qcow2_header_co_read(q->file, &q->hdr, flags, errp);

    if (ret < 0) {
        return ret;
    }
    if (!qcow2_compress_is_built(q->hdr.compression_type) && !(flags & BLK_O_NO_IO)) {
        return error_set(errp, ENOTSUP, "qcow2: compression type %u is not part of this build",
                         q->hdr.compression_type);
    }
    init_geometry(q);
    q->bs->total_bytes =
        (int64_t)ALIGN_DOWN(q->hdr.size, UINT64_C(512)); /* whole sectors, as the reference */
    publish_backing(q);
    ret = qcow2_options_take(&q->geo, o, flags, &opt, errp);
    ret = ret < 0 ? ret : co_open_data_file(q, o, flags, errp);
    ret = ret < 0 ? ret : make_parts(q, &opt, errp);
    ret = ret < 0 ? ret : qcow2_l1_co_load(q, errp);
    ret = ret < 0 ? ret : co_load_reftable(q, errp);
    ret = ret < 0 ? ret : qcow2_snapshot_co_load(q, errp);
    if (ret < 0) {
        return ret;
    }
    atomic_store(&q->health.corrupt, (q->hdr.incompatible & QCOW2_INCOMPAT_CORRUPT) != 0);
    apply_options(q, &opt);
    return co_start_writing(q, flags, errp);
}

int coroutine_fn qcow2_co_open(BlockDriverState *bs, Options *options, int flags, GError **errp)
{
    Qcow2 *q = bs->opaque;
    int ret;

    q->bs = bs;
    co_mutex_init(&q->alloc.meta_lock);
    co_mutex_init(&q->flush_lock);
    q->file = bdrv_co_open_child(NULL, options, "file", bs, flags, BDRV_ROLE_FILE, false, errp);
    if (!q->file) {
        return -EINVAL;
    }
    bs->file = q->file;
    qcow2_header_file_init(&q->header, q->file);
    qcow2_health_init(&q->health, bs, &q->header);
    ret = co_open_parts(q, options, flags, errp);
    if (ret < 0) {
        free_state(q);
        q->bs = NULL;
        return ret;
    }
    bs->supported_zero_flags = BLK_REQ_MAY_UNMAP | BLK_REQ_NO_FALLBACK;
    bs->supported_truncate_flags = BLK_REQ_ZERO_WRITE;
    return 0;
}

/* The counts and, last, the clean bit. An image that is found corrupt, which those who wrote to it
 * have heard, gets no more than its flush wrote. */
static int coroutine_fn co_finish_writing(Qcow2 *q)
{
    int ret;

    if (atomic_load(&q->health.corrupt) || !q->data) {
        return 0;
    }
    ret = qcow2_health_may_write(&q->health);
    if (ret < 0) {
        return ret;
    }
    if (RULE_BROKEN(CLEAN_LAST) && (q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY)) {
        (void)qcow2_dirty_co_clear(q);
    }
    ret = qcow2_flush_co_all(q);
    if (ret == 0 && (q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY)) {
        ret = qcow2_dirty_co_clear(q); /* stays dirty if that fails, and is rebuilt */
    }
    return ret;
}

int coroutine_fn qcow2_co_close(BlockDriverState *bs)
{
    Qcow2 *q = bs->opaque;
    int ret = 0;

    if (!q->bs) {
        return 0; /* never opened whole */
    }
    if (!bs->read_only && !(bs->open_flags & BLK_O_CHECK)) {
        ret = co_finish_writing(q);
    }
    free_state(q);
    q->bs = NULL;
    return ret;
}
