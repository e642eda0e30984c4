/* SPDX-License-Identifier: MIT */
/*
 * Check: the refcounts against the references that the tables hold; the COPIED flags against the
 * refcounts.  Reads the file, so what is cached is flushed first.  Nothing is changed.
 */
#include "check.h"

#include "refcount-codec.h"
#include "util/bytes.h"

#include <errno.h>

/* ---- The refcounts as they are on disk ---- */

typedef struct Counts {
    Check *c;
    uint8_t *block;
    uint64_t loaded; /* index of the loaded block, UINT64_MAX: none */
} Counts;

static int coroutine_fn co_count_of(Counts *n, uint64_t cluster, uint64_t *ret)
{
    Qcow2 *q = n->c->q;
    uint64_t b = cluster >> q->geo.refblock_bits;
    uint64_t e = b < q->reftable_entries ? q->reftable[b] & ~UINT64_C(511) : 0;

    *ret = 0;
    if (!e || geo_in_cluster(&q->geo, e) || e >> q->geo.cluster_bits >= n->c->map.clusters) {
        return 0;
    }
    if (n->loaded != b) {
        int r = check_co_read(n->c, e, q->geo.cluster_size, n->block, "refcount block");

        n->loaded = r < 0 ? UINT64_MAX : b;
        if (r < 0) {
            return r;
        }
    }
    *ret = refcount_entry_get(q->geo.refcount_order, n->block,
                              cluster & ((UINT64_C(1) << q->geo.refblock_bits) - 1));
    return 0;
}

static int coroutine_fn co_compare_one(Counts *n, uint64_t cluster)
{
    Check *c = n->c;
    uint64_t count, refs = refmap_get(&c->map, cluster);
    int ret = co_count_of(n, cluster, &count);

    if (ret < 0 || count == refs) {
        return ret;
    }
    check_report(c,
                 "%s cluster %" G_GUINT64_FORMAT " refcount=%" G_GUINT64_FORMAT
                 " reference=%" G_GUINT64_FORMAT,
                 count > refs ? "Leaked" : "ERROR", cluster, count, refs);
    if (count > refs) {
        c->res->leaks++;
    } else {
        c->res->corruptions++;
    }
    return 0;
}

int check_compare_keys(gconstpointer a, gconstpointer b)
{
    gsize x = GPOINTER_TO_SIZE(a), y = GPOINTER_TO_SIZE(b);

    return x < y ? -1 : x > y;
}

static int coroutine_fn co_compare(Counts *n)
{
    Check *c = n->c;
    g_autoptr(GList) beyond = g_list_sort(g_hash_table_get_keys(c->map.beyond), check_compare_keys);
    uint64_t end = 0;

    for (uint64_t i = 0; i < c->map.clusters; i++) {
        uint64_t count;

        if (co_compare_one(n, i) < 0) {
            continue;
        }
        co_count_of(n, i, &count);
        if (count || c->map.refs[i]) {
            end = i + 1;
        }
    }
    for (GList *l = beyond; l; l = l->next) {
        co_compare_one(n, GPOINTER_TO_SIZE(l->data));
        end = MAX(end, GPOINTER_TO_SIZE(l->data) + 1);
    }
    c->res->image_end_offset = (int64_t)(end << c->q->geo.cluster_bits);
    return 0;
}

/* ---- COPIED ---- */

static void coroutine_fn check_l2_copied(Counts *n, const uint8_t *table)
{
    Check *c = n->c;
    const Geometry *g = &c->q->geo;

    for (unsigned i = 0; i < 1u << g->l2_bits; i++) {
        L2Entry e = l2_load(g, table, i);
        uint64_t count;

        if ((e.desc & L2E_COMPRESSED) || !l2_has_host(g, e) || g->external_data ||
            co_count_of(n, l2_host(g, e) >> g->cluster_bits, &count) < 0) {
            continue;
        }
        if ((count == 1) != l2_copied(e)) {
            check_report(c,
                         "ERROR OFLAG_COPIED data cluster: l2_entry=%" G_GINT64_MODIFIER
                         "x refcount=%" G_GUINT64_FORMAT,
                         e.desc, count);
            c->res->corruptions++;
        }
    }
}

static int coroutine_fn co_check_copied(Counts *n)
{
    Check *c = n->c;
    Qcow2 *q = c->q;
    g_autofree uint8_t *table = g_try_malloc(q->geo.cluster_size);
    g_autoptr(GHashTable) seen =
        g_hash_table_new(NULL, NULL); /* a table that many entries name is walked once */

    if (!table) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < q->l1_size; i++) {
        uint64_t e = atomic_load(&q->l1[i]), off = e & QCOW2_OFFSET_MASK, count;

        if (!off || geo_in_cluster(&q->geo, off) ||
            co_count_of(n, off >> q->geo.cluster_bits, &count) < 0) {
            continue;
        }
        if ((count == 1) != ((e & L2E_COPIED) != 0)) {
            check_report(c,
                         "ERROR OFLAG_COPIED L2 cluster: l1_index=%u l1_entry=%" G_GINT64_MODIFIER
                         "x refcount=%" G_GUINT64_FORMAT,
                         i, e, count);
            c->res->corruptions++;
        }
        if (off >> q->geo.cluster_bits < c->map.clusters &&
            g_hash_table_add(seen, GSIZE_TO_POINTER(off)) &&
            check_co_read(c, off, q->geo.cluster_size, table, "check_oflag_copied") == 0) {
            check_l2_copied(n, table);
        }
    }
    return 0;
}

/* ---- */

int coroutine_fn qcow2_co_check(BlockDriverState *bs, BlockCheckResult *res, unsigned fix,
                                BlockReportFunc *report, void *opaque)
{
    Qcow2 *q = bs->opaque;
    Check c = { .q = q, .res = res, .report = report, .opaque = opaque };
    Counts n = { .c = &c, .loaded = UINT64_MAX };
    int64_t length;
    int ret = 0;

    if (fix) {
        return -ENOTSUP;
    }
    if (!bs->read_only) {
        ret = qcow2_co_settle(q);
    }
    length = bdrv_co_getlength(q->file->bs);
    if (ret < 0 || length < 0) {
        return ret < 0 ? ret : (int)length;
    }
    res->total_clusters = (int64_t)geo_clusters(&q->geo, q->hdr.size);
    n.block = g_try_malloc(q->geo.cluster_size);
    ret = n.block ? refmap_init(&c.map, q, length) : -ENOMEM;
    ret = ret < 0 ? ret : check_co_count_references(&c);
    ret = ret < 0 ? ret : co_compare(&n);
    ret = ret < 0 ? ret : co_check_copied(&n);
    refmap_clear(&c.map);
    g_free(n.block);
    return ret;
}
