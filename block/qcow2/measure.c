/* SPDX-License-Identifier: MIT */
/*
 * How long the file of a new image will be: pure arithmetic over the geometry, and one walk over
 * the status of what is to be copied.
 *
 * A file holds the header, the L1 table, L2 tables, data, and what counts all of these and itself:
 * refcount blocks and their table. Options are looked at as the reference's measure does: what only
 * the creation would refuse is not refused here.
 */
#include "callbacks.h"
#include "create.h"
#include "measure.h"

#include <errno.h>
#include <string.h>

typedef struct Measure {
    Geometry geo;
    bool all; /* every cluster has its place from the start, or may be needed */
    bool data_elsewhere;
    BlockPrealloc prealloc;
    uint64_t crypto;          /* clusters of the encryption's header */
    uint64_t size;            /* of the disk */
    uint64_t data, l2_tables; /* clusters that the source needs; L2 tables over these */
} Measure;

static int take_version(Options *o, int *version, GError **errp)
{
    g_autofree char *v = opts_take_str(o, "compat");

    if (v && strcmp(v, "1.1") && strcmp(v, "v3") && strcmp(v, "0.10") && strcmp(v, "v2")) {
        return error_set(errp, EINVAL, "Invalid compatibility level: '%s'", v);
    }
    *version = v && (!strcmp(v, "0.10") || !strcmp(v, "v2")) ? 2 : 3;
    return 0;
}

static int take_refcount_bits(Options *o, int version, unsigned *order, GError **errp)
{
    int ret = qcow2_create_options_refcount_order(o, 16, order, errp);

    if (ret == 0 && *order != 4 && version < 3) {
        return error_set(errp, EINVAL,
                         "Different refcount widths than 16 bits require compatibility level 1.1 "
                         "or above (use compat=1.1 or greater)");
    }
    return ret;
}

static int take_prealloc(Options *o, BlockPrealloc *prealloc, GError **errp)
{
    g_autofree char *v = opts_take_str(o, "preallocation");

    *prealloc = BLK_PREALLOC_OFF;
    for (int i = 0; v && blk_prealloc_names[i]; i++) {
        if (!strcmp(v, blk_prealloc_names[i])) {
            *prealloc = (BlockPrealloc)i;
            return 0;
        }
    }
    return v ? error_set(errp, EINVAL, "invalid parameter value: %s", v) : 0;
}

static int take_geometry(Options *o, Geometry *g, GError **errp)
{
    bool extended, raw;
    unsigned bits, order = 4;
    int version = 3, ret = qcow2_create_options_cluster_bits(o, &bits, errp);

    if (ret < 0 || !opts_take_bool(o, "extended_l2", false, &extended, errp) ||
        !opts_take_bool(o, "data_file_raw", false, &raw, errp)) {
        return -EINVAL;
    }
    if (extended && bits < QCOW2_EXTL2_MIN_CLUSTER_BITS) {
        return error_set(errp, EINVAL,
                         "Extended L2 entries are only supported with cluster sizes of at least "
                         "%u bytes",
                         1u << QCOW2_EXTL2_MIN_CLUSTER_BITS);
    }
    ret = take_version(o, &version, errp);
    ret = ret < 0 ? ret : take_refcount_bits(o, version, &order, errp);
    if (ret == 0) {
        qcow2_geometry_init(g, version, bits, order, extended, opts_has(o, "data_file"), raw);
    }
    return ret;
}

/* What the creation would refuse of legacy encryption is no matter: it takes no room. */
static int take_encryption(Options *o, Measure *m, GError **errp)
{
    g_autoptr(Options) sub = opts_take_subtree(o, "encrypt");
    g_autofree char *format = opts_take_str(sub, "format");
    g_autoptr(CryptCreate) c = NULL;

    if (g_strcmp0(format, "luks")) {
        return 0;
    }
    c = crypt_create_take(sub, opts_secrets(o), true, "encrypt.", false, errp);
    if (!c) {
        return -EINVAL;
    }
    m->crypto = geo_clusters(&m->geo, crypt_create_bytes(c));
    return 0;
}

/* Clusters of refcount blocks and table for @n clusters and for themselves. */
static uint64_t refcount_clusters(const Geometry *g, uint64_t n)
{
    uint64_t blocks = 0, tables = 0, own = 0;

    do {
        own = blocks + tables;
        blocks = DIV_ROUND_UP(n + own, UINT64_C(1) << g->refblock_bits);
        tables = geo_clusters(g, blocks * 8);
    } while (blocks + tables > own);
    return own;
}

uint64_t qcow2_measure_clusters(const Geometry *g, uint64_t size, uint64_t l2_tables, uint64_t data)
{
    uint64_t n = 1 + geo_clusters(g, geo_l1_entries(g, size) * 8) + l2_tables + data;

    return n + refcount_clusters(g, n);
}

static uint64_t file_bytes(const Measure *m, uint64_t l2_tables, uint64_t data)
{
    return qcow2_measure_clusters(&m->geo, m->size, l2_tables, data) << m->geo.cluster_bits;
}

/* What of the run [@at, +@bytes) of data was not counted with the one before, which @next is past
 * of. */
static void count_run(Measure *m, uint64_t at, uint64_t bytes, uint64_t *next, uint64_t *next_table)
{
    const Geometry *g = &m->geo;
    uint64_t first = MAX(at >> g->cluster_bits, *next);
    uint64_t end = geo_clusters(g, at + bytes);

    if (first < end) {
        uint64_t table = MAX(first >> g->l2_bits, *next_table);

        m->data += end - first;
        m->l2_tables += ((end - 1) >> g->l2_bits) + 1 - table;
        *next = end;
        *next_table = ((end - 1) >> g->l2_bits) + 1;
    }
}

static int coroutine_fn count_source(Measure *m, BlockDriverState *src, GError **errp)
{
    uint64_t next = 0, next_table = 0;
    int64_t pnum, map, bytes = (int64_t)m->size;

    for (int64_t at = 0; at < bytes; at += pnum) {
        BlockDriverState *file;
        int ret = bdrv_co_block_status_above(src, NULL, at, bytes - at, &pnum, &map, &file, NULL);

        if (ret < 0) {
            return error_set_errno(errp, ret, "Unable to get block status");
        }
        if (!(ret & BLK_ZERO) && (ret & BLK_DATA) && (ret & BLK_ALLOCATED)) {
            count_run(m, (uint64_t)at, (uint64_t)pnum, &next, &next_table);
        }
    }
    return 0;
}

/* Bytes of one bitmap: its bits, their table, its entry in the directory. */
static uint64_t bitmap_bytes(const Geometry *g, uint64_t size, uint64_t granularity,
                             const char *name, uint64_t *dir)
{
    uint64_t bits = DIV_ROUND_UP(size, granularity);
    uint64_t clusters = geo_clusters(g, DIV_ROUND_UP(bits, 8));

    *dir += ALIGN_UP(24 + strlen(name), 8);
    return (clusters + geo_clusters(g, clusters * 8)) << g->cluster_bits;
}

/* Those that @src has; -1: it can have none. */
static int64_t measure_bitmaps(const Measure *m, BlockDriverState *src, uint64_t size)
{
    g_autoptr(Options) info = NULL;
    uint64_t bytes = 0, dir = 0;

    info = src->drv->get_specific_info(src, NULL);
    if (m->geo.version < 3 || !info || strcmp(src->drv->format_name, bdrv_qcow2.format_name) ||
        g_strcmp0(opts_peek(info, "compat"), "1.1")) {
        return -1;
    }
    for (unsigned i = 0;; i++) {
        g_autofree char *name = g_strdup_printf("bitmaps.%u.name", i);
        g_autofree char *key = g_strdup_printf("bitmaps.%u.granularity", i);
        uint64_t granularity;

        if (!opts_has(info, name) || !opts_take_size(info, key, 0, &granularity, NULL) ||
            granularity == 0) {
            break;
        }
        bytes += bitmap_bytes(&m->geo, size, granularity, opts_peek(info, name), &dir);
    }
    return (int64_t)(bytes + (geo_clusters(&m->geo, dir) << m->geo.cluster_bits));
}

static int coroutine_fn take_source(Measure *m, Options *opts, BlockDriverState *src,
                                    BlockMeasureInfo *info, GError **errp)
{
    int64_t length = src ? bdrv_co_getlength(src) : 0;

    if (length < 0) {
        return error_set_errno(errp, (int)length, "Unable to get image virtual_size");
    }
    if (!src && !opts_take_size(opts, "size", 0, &m->size, errp)) {
        return -EINVAL;
    }
    if (src) {
        m->size = (uint64_t)length;
        info->bitmaps = measure_bitmaps(m, src, m->size);
    }
    m->size = ALIGN_UP(m->size, UINT64_C(512));
    if (geo_l1_entries(&m->geo, m->size) > QCOW2_MAX_L1_BYTES / 8) {
        return error_set(errp, EFBIG,
                         "The image size is too large (try using a larger cluster size)");
    }
    return src && !m->all ? count_source(m, src, errp) : 0;
}

int coroutine_fn qcow2_co_measure(Options *opts, BlockDriverState *src, BlockMeasureInfo *info,
                                  GError **errp)
{
    Measure m = { 0 };
    uint64_t clusters, tables, full;
    int ret = take_geometry(opts, &m.geo, errp);

    ret = ret < 0 ? ret : take_prealloc(opts, &m.prealloc, errp);
    ret = ret < 0 ? ret : take_encryption(opts, &m, errp);
    if (ret < 0) {
        return ret;
    }
    /* What a backing file of the new image has of it is not known: at worst, nothing. */
    m.all = m.prealloc >= BLK_PREALLOC_FALLOC || (src && opts_has(opts, "backing_file"));
    ret = take_source(&m, opts, src, info, errp);
    if (ret < 0) {
        return ret;
    }
    clusters = geo_clusters(&m.geo, m.size);
    tables = geo_l1_entries(&m.geo, m.size);
    m.data = m.all ? clusters : m.data;
    full = file_bytes(&m, tables, clusters) + (m.crypto << m.geo.cluster_bits);
    info->fully_allocated = full;
    info->required = full - ((clusters - m.data) << m.geo.cluster_bits);
    if (m.all || m.prealloc == BLK_PREALLOC_METADATA || m.geo.data_raw) {
        m.data = clusters;
        m.l2_tables = tables;
    }
    info->exact = file_bytes(&m, m.l2_tables, m.crypto + (m.geo.external_data ? 0 : m.data));
    return 0;
}
