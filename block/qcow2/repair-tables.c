/* SPDX-License-Identifier: MIT */
/*
 * Entries of L1 and L2 tables that the count found bad, repaired in place: see repair.h.
 *
 * An L1 entry may name a cluster that is no L2 table at all but somebody's data: then what looks
 * like bad entries is data.  So a table that others use as something else is never written to; if
 * there are bad entries in it, it is the L1 entry that goes.
 */
#include "repair.h"

#include "snapshot.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>

typedef struct L1Place {
    uint64_t offset;
    uint32_t entries;
    bool active;
} L1Place;

/* ---- Which L1 tables there are ---- */

static GArray *list_l1(const Check *c)
{
    Qcow2 *q = c->q;
    GArray *list = g_array_new(FALSE, FALSE, sizeof(L1Place));
    L1Place active = { q->hdr.l1_offset, q->hdr.l1_size, true };
    uint64_t length = c->map.clusters << q->geo.cluster_bits, left = length;

    g_array_append_val(list, active);
    for (uint32_t i = 0; i < q->hdr.nb_snapshots; i++) {
        const Snapshot *s = &q->snapshots[i];
        L1Place p = { s->l1_offset, s->l1_size, false };

        if (s->l1_size && qcow2_snapshot_l1_sound(q, s, length) &&
            s->l1_size * UINT64_C(8) <= left) {
            left -= s->l1_size * UINT64_C(8);
            g_array_append_val(list, p);
        }
    }
    return list;
}

/* ---- L1 ---- */

/* The place that an unaligned offset most likely was: nobody refers to it, and it has a count. It
 * is taken with that. */
static bool coroutine_fn co_take_leaked(Check *c, uint64_t offset)
{
    uint64_t cluster = offset >> c->q->geo.cluster_bits, count;

    if (!cluster || cluster >= c->map.clusters || qcow2_check_refmap_get(&c->map, cluster) ||
        qcow2_check_counts_co_get(c->counts, cluster, &count) < 0 || count == 0) {
        return false;
    }
    qcow2_check_refmap_set(&c->map, cluster, 1);
    return true;
}

typedef uint64_t coroutine_fn RepairL1(Check *c, uint64_t e, GHashTable *tables);

static uint64_t coroutine_fn co_mend_l1(Check *c, uint64_t e, GHashTable *tables)
{
    uint64_t table = e & QCOW2_OFFSET_MASK, fixed;
    gpointer key;

    fixed = qcow2_check_entry_repair_l1(
        c, e, geo_in_cluster(&c->q->geo, table) && co_take_leaked(c, table));
    if (qcow2_check_is_other_table(c, fixed & QCOW2_OFFSET_MASK)) {
        fixed = 0;
    }
    key = GSIZE_TO_POINTER(fixed & QCOW2_OFFSET_MASK);
    if (key) {
        g_hash_table_insert(
            tables, key, GSIZE_TO_POINTER(GPOINTER_TO_SIZE(g_hash_table_lookup(tables, key)) + 1));
    }
    return fixed;
}

/* @tables: how many L1 entries name each. */
static uint64_t coroutine_fn co_drop_l1(Check *c, uint64_t e, GHashTable *tables)
{
    uint64_t table = e & QCOW2_OFFSET_MASK;
    uint64_t named = GPOINTER_TO_SIZE(g_hash_table_lookup(tables, GSIZE_TO_POINTER(table)));

    return table && g_hash_table_contains(c->defects, GSIZE_TO_POINTER(table)) &&
                   qcow2_check_refmap_get(&c->map, table >> c->q->geo.cluster_bits) > named
               ? 0
               : e;
}

static int coroutine_fn co_walk_l1(Check *c, const L1Place *p, RepairL1 *repair, GHashTable *tables)
{
    g_autofree uint64_t *l1 = g_try_new(uint64_t, MAX(p->entries, 1));
    int ret = l1 ? 0 : -ENOMEM;

    if (ret == 0 && p->entries) {
        ret = qcow2_check_co_read(c, p->offset, p->entries * UINT64_C(8), l1, "check_refcounts_l1");
    }
    for (uint32_t i = 0; i < p->entries && ret == 0; i++) {
        uint64_t e = ldbe64(&l1[i]), fixed = repair(c, e, tables);

        if (fixed != e) {
            qcow2_check_findings_l1(c, e, fixed, i, p->active);
        }
        if (fixed != e && p->active) {
            ret = qcow2_repair_co_set_l1(c->q, i, fixed);
        } else if (fixed != e) {
            stbe64(&l1[i], fixed);
            ret = qcow2_repair_co_write(c->q, p->offset + i * UINT64_C(8), 8, &l1[i]);
        }
    }
    return ret;
}

/* ---- L2 ---- */

static uint64_t guest_of(const Qcow2 *q, uint64_t table, bool *active)
{
    *active = true;
    for (uint32_t i = 0; i < q->l1_size; i++) {
        if ((atomic_load(&q->l1[i]) & QCOW2_OFFSET_MASK) == table) {
            return geo_l1_start(&q->geo, i);
        }
    }
    *active = false;
    return 0;
}

static int coroutine_fn co_repair_l2(Check *c, uint64_t table, uint8_t *buf)
{
    const Geometry *g = &c->q->geo;
    bool active;
    uint64_t guest = guest_of(c->q, table, &active), first = g->cluster_size, end = 0;
    int ret = qcow2_check_co_read(c, table, g->cluster_size, buf, "check_refcounts_l2");

    for (unsigned i = 0; i < 1u << g->l2_bits && ret == 0; i++) {
        L2Entry e = qcow2_l2_load(g, buf, i), fixed;
        uint64_t host = qcow2_l2_has_host(g, e) ? qcow2_l2_host(g, e) : 0;
        uint64_t at = (uint64_t)i * g->l2_entry_size;

        fixed = qcow2_check_entry_repair(c, e, guest + ((uint64_t)i << g->cluster_bits),
                                         geo_in_cluster(g, host) && !g->external_data &&
                                             co_take_leaked(c, host));
        if (fixed.desc != e.desc || fixed.bitmap != e.bitmap) {
            qcow2_l2_store(g, buf, i, fixed);
            qcow2_check_findings_l2(c, e, fixed, guest + ((uint64_t)i << g->cluster_bits), active);
            first = MIN(first, ALIGN_DOWN(at, UINT64_C(512)));
            end = ALIGN_UP(at + 1, UINT64_C(512));
        }
    }
    return ret == 0 && end ? qcow2_repair_co_write(c->q, table + first, end - first, buf + first)
                           : ret;
}

static int coroutine_fn co_repair_l2_all(Check *c, GHashTable *tables)
{
    g_autoptr(GList) keys =
        g_list_sort(g_hash_table_get_keys(c->defects), qcow2_check_compare_keys);
    g_autofree uint8_t *buf = g_try_malloc(c->q->geo.cluster_size);
    int ret = buf ? 0 : -ENOMEM;

    for (GList *l = keys; l && ret == 0; l = l->next) {
        uint64_t table = GPOINTER_TO_SIZE(l->data);
        uint64_t named = GPOINTER_TO_SIZE(g_hash_table_lookup(tables, l->data));

        if (qcow2_check_refmap_get(&c->map, table >> c->q->geo.cluster_bits) == named) {
            ret = co_repair_l2(c, table, buf);
        }
    }
    return ret;
}

int coroutine_fn qcow2_repair_co_tables(Check *c)
{
    static RepairL1 *const steps[] = { co_mend_l1, co_drop_l1 };
    g_autoptr(GArray) list = list_l1(c);
    g_autoptr(GHashTable) tables = g_hash_table_new(NULL, NULL);
    int ret = qcow2_repair_co_mark(c->q);

    for (unsigned s = 0; s < G_N_ELEMENTS(steps); s++) {
        for (guint i = 0; i < list->len && ret == 0; i++) {
            ret = co_walk_l1(c, &g_array_index(list, L1Place, i), steps[s], tables);
        }
    }
    ret = ret < 0 ? ret : co_repair_l2_all(c, tables);
    return ret < 0 ? ret : qcow2_health_co_sync(&c->q->health, c->q->file->bs);
}
