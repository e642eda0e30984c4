/* SPDX-License-Identifier: MIT */
/*
 * The flags of L1, and of the L2 tables in which one does not fit what was counted, or lies past
 * the end of the file: a sound image's tables are not read again.
 */
#include "repair.h"

#include <errno.h>

/* A flag that is wrong: told, and counted. */
static void G_GNUC_PRINTF(3, 4) tell(Check *c, bool repair, const char *fmt, ...)
{
    g_autofree char *line = NULL;
    va_list ap;

    va_start(ap, fmt);
    line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    qcow2_check_report(c, "%s OFLAG_COPIED %s", repair ? "Repairing" : "ERROR", line);
    *(repair ? &c->res->corruptions_fixed : &c->res->corruptions) += 1;
}

static int coroutine_fn co_change_l2(Qcow2 *q, uint64_t at, uint64_t bytes, const uint8_t *entries)
{
    int ret = qcow2_repair_co_mark(q);

    return ret < 0 ? ret : qcow2_repair_co_write(q, at, bytes, entries);
}

/* The sectors of @table with wrong flags. */
static int coroutine_fn co_check_l2(Check *c, uint64_t at, uint64_t guest, uint8_t *table,
                                    bool repair)
{
    const Geometry *g = &c->q->geo;
    uint64_t first = g->cluster_size, end = 0;

    for (unsigned i = 0; i < 1u << g->l2_bits; i++) {
        L2Entry e = qcow2_l2_load(g, table, i);
        uint64_t count, place = (uint64_t)i * g->l2_entry_size;

        if (!qcow2_check_counts_copied_is_suspect(c->counts, e) ||
            qcow2_check_counts_co_get(c->counts, qcow2_l2_host(g, e) >> g->cluster_bits, &count) <
                0 ||
            (count == 1) == qcow2_l2_copied(e)) {
            continue;
        }
        tell(c, repair,
             "data cluster: l2_entry=%" G_GINT64_MODIFIER "x refcount=%" G_GUINT64_FORMAT, e.desc,
             count);
        qcow2_check_found(c, "OFLAG_COPIED", guest + ((uint64_t)i << g->cluster_bits),
                          g->cluster_size, repair ? "kept (its flag corrected)" : NULL);
        e.desc ^= L2E_COPIED;
        qcow2_l2_store(g, table, i, e);
        first = MIN(first, ALIGN_DOWN(place, UINT64_C(512)));
        end = ALIGN_UP(place + 1, UINT64_C(512));
    }
    return repair && end ? co_change_l2(c->q, at + first, end - first, table + first) : 0;
}

static int coroutine_fn co_check_l1(Check *c, uint32_t i, uint64_t e, bool repair)
{
    uint64_t off = e & QCOW2_OFFSET_MASK, count;
    int ret;

    if (!qcow2_check_counts_is_suspect(c->counts, off, e & L2E_COPIED) ||
        qcow2_check_counts_co_get(c->counts, off >> c->q->geo.cluster_bits, &count) < 0 ||
        (count == 1) == ((e & L2E_COPIED) != 0)) {
        return 0;
    }
    tell(c, repair,
         "L2 cluster: l1_index=%u l1_entry=%" G_GINT64_MODIFIER "x refcount=%" G_GUINT64_FORMAT, i,
         e, count);
    qcow2_check_found(c, "OFLAG_COPIED of an L2 table", geo_l1_start(&c->q->geo, i),
                      geo_l1_start(&c->q->geo, 1), repair ? "kept (its flag corrected)" : NULL);
    if (!repair) {
        return 0;
    }
    ret = qcow2_repair_co_mark(c->q);
    return ret < 0 ? ret : qcow2_repair_co_set_l1(c->q, i, e ^ L2E_COPIED);
}

int coroutine_fn qcow2_check_copied_co_run(Check *c, bool repair)
{
    Qcow2 *q = c->q;
    g_autofree uint8_t *table = g_try_malloc(q->geo.cluster_size);
    int ret = table ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < q->l1_size && ret == 0; i++) {
        uint64_t e = atomic_load(&q->l1[i]), off = e & QCOW2_OFFSET_MASK;

        if (!off || geo_in_cluster(&q->geo, off)) {
            continue;
        }
        ret = co_check_l1(c, i, e, repair);
        if (ret == 0 &&
            g_hash_table_remove(c->suspects, GSIZE_TO_POINTER(off)) && /* once, whoever names it */
            qcow2_check_co_read(c, off, q->geo.cluster_size, table, "check_oflag_copied") == 0) {
            ret = co_check_l2(c, off, geo_l1_start(&q->geo, i), table, repair);
        }
    }
    return ret;
}
