/* SPDX-License-Identifier: MIT */
/* Open and close: read the header, set up the parts in the order in which they need each other. */
#include "bitmap-set.h"
#include "caches.h"
#include "callbacks.h"
#include "change.h"
#include "clean.h"
#include "compress.h"
#include "cow-buffer.h"
#include "crypt.h"
#include "dirty.h"
#include "flush.h"
#include "inactive-l2.h"
#include "l1.h"
#include "open.h"
#include "options.h"
#include "rebuild.h"
#include "refcount.h"
#include "rules.h"
#include "sharing.h"
#include "snapshot.h"
#include "tail.h"
#include "track.h"

#include <errno.h>
#include <string.h>

/* ---- Pieces of open ---- */

static void init_geometry(Qcow2 *q)
{
    const Qcow2Header *h = &q->hdr;

    qcow2_geometry_init(
        &q->geo, (int)h->version, h->cluster_bits, h->refcount_order,
        h->incompatible & QCOW2_INCOMPAT_EXTL2, h->incompatible & QCOW2_INCOMPAT_DATA_FILE,
        /* (What an encrypted image has in its data file is not the disk, whatever it says.) */
        (h->incompatible & QCOW2_INCOMPAT_DATA_FILE) && (h->autoclear & QCOW2_AUTOCLEAR_DATA_RAW) &&
            !h->crypt_method);
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
        return 0; /* to ask about an image opens no file that it names */
    }
    if (!given && !q->hdr.data_file) {
        return error_set(errp, EINVAL, "'data-file' is required for this image");
    }
    q->data =
        given ? bdrv_co_open_child(NULL, o, "data-file", q->bs, flags, BDRV_ROLE_DATA, false, errp)
              : bdrv_co_open_data_file(q->hdr.data_file, "data-file", q->bs, flags, errp);
    return q->data ? 0 : -EINVAL;
}

static int make_parts(Qcow2 *q, const Qcow2Options *opt, GError **errp)
{
    Allocator *a = &q->alloc;
    Qcow2Caches caches;
    int ret = qcow2_caches_make(q, opt, &caches, errp);

    if (ret < 0) {
        return ret;
    }
    qcow2_caches_swap(q, &caches);
    q->metadata = qcow2_metadata_new(q->geo.cluster_bits);
    q->pin = qcow2_pin_new();
    q->quarantine = q->pin ? qcow2_quarantine_new(q->pin, q->geo.cluster_size) : NULL;
    if (!q->quarantine || qcow2_decompress_init(q) < 0 || qcow2_compress_init(q) < 0 ||
        qcow2_cow_buffer_init(q) < 0 || qcow2_bitmap_set_init(q) < 0) {
        return error_set(errp, ENOMEM, "Could not allocate the image's state");
    }
    a->geo = &q->geo;
    a->file = q->file;
    a->header = &q->header;
    a->health = &q->health;
    a->metadata = q->metadata;
    a->quarantine = q->quarantine;
    a->hdr = &q->hdr;
    ORACLE(a->oracle = qcow2_oracle_counts_new());
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

void qcow2_open_apply_options(Qcow2 *q, const Qcow2Options *opt)
{
    q->lazy_refcounts = q->geo.version >= 3 &&
                        (opt->lazy_given ? opt->lazy_refcounts
                                         : (q->hdr.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS) != 0);
    q->discard_passthrough = opt->discard_request;
    q->alloc.discard_other = opt->discard_other;
    q->discard_no_unref = opt->discard_no_unref;
    q->compression_level = opt->level_given ? (int)opt->compression_level : -1;
    q->discard_snapshot = opt->discard_snapshot;
    qcow2_metadata_look_for(q->metadata, opt->overlap_kinds);
    qcow2_clean_start(q, opt->clean_interval_s);
}

static void free_state(Qcow2 *q)
{
    Qcow2Caches caches = { 0 };

    qcow2_clean_stop(q);
    qcow2_snapshot_free_all(q);
    g_clear_pointer(&q->snapshots_lost, g_free);
    qcow2_sharing_fini(q);
    qcow2_caches_swap(q, &caches);
    qcow2_caches_free(&caches);
    g_clear_pointer(&q->quarantine, qcow2_quarantine_free);
    g_clear_pointer(&q->pin, qcow2_pin_free);
    g_clear_pointer(&q->metadata, qcow2_metadata_free);
    ORACLE(qcow2_oracle_counts_free(q->alloc.oracle));
    qcow2_decompress_fini(q);
    qcow2_compress_fini(q);
    qcow2_cow_buffer_fini(q);
    qcow2_bitmap_set_fini(q);
    qcow2_crypt_fini(q);
    g_clear_pointer(&q->l1, g_free);
    g_clear_pointer(&q->alloc.reftable, g_free);
    qcow2_full_map_forget(&q->alloc.full);
    qcow2_header_clear(&q->hdr);
}

/* ---- Open ---- */

/* A reader gets at the disk, too, where the list of snapshots is lost: in a file that was cut, say.
 * Who writes must know what clusters snapshots have. */
static int coroutine_fn co_load_snapshots(Qcow2 *q, GError **errp)
{
    GError *err = NULL;
    int ret = qcow2_snapshot_co_load(q, &err);

    if (ret < 0 && ret != -ENOMEM && q->bs->read_only) {
        qcow2_snapshot_free_all(q);
        q->hdr.nb_snapshots = 0; /* in memory: nothing is written */
        q->snapshots_lost = g_strdup(err->message);
        g_error_free(err);
        return 0;
    }
    if (err) {
        g_propagate_error(errp, err);
    }
    return ret;
}

/* What a person is to know; NULL: nothing. g_free(). */
static char *open_warning(const Qcow2 *q)
{
    return q->snapshots_lost
               ? g_strdup_printf("warning: %s; the image is shown without its snapshots",
                                 q->snapshots_lost)
               : qcow2_bitmap_warning(q);
}

/* What is read is the snapshot that the options name, if they name one. */
static int coroutine_fn co_show_snapshot(Qcow2 *q, const char *id, const char *name, GError **errp)
{
    if (!id && !name) {
        return 0;
    }
    if (!q->bs->read_only) {
        return error_set(errp, EINVAL, "An internal snapshot can only be opened read-only");
    }
    return qcow2_snapshot_ops.co_load(q->bs, id, name, errp);
}

static int coroutine_fn co_open_parts(Qcow2 *q, Options *o, int flags, GError **errp)
{
    g_autofree char *id = opts_take_str(o, "snapshot.id");
    g_autofree char *name = opts_take_str(o, "snapshot.name");
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
    qcow2_show_length(q, q->hdr.size);
    publish_backing(q);
    ret = qcow2_crypt_co_open(q, o, flags, errp);
    ret = ret < 0 ? ret : qcow2_options_take(&q->geo, o, flags, &opt, errp);
    ret = ret < 0
              ? ret
              : qcow2_compress_check_level(q->hdr.compression_type, opt.compression_level, errp);
    ret = ret < 0 ? ret : co_open_data_file(q, o, flags, errp);
    ret = ret < 0 ? ret : make_parts(q, &opt, errp);
    ret = ret < 0 ? ret : qcow2_l1_co_load(q, errp);
    ret = ret < 0 ? ret : co_load_reftable(q, errp);
    ret = ret < 0 ? ret : co_load_snapshots(q, errp);
    ret = ret < 0 || (flags & BLK_O_CHECK) ? ret
                                           : qcow2_inactive_l2_co_load(q, opt.overlap_kinds, errp);
    ret = ret < 0 ? ret : co_show_snapshot(q, id, name, errp);
    if (ret < 0) {
        return ret;
    }
    atomic_store(&q->health.corrupt, (q->hdr.incompatible & QCOW2_INCOMPAT_CORRUPT) != 0);
    qcow2_open_apply_options(q, &opt);
    return q->bs->read_only || (flags & BLK_O_CHECK) ? 0 : qcow2_change_co_start(q, errp);
}

int coroutine_fn qcow2_co_open(BlockDriverState *bs, Options *options, int flags, GError **errp)
{
    Qcow2 *q = bs->opaque;
    int ret;

    q->bs = bs;
    co_mutex_init(&q->alloc.meta_lock);
    co_mutex_init(&q->flush_lock);
    co_mutex_init(&q->start_lock);
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
    bs->warning = open_warning(q);
    return 0;
}

int coroutine_fn qcow2_open_co_finish_writing(Qcow2 *q)
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
    ret = qcow2_track_co_finish(q);
    ret = ret < 0 ? ret : qcow2_flush_co_all(q);
    if (ret == 0 && ((q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY) || q->stays_dirty)) {
        /* What a snapshot left wrong is put right now, as the next writer would do it. It stays
         * dirty if that fails. */
        ret = q->stays_dirty ? qcow2_rebuild_co_refcounts(q, NULL) : qcow2_dirty_co_clear(q);
    }
    return ret < 0 ? ret : qcow2_tail_co_finish(q); /* last: nothing depends on it */
}

int coroutine_fn qcow2_co_close(BlockDriverState *bs)
{
    Qcow2 *q = bs->opaque;
    int ret = 0;

    if (!q->bs) {
        return 0; /* never opened whole */
    }
    if (!bs->read_only && !(bs->open_flags & BLK_O_CHECK)) {
        ret = qcow2_open_co_finish_writing(q);
    }
    free_state(q);
    q->bs = NULL;
    return ret;
}

/* ---- An image that was remade ---- */

/* The fields that a remake changes. */
static void copy_fields(Qcow2Header *to, const Qcow2Header *from)
{
    to->cluster_bits = from->cluster_bits;
    to->l1_size = from->l1_size;
    to->l1_offset = from->l1_offset;
    to->reftable_offset = from->reftable_offset;
    to->reftable_clusters = from->reftable_clusters;
    to->snapshots_offset = from->snapshots_offset;
    to->bitmap_dir_offset = from->bitmap_dir_offset;
    to->crypto_offset = from->crypto_offset;
    to->incompatible = from->incompatible;
    to->refcount_order = from->refcount_order;
    to->compression_type = from->compression_type;
}

static int coroutine_fn co_load_beside(Qcow2 *n, int flags, const Qcow2Options *opt, GError **errp)
{
    bool to_mark; /* as before: bitmaps do not change */
    int ret = make_parts(n, opt, errp);

    ret = ret < 0 ? ret : qcow2_l1_co_load(n, errp);
    ret = ret < 0 ? ret : co_load_reftable(n, errp);
    ret = ret < 0 ? ret : qcow2_snapshot_co_load(n, errp);
    ret = ret < 0 ? ret : qcow2_inactive_l2_co_load(n, opt->overlap_kinds, errp);
    return ret < 0 ? ret : qcow2_bitmap_co_open(n, &to_mark, errp);
}

int coroutine_fn qcow2_open_co_beside(Qcow2 *q, const Qcow2Header *h, Qcow2 **ret_made,
                                      GError **errp)
{
    g_autoptr(Options) given = opts_copy(q->bs->options);
    Qcow2 *n = g_new0(Qcow2, 1);
    Qcow2Options opt;
    int ret;

    n->bs = q->bs;
    n->file = q->file;
    n->data = q->data;
    co_mutex_init(&n->alloc.meta_lock);
    qcow2_header_file_init(&n->header, n->file);
    qcow2_health_init(&n->health, n->bs, &n->header);
    ret = qcow2_header_co_read(n->file, &n->hdr, q->bs->open_flags, errp);
    if (ret == 0) {
        copy_fields(&n->hdr, h);
        init_geometry(n);
        ret = qcow2_options_take(&n->geo, given, q->bs->open_flags, &opt, errp);
    }
    ret = ret < 0 ? ret : co_load_beside(n, q->bs->open_flags, &opt, errp);
    if (ret < 0) {
        qcow2_open_free_beside(n);
        return ret;
    }
    *ret_made = n;
    return 0;
}

void qcow2_open_free_beside(Qcow2 *made)
{
    if (made) {
        free_state(made);
        g_free(made);
    }
}

#define SWAP(a, b)                                                                                 \
    do {                                                                                           \
        __typeof__(a) swapped = (a);                                                               \
        (a) = (b);                                                                                 \
        (b) = swapped;                                                                             \
    } while (0)

static void swap_allocators(Allocator *a, Allocator *b) UNCHECKED_LOCKS
{
    SWAP(a->metadata, b->metadata);
    SWAP(a->quarantine, b->quarantine);
    SWAP(a->reftable, b->reftable);
    SWAP(a->reftable_entries, b->reftable_entries);
    SWAP(a->ref_cache, b->ref_cache);
    a->free_hint = 0;
    a->compress_next = 0;
    qcow2_full_map_forget(&a->full);
    ORACLE(qcow2_oracle_counts_forget(a->oracle));
}

void coroutine_fn qcow2_open_co_take_over(Qcow2 *q, Qcow2 *made)
{
    g_autoptr(Options) given = opts_copy(q->bs->options);
    Qcow2Options opt;

    g_assert(qcow2_cache_dirty_bytes(q->l2_cache) == 0);
    g_assert(qcow2_cache_dirty_bytes(q->alloc.ref_cache) == 0);
    co_mutex_lock(&q->alloc.meta_lock);
    qcow2_clean_stop(q);
    /* (Taken once before, for the same geometry.) */
    (void)qcow2_options_take(&made->geo, given, q->bs->open_flags, &opt, NULL);
    SWAP(q->geo, made->geo);
    SWAP(q->hdr, made->hdr);
    SWAP(q->snapshots, made->snapshots);
    SWAP(q->l1, made->l1);
    SWAP(q->l1_size, made->l1_size);
    SWAP(q->l2_cache, made->l2_cache);
    SWAP(q->metadata, made->metadata);
    SWAP(q->pin, made->pin);
    SWAP(q->quarantine, made->quarantine);
    SWAP(q->decompressed, made->decompressed);
    SWAP(q->pack_order, made->pack_order);
    SWAP(q->cow_buffers, made->cow_buffers);
    SWAP(q->budget_taken, made->budget_taken);
    swap_allocators(&q->alloc, &made->alloc);
    qcow2_open_apply_options(q, &opt);
    atomic_fetch_add(&q->compressed_gen, 1);
    atomic_store(&q->preallocated, 0);
    atomic_store(&q->fresh_unsafe, true); /* what was cut off, or is free now, is not zero */
    co_mutex_unlock(&q->alloc.meta_lock);
    qcow2_open_free_beside(made);
}
