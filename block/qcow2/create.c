/* SPDX-License-Identifier: MIT */
/*
 * Creating an image.  Order: refcounts and tables, sync, then the header: until it is there, the
 * file is no qcow2 image.  Layout: header, refcount table, refcount blocks, LUKS header, L1 table.
 */
#include "create.h"

#include "crypt.h"
#include "refcount-codec.h"
#include "rules.h"
#include "callbacks.h"
#include "header-io.h"
#include "measure.h"
#include "prealloc.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>

typedef struct Layout {
    uint64_t reftable_offset, reftable_clusters;
    uint64_t refblock_offset, refblocks;
    uint64_t crypto_offset, crypto_bytes;
    uint64_t l1_offset, l1_entries;
    uint64_t clusters; /* all of it */
} Layout;

/* Clusters of the refcount table at first: with preallocation it never has to grow. */
static uint64_t first_reftable(const Geometry *g, const Qcow2CreateParams *p, uint64_t crypto)
{
    uint64_t data = g->external_data ? 0 : geo_clusters(g, p->size), clusters, bytes;

    if (p->prealloc == BLK_PREALLOC_OFF) {
        return 1;
    }
    clusters = qcow2_measure_clusters(g, p->size, geo_l1_entries(g, p->size), crypto + data);
    bytes = DIV_ROUND_UP(clusters, UINT64_C(1) << g->refblock_bits) * 8;
    return MAX(geo_clusters(g, MIN(bytes, QCOW2_MAX_REFTABLE_BYTES)), 1);
}

static void plan_layout(const Geometry *g, const Qcow2CreateParams *p, uint64_t crypto_bytes,
                        Layout *l)
{
    uint64_t l1_clusters, crypto_clusters = geo_clusters(g, crypto_bytes);

    l->l1_entries = geo_l1_entries(g, p->size);
    l1_clusters = geo_clusters(g, l->l1_entries * 8);
    l->refblocks = 1;
    l->reftable_clusters = first_reftable(g, p, crypto_clusters);
    for (;;) {
        uint64_t blocks, tables;

        l->clusters = 1 + l->reftable_clusters + l->refblocks + crypto_clusters + l1_clusters;
        blocks = DIV_ROUND_UP(l->clusters, UINT64_C(1) << g->refblock_bits);
        tables = geo_clusters(g, blocks * 8);
        if (blocks <= l->refblocks && tables <= l->reftable_clusters) {
            break;
        }
        l->refblocks = MAX(l->refblocks, blocks);
        l->reftable_clusters = MAX(l->reftable_clusters, tables);
    }
    l->reftable_offset = g->cluster_size;
    l->refblock_offset = l->reftable_offset + (l->reftable_clusters << g->cluster_bits);
    l->crypto_offset = l->refblock_offset + (l->refblocks << g->cluster_bits);
    l->crypto_bytes = crypto_bytes;
    l->l1_offset = l->crypto_offset + (crypto_clusters << g->cluster_bits);
}

/* Refcount table and blocks, in one buffer. */
static int coroutine_fn co_write_refcounts(BdrvChild *file, const Geometry *g, const Layout *l)
{
    uint64_t bytes = l->crypto_offset - l->reftable_offset;
    uint64_t blocks = l->reftable_clusters << g->cluster_bits;
    uint8_t *buf = bdrv_try_blockalign(file->bs, bytes);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, bytes);
    for (uint64_t i = 0; i < l->refblocks; i++) {
        stbe64(buf + i * 8, l->refblock_offset + (i << g->cluster_bits));
    }
    /* The blocks lie one after the other, so their entries are one array. */
    for (uint64_t i = 0; i < l->clusters; i++) {
        qcow2_refcount_codec_set(g->refcount_order, buf + blocks, i, 1);
    }
    ret = bdrv_co_pwrite(file, (int64_t)l->reftable_offset, (int64_t)bytes, buf, 0);
    mem_align_free(buf);
    return ret;
}

/* The LUKS header with the first passphrase's key slot. */
static int coroutine_fn co_write_crypto(BdrvChild *file, const Qcow2CreateParams *p,
                                        const Layout *l, GError **errp)
{
    g_autofree uint8_t *head = NULL;
    int ret;

    if (!l->crypto_bytes) {
        return 0;
    }
    ret = crypt_create_co_format(p->crypt, &head, errp);
    if (ret == 0) {
        ret = bdrv_co_pwrite(file, (int64_t)l->crypto_offset, (int64_t)l->crypto_bytes, head, 0);
        ret = ret < 0 ? error_set_errno(errp, ret, "Could not write encryption header") : 0;
    }
    return ret;
}

static void fill_header(const Qcow2CreateParams *p, const Geometry *g, const Layout *l,
                        Qcow2Header *h)
{
    memset(h, 0, sizeof(*h));
    h->version = (uint32_t)p->version;
    h->cluster_bits = g->cluster_bits;
    h->size = p->size;
    h->l1_size = (uint32_t)l->l1_entries;
    h->l1_offset = l->l1_entries ? l->l1_offset : 0;
    h->reftable_offset = l->reftable_offset;
    h->reftable_clusters = (uint32_t)l->reftable_clusters;
    h->refcount_order = g->refcount_order;
    h->compression_type = (uint8_t)p->compression;
    h->compression_level = (uint32_t)p->compression_level;
    h->incompatible = (p->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0) |
                      (p->compression ? QCOW2_INCOMPAT_COMPRESSION : 0) |
                      (p->extended_l2 ? QCOW2_INCOMPAT_EXTL2 : 0);
    h->compatible = p->lazy_refcounts ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0;
    h->autoclear = p->data_file_raw ? QCOW2_AUTOCLEAR_DATA_RAW : 0;
    if (p->crypt) {
        h->crypt_method = crypt_create_is_luks(p->crypt) ? QCOW2_CRYPT_LUKS : QCOW2_CRYPT_AES;
    }
    if (l->crypto_bytes) {
        h->crypto_offset = l->crypto_offset;
        h->crypto_length = l->crypto_bytes;
    }
    h->backing_file = g_strdup(p->backing_file);
    h->backing_format = g_strdup(p->backing_format);
    h->data_file = g_strdup(p->data_file);
}

/* Geometry and layout of the image; nothing is made yet if it cannot be. */
static int plan_image(const Qcow2CreateParams *p, Geometry *g, Layout *l, GError **errp)
{
    qcow2_geometry_init(g, p->version, p->cluster_bits, p->refcount_order, p->extended_l2,
                        p->data_file != NULL, p->data_file_raw);
    if (geo_l1_entries(g, p->size) > QCOW2_MAX_L1_BYTES / 8 || p->size > INT64_MAX) {
        return error_set(errp, EFBIG,
                         "The image size is too large for file format 'qcow2' (try using a "
                         "larger cluster size)");
    }
    plan_layout(g, p, p->crypt ? crypt_create_bytes(p->crypt) : 0, l);
    return 0;
}

static int coroutine_fn co_write_image(BdrvChild *file, const Qcow2CreateParams *p,
                                       const Geometry *g, const Layout *l, GError **errp)
{
    Qcow2Header h;
    int ret;

    fill_header(p, g, l, &h);
    ret = bdrv_co_truncate(file, (int64_t)(l->l1_offset + l->l1_entries * 8), false,
                           BLK_PREALLOC_OFF, 0, errp);
    if (ret == 0 &&
        !bdrv_unwritten_reads_zero(file->bs)) { /* a device holds what was there before */
        ret = bdrv_co_pwrite_zeroes(file, 0, (int64_t)(l->l1_offset + l->l1_entries * 8), 0);
        if (ret < 0) {
            error_set_errno(errp, ret, "Could not clear the tables");
        }
    }
    ret = ret < 0 ? ret : co_write_crypto(file, p, l, errp);
    if (ret == 0) {
        ret = co_write_refcounts(file, g, l);
        ret = ret < 0 || RULE_BROKEN(CREATE_HEADER_LAST) ? ret : bdrv_co_flush(file->bs);
        ret = ret < 0 ? ret : qcow2_header_co_write_new(file, &h);
        ret = ret < 0 ? ret : bdrv_co_flush(file->bs);
        if (ret == -ENOSPC && h.backing_file) {
            error_set_errno(errp, ENOSPC, "Could not assign backing file '%s' with format '%s'",
                            h.backing_file, h.backing_format ? h.backing_format : "");
        } else if (ret < 0) {
            error_set_errno(errp, ret, "Could not write the image's metadata");
        }
    }
    qcow2_header_clear(&h);
    return ret;
}

/* The data file as it was created: an image's own word for it is a plain file, whatever it looks
 * like. */
static void name_data_file(Options *o, const char *data_file)
{
    const BlockDriver *drv = bdrv_find_protocol(data_file);

    if (drv && drv->protocol_name && strcmp(drv->protocol_name, "file")) {
        opts_set(o, "data-file.driver", drv->format_name);
        opts_set(o, "data-file.filename", data_file);
    }
}

/* Entries will show what a device that is the data file held before. */
static int coroutine_fn co_clear_data_file(Qcow2 *q, uint64_t size, GError **errp)
{
    int ret = 0;

    if (size && q->geo.external_data && !bdrv_unwritten_reads_zero(q->data->bs)) {
        ret = bdrv_co_pwrite_zeroes(q->data, 0, (int64_t)size, BLK_REQ_MAY_UNMAP);
    }
    return ret < 0 ? error_set_errno(errp, ret, "Could not clear the data file") : 0;
}

/* Through the driver itself: reserve the clusters. */
static int coroutine_fn co_preallocate(const char *filename, const Qcow2CreateParams *p,
                                       Secrets *secrets, GError **errp)
{
    Options *o;
    BdrvChild *root;
    int ret, close_ret;

    if (p->prealloc == BLK_PREALLOC_OFF) {
        return 0;
    }
    o = opts_new();
    opts_set(o, "driver", "qcow2");
    if (p->key_secret) {
        opts_set(o, "encrypt.key-secret", p->key_secret);
        opts_set_secrets(o, secrets);
    }
    if (p->data_file) {
        name_data_file(o, p->data_file);
    }
    /* With all its syncs: the image is one from its header on, and power may fail while this goes
     * on. */
    root = bdrv_co_open_root(filename, o,
                             BLK_O_RDWR | BLK_O_RESIZE | BLK_O_NO_BACKING |
                                 (RULE_BROKEN(CREATE_PREALLOC_SYNCED) ? BLK_O_NO_FLUSH : 0),
                             errp);
    if (!root) {
        return -EINVAL;
    }
    ret = co_clear_data_file(root->bs->opaque, p->size, errp);
    if (ret == 0) {
        ret = qcow2_prealloc_co_may_reserve(root->bs->opaque, p->prealloc, errp);
        ret = ret < 0 ? ret
                      : qcow2_prealloc_co_reserve(root->bs->opaque, 0, p->size, p->prealloc, errp);
        if (ret < 0) {
            g_prefix_error(errp, "Could not resize image: ");
        }
    }
    if (ret == 0) {
        ret = bdrv_co_flush(root->bs);
        if (ret < 0) {
            error_set_errno(errp, ret, "Could not preallocate metadata");
        }
    }
    close_ret = bdrv_co_close_child(root);
    if (ret == 0 && close_ret < 0) {
        ret = error_set_errno(errp, close_ret, "Could not preallocate metadata");
    }
    return ret;
}

/* The external data file: as long as the disk, and with its space taken if that is wanted. */
static int coroutine_fn co_create_data_file(const Qcow2CreateParams *p, GError **errp)
{
    g_autoptr(Options) o = opts_new();

    opts_set_int(o, "size", (int64_t)p->size);
    if (p->prealloc == BLK_PREALLOC_FALLOC || p->prealloc == BLK_PREALLOC_FULL) {
        opts_set(o, "preallocation", blk_prealloc_names[p->prealloc]);
    }
    return bdrv_co_create_file(p->data_file, o, errp);
}

/* With the image's file made. It stays open, and so locked, while the data file is made: that
 * cannot be the same one. *@data_made: there is a data file to take back. */
static int coroutine_fn co_fill_image(const char *filename, const Qcow2CreateParams *p,
                                      const Geometry *g, const Layout *l, Secrets *secrets,
                                      bool *data_made, GError **errp)
{
    BdrvChild *file =
        bdrv_co_open_root(filename, NULL, BLK_O_RDWR | BLK_O_RESIZE | BLK_O_PROTOCOL, errp);
    int ret = 0, close_ret;

    if (!file) {
        return -EINVAL;
    }
    if (p->data_file) {
        ret = co_create_data_file(p, errp);
        *data_made = ret > 0;
    }
    ret = ret < 0 ? ret : co_write_image(file, p, g, l, errp);
    close_ret = bdrv_co_close_child(file);
    if (ret == 0 && close_ret < 0) {
        ret = error_set_errno(errp, close_ret, "Could not write the image's metadata");
    }
    return ret < 0 ? ret : co_preallocate(filename, p, secrets, errp);
}

int coroutine_fn qcow2_co_create(const char *filename, Options *opts, GError **errp)
{
    bool data_made = false;
    Qcow2CreateParams p;
    Geometry g;
    Layout l = { 0 };
    int ret = qcow2_create_options_take(opts, &p, errp);

    ret = ret < 0 ? ret : plan_image(&p, &g, &l, errp);
    opts_set_int(opts, "size", 0); /* the file itself begins empty */
    ret = ret < 0 ? ret : bdrv_co_create_file(filename, opts, errp);
    if (ret >= 0) {
        bool made = ret > 0;

        ret = co_fill_image(filename, &p, &g, &l, opts_secrets(opts), &data_made, errp);
        if (ret < 0 && made) { /* what is there is no image; what was there stays, emptied */
            bdrv_co_remove_file(filename);
        }
        if (ret < 0 && data_made) {
            bdrv_co_remove_file(p.data_file);
        }
    }
    qcow2_create_options_clear(&p);
    return ret;
}
