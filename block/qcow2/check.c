/* SPDX-License-Identifier: MIT */
/*
 * Check: the refcounts against the references that the tables hold; the COPIED flags against the
 * refcounts.  Reads the file, so what is cached is flushed first.  Nothing is changed.
 *
 * Each refcount block is read once and in order, then each L2 table once; what does not fit into
 * memory, or is found damaged, is read a second time.
 */
#include "check.h"

#include "callbacks.h"
#include "flush.h"

#include "util/bytes.h"

#include <errno.h>

/* ---- Counts and references ---- */

static int coroutine_fn co_compare_one(CheckCounts *n, uint64_t cluster, uint64_t *ret_count)
{
    Check *c = n->c;
    uint64_t count, refs = qcow2_check_refmap_get(&c->map, cluster);
    int ret = qcow2_check_counts_co_get(n, cluster, &count);

    *ret_count = count;
    if (ret < 0 || count == refs) {
        return ret;
    }
    qcow2_check_report(c,
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

static int coroutine_fn co_compare(CheckCounts *n)
{
    Check *c = n->c;
    g_autoptr(GList) beyond =
        g_list_sort(g_hash_table_get_keys(c->map.beyond), qcow2_check_compare_keys);
    uint64_t end = 0, count;

    for (uint64_t i = 0; i < c->map.clusters; i++) {
        if (co_compare_one(n, i, &count) == 0 && (count || c->map.refs[i])) {
            end = i + 1;
        }
    }
    for (GList *l = beyond; l; l = l->next) {
        co_compare_one(n, GPOINTER_TO_SIZE(l->data), &count);
        end = MAX(end, GPOINTER_TO_SIZE(l->data) + 1);
    }
    c->res->image_end_offset = (int64_t)(end << c->q->geo.cluster_bits);
    return 0;
}

/* ---- COPIED ---- */

static void coroutine_fn check_l2_copied(CheckCounts *n, const uint8_t *table)
{
    Check *c = n->c;
    const Geometry *g = &c->q->geo;

    for (unsigned i = 0; i < 1u << g->l2_bits; i++) {
        L2Entry e = qcow2_l2_load(g, table, i);
        uint64_t count;

        if (!qcow2_check_counts_copied_is_suspect(n, e) ||
            qcow2_check_counts_co_get(n, qcow2_l2_host(g, e) >> g->cluster_bits, &count) < 0) {
            continue;
        }
        if ((count == 1) != qcow2_l2_copied(e)) {
            qcow2_check_report(c,
                               "ERROR OFLAG_COPIED data cluster: l2_entry=%" G_GINT64_MODIFIER
                               "x refcount=%" G_GUINT64_FORMAT,
                               e.desc, count);
            c->res->corruptions++;
        }
    }
}

/* The flags of L1, and of the L2 tables in which one does not fit what was counted, or lies past
 * the end of the file: a sound image's tables are not read again. */
static int coroutine_fn co_check_copied(CheckCounts *n)
{
    Check *c = n->c;
    Qcow2 *q = c->q;
    g_autofree uint8_t *table = g_try_malloc(q->geo.cluster_size);

    if (!table) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < q->l1_size; i++) {
        uint64_t e = atomic_load(&q->l1[i]), off = e & QCOW2_OFFSET_MASK, count;

        if (!off || geo_in_cluster(&q->geo, off)) {
            continue;
        }
        if (qcow2_check_counts_is_suspect(n, off, e & L2E_COPIED) &&
            qcow2_check_counts_co_get(n, off >> q->geo.cluster_bits, &count) == 0 &&
            (count == 1) != ((e & L2E_COPIED) != 0)) {
            qcow2_check_report(
                c,
                "ERROR OFLAG_COPIED L2 cluster: l1_index=%u l1_entry=%" G_GINT64_MODIFIER
                "x refcount=%" G_GUINT64_FORMAT,
                i, e, count);
            c->res->corruptions++;
        }
        if (g_hash_table_remove(c->suspects, GSIZE_TO_POINTER(off)) && /* once, whoever names it */
            qcow2_check_co_read(c, off, q->geo.cluster_size, table, "check_oflag_copied") == 0) {
            check_l2_copied(n, table);
        }
    }
    return 0;
}

/* ---- */

static int coroutine_fn co_check_all(Check *c, CheckCounts *n)
{
    int ret;

    qcow2_check_counts_co_load(n);
    ret = qcow2_check_tables_co_count(c);
    ret = ret < 0 ? ret : co_compare(n);
    return ret < 0 ? ret : co_check_copied(n);
}

int coroutine_fn qcow2_co_check(BlockDriverState *bs, BlockCheckResult *res, unsigned fix,
                                BlockReportFunc *report, void *opaque)
{
    Qcow2 *q = bs->opaque;
    Check c = { .q = q, .res = res, .report = report, .opaque = opaque };
    CheckCounts n = { .c = &c };
    int64_t length;
    int ret = 0;

    if (fix) {
        return -ENOTSUP;
    }
    if (!bs->read_only) {
        ret = qcow2_flush_co_all(q);
    }
    length = bdrv_co_getlength(q->file->bs);
    if (ret < 0 || length < 0) {
        return ret < 0 ? ret : (int)length;
    }
    res->total_clusters = (int64_t)geo_clusters(&q->geo, q->hdr.size);
    c.counts = &n;
    c.suspects = g_hash_table_new(NULL, NULL);
    ret = qcow2_check_refmap_init(&c.map, q, length);
    ret = ret < 0 ? ret : qcow2_check_counts_init(&n, &c);
    ret = ret < 0 ? ret : co_check_all(&c, &n);
    qcow2_check_counts_clear(&n);
    qcow2_check_refmap_clear(&c.map);
    g_hash_table_unref(c.suspects);
    return ret;
}
