/* SPDX-License-Identifier: MIT */
/* Open and close: read the header, set up the parts in the order in which they need each other. */
#include "compress.h"
#include "options.h"
#include "qcow2.h"
#include "rules.h"

#include "util/bytes.h"

#include <errno.h>
#include <string.h>

#define DEFAULT_L2_CACHE (INT64_C(32) * MiB)
#define MIN_CACHES (UINT64_C(256) * KiB)

/* ---- Pieces of open ---- */

static void init_geometry(Qcow2 *q)
{
    const Qcow2Header *h = &q->hdr;

    geometry_init(
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
    q->l2_cache = meta_cache_new(q->file, slice, MAX(l2, 2 * slice), BLKDBG_L2_LOAD);
    q->ref_cache =
        meta_cache_new(q->file, ref_slice, MAX(ref, 4 * ref_slice), BLKDBG_REFBLOCK_LOAD);
    q->pin = qcow2_pin_new();
    if (!q->l2_cache || !q->ref_cache || !q->pin || qcow2_metadata_init(q) < 0 ||
        qcow2_decompress_init(q) < 0 || qcow2_compress_init(q) < 0 || cow_buffers_init(q) < 0) {
        return error_set(errp, ENOMEM, "Could not allocate metadata caches");
    }
    return 0;
}

static int coroutine_fn co_load_l1(Qcow2 *q, GError **errp)
{
    size_t bytes = (size_t)q->hdr.l1_size * 8;
    uint64_t *raw = g_try_malloc(MAX(bytes, 8)); /* on-disk order, then swapped where it is */
    int ret = 0;

    q->l1_size = q->hdr.l1_size;
    q->l1 = (void *)raw;
    if (!raw) {
        return error_set_errno(errp, ENOMEM, "Could not allocate L1 table");
    }
    if (bytes) {
        ret = qcow2_co_read_table(q, q->hdr.l1_offset, bytes, raw);
    }
    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not read L1 table");
    }
    qcow2_metadata_add(q, 0, q->geo.cluster_size, "qcow2_header");
    if (bytes) {
        qcow2_metadata_add(q, q->hdr.l1_offset, bytes, "active L1 table");
    }
    q->opened_empty = true;
    for (uint32_t i = 0; i < q->l1_size; i++) {
        uint64_t e = ldbe64(&raw[i]), off = e & QCOW2_OFFSET_MASK;

        atomic_init(&q->l1[i], e);
        q->opened_empty = q->opened_empty && off == 0;
        if (off && geo_in_cluster(&q->geo, off) == 0) {
            qcow2_metadata_add(q, off, q->geo.cluster_size, "active L2 table");
        }
    }
    return 0;
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
    uint64_t at;
    int ret;

    if (q->bs->read_only || (flags & BLK_O_CHECK)) {
        return 0;
    }
    ret = qcow2_co_bitmaps_open(q, errp);
    if (ret < 0) {
        return ret;
    }
    if (q->hdr.autoclear != qcow2_autoclear_kept(q)) {
        atomic_fetch_or(&q->unmarked, QCOW2_CHANGE_IMAGE);
    }
    overlap = qcow2_metadata_overlap(q, &at);
    if (overlap && !q->overlap_off) { /* a change of one table would be one of the other */
        (void)qcow2_co_corrupt(q, overlap, (int64_t)at, "metadata overlaps other metadata");
        return 0;
    }
    if (q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY) {
        ret = qcow2_co_begin_change(q, QCOW2_CHANGE_IMAGE);
        ret = ret < 0 ? error_set_errno(errp, ret, "Could not update qcow2 header")
                      : qcow2_co_rebuild_refcounts(q, errp);
    }
    return ret;
}

static void apply_options(Qcow2 *q, const Qcow2Options *opt)
{
    q->lazy_refcounts = q->geo.version >= 3 &&
                        (opt->lazy_given ? opt->lazy_refcounts
                                         : (q->hdr.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS) != 0);
    q->discard_passthrough = opt->discard_request;
    q->discard_other = opt->discard_other;
    q->discard_no_unref = opt->discard_no_unref;
    q->overlap_off = opt->overlap_off;
    qcow2_clean_start(q, opt->clean_interval_s);
}

static void free_state(Qcow2 *q)
{
    qcow2_clean_stop(q);
    qcow2_free_snapshots(q);
    g_clear_pointer(&q->l2_cache, meta_cache_free);
    g_clear_pointer(&q->ref_cache, meta_cache_free);
    g_clear_pointer(&q->pin, qcow2_pin_free);
    qcow2_metadata_fini(q);
    qcow2_decompress_fini(q);
    qcow2_compress_fini(q);
    cow_buffers_fini(q);
    g_clear_pointer(&q->l1, g_free);
    g_clear_pointer(&q->reftable, g_free);
    qcow2_header_clear(&q->hdr);
    if (q->budget_taken) {
        qcow2_budget_give(q->budget_taken);
        q->budget_taken = 0;
    }
}

/* ---- Open ---- */

static int coroutine_fn co_open_parts(Qcow2 *q, Options *o, int flags, GError **errp)
{
    Qcow2Options opt;
    int ret = qcow2_co_header_read(q->file, &q->hdr, flags, errp);

    if (ret < 0) {
        return ret;
    }
    if (!qcow2_has_compression(q->hdr.compression_type) && !(flags & BLK_O_NO_IO)) {
        return error_set(errp, ENOTSUP, "qcow2: compression type %u is not part of this build",
                         q->hdr.compression_type);
    }
    init_geometry(q);
    q->bs->total_bytes =
        (int64_t)ALIGN_DOWN(q->hdr.size, UINT64_C(512)); /* whole sectors, as the reference */
    publish_backing(q);
    ret = qcow2_take_options(&q->geo, o, flags, &opt, errp);
    ret = ret < 0 ? ret : co_open_data_file(q, o, flags, errp);
    ret = ret < 0 ? ret : make_caches(q, &opt, errp);
    ret = ret < 0 ? ret : co_load_l1(q, errp);
    ret = ret < 0 ? ret : qcow2_refcount_co_load_table(q, errp);
    ret = ret < 0 ? ret : qcow2_co_load_snapshots(q, errp);
    if (ret < 0) {
        return ret;
    }
    atomic_store(&q->corrupt, (q->hdr.incompatible & QCOW2_INCOMPAT_CORRUPT) != 0);
    apply_options(q, &opt);
    return co_start_writing(q, flags, errp);
}

int coroutine_fn qcow2_co_open(BlockDriverState *bs, Options *options, int flags, GError **errp)
{
    Qcow2 *q = bs->opaque;
    int ret;

    q->bs = bs;
    q->meta_gen = 1;
    co_mutex_init(&q->meta_lock);
    co_mutex_init(&q->flush_lock);
    co_mutex_init(&q->feature_lock);
    q->file = bdrv_co_open_child(NULL, options, "file", bs, flags, BDRV_ROLE_FILE, false, errp);
    if (!q->file) {
        return -EINVAL;
    }
    bs->file = q->file;
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

    if (atomic_load(&q->corrupt) || !q->data) {
        return 0;
    }
    ret = qcow2_may_write(q);
    if (ret < 0) {
        return ret;
    }
    if (RULE_BROKEN(CLEAN_LAST) && (q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY)) {
        (void)qcow2_co_mark_clean(q);
    }
    ret = qcow2_co_settle(q);
    if (ret == 0 && (q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY)) {
        ret = qcow2_co_mark_clean(q); /* stays dirty if that fails, and is rebuilt */
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
