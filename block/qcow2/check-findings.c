/* SPDX-License-Identifier: MIT */
/* What of the disk a check's findings touch, and what a repair made of it, for who asks. */
#include "check.h"

#include <errno.h>

#define HEX "0x%" G_GINT64_MODIFIER "x"

/* ---- Entries ---- */

static bool has_data(const Geometry *g, L2Entry e)
{
    return (e.desc & L2E_COMPRESSED) || qcow2_l2_has_host(g, e);
}

void qcow2_check_findings_l2(Check *c, L2Entry e, L2Entry fixed, uint64_t guest, bool active)
{
    const Geometry *g = &c->q->geo;
    uint64_t length = active ? g->cluster_size : 0;
    g_autofree char *bits = g->extended_l2 ? g_strdup_printf(" bitmap " HEX, e.bitmap) : NULL;
    g_autofree char *what = g_strdup_printf("%sL2 entry " HEX "%s", active ? "" : "snapshot's ",
                                            e.desc, bits ? bits : "");

    if (has_data(g, e) && !has_data(g, fixed) && !qcow2_l2_normal_mask(g, e) &&
        !(e.desc & L2E_COMPRESSED)) {
        qcow2_check_found(c, what, guest, length, "kept (its space let go of)");
    } else if (has_data(g, e) && !has_data(g, fixed)) {
        qcow2_check_found(c, what, guest, length, "%s (what it refers to cannot be read)",
                          g->version >= 3 ? "zeroes" : "unallocated");
    } else if (!(e.desc & L2E_COMPRESSED) && qcow2_l2_host(g, e) != qcow2_l2_host(g, fixed)) {
        qcow2_check_found(c, what, guest, length, "read from host offset " HEX,
                          qcow2_l2_host(g, fixed));
    } else {
        qcow2_check_found(c, what, guest, length, "kept (wrong bits cleared)");
    }
}

void qcow2_check_findings_l1(Check *c, uint64_t e, uint64_t fixed, uint32_t i, bool active)
{
    const Geometry *g = &c->q->geo;
    uint64_t table = fixed & QCOW2_OFFSET_MASK;
    uint64_t guest = geo_l1_start(g, i), length = active ? geo_l1_start(g, 1) : 0;
    g_autofree char *what = g_strdup_printf("%sL1 entry " HEX, active ? "" : "snapshot's ", e);

    if (!table) {
        qcow2_check_found(c, what, guest, length, "unallocated (its table is lost)");
    } else if (table != (e & QCOW2_OFFSET_MASK)) {
        qcow2_check_found(c, what, guest, length, "read by the L2 table at " HEX, table);
    } else {
        qcow2_check_found(c, what, guest, length, "kept (wrong bits cleared)");
    }
}

/* ---- Counts ---- */

static void tell_cluster(Check *c, uint64_t cluster, uint64_t guest, uint64_t length)
{
    uint64_t was = GPOINTER_TO_SIZE(g_hash_table_lookup(c->miscounted, GSIZE_TO_POINTER(cluster)));
    uint64_t refs = qcow2_check_refmap_get(&c->map, cluster);
    g_autofree char *what = g_strdup_printf("cluster %" G_GUINT64_FORMAT, cluster);

    if (!c->fix || (was < refs && !(c->fix & BLK_FIX_ERRORS)) || (was > refs && c->blind) ||
        refs > c->q->geo.refcount_max) {
        qcow2_check_found(c, what, guest, length, NULL);
    } else if (refs == 0) {
        qcow2_check_found(c, what, guest, length, "free");
    } else {
        qcow2_check_found(c, what, guest, length,
                          "kept (refcount corrected from %" G_GUINT64_FORMAT
                          " to %" G_GUINT64_FORMAT ")",
                          was, refs);
    }
}

/* Those of @e that are miscounted, for guest cluster @guest; they go to @told. */
static void tell_entry(Check *c, L2Entry e, uint64_t guest, GHashTable *told)
{
    const Geometry *g = &c->q->geo;
    uint64_t host = qcow2_l2_host(g, e), bytes = g->cluster_size;

    if (!has_data(g, e)) {
        return;
    }
    if (e.desc & L2E_COMPRESSED) {
        qcow2_l2_compressed_range(g, e, &host, &bytes);
    }
    for (uint64_t i = host >> g->cluster_bits; i <= (host + bytes - 1) >> g->cluster_bits; i++) {
        if (g_hash_table_contains(c->miscounted, GSIZE_TO_POINTER(i))) {
            tell_cluster(c, i, guest, g->cluster_size);
            g_hash_table_add(told, GSIZE_TO_POINTER(i));
        }
    }
}

static int coroutine_fn co_tell_table(Check *c, uint32_t l1_index, uint8_t *buf, GHashTable *told)
{
    const Geometry *g = &c->q->geo;
    uint64_t table = atomic_load(&c->q->l1[l1_index]) & QCOW2_OFFSET_MASK;
    uint64_t guest = geo_l1_start(g, l1_index);

    if (!table || geo_in_cluster(g, table) || table >> g->cluster_bits >= c->map.clusters ||
        bdrv_co_pread(c->q->file, (int64_t)table, (int64_t)g->cluster_size, buf, 0) < 0) {
        return 0; /* (told already) */
    }
    if (g_hash_table_contains(c->miscounted, GSIZE_TO_POINTER(table >> g->cluster_bits))) {
        tell_cluster(c, table >> g->cluster_bits, guest, geo_l1_start(g, 1));
        g_hash_table_add(told, GSIZE_TO_POINTER(table >> g->cluster_bits));
    }
    for (unsigned i = 0; i < 1u << g->l2_bits; i++) {
        tell_entry(c, qcow2_l2_load(g, buf, i), guest + ((uint64_t)i << g->cluster_bits), told);
    }
    return 0;
}

int coroutine_fn qcow2_check_findings_co_counts(Check *c)
{
    g_autofree uint8_t *buf = g_try_malloc(c->q->geo.cluster_size);
    g_autoptr(GHashTable) told = g_hash_table_new(NULL, NULL);
    g_autoptr(GList) keys = NULL;
    int ret = buf ? 0 : -ENOMEM;

    if (!c->miscounted || !g_hash_table_size(c->miscounted)) {
        return 0;
    }
    for (uint32_t i = 0; i < c->q->l1_size && ret == 0 && !c->q->geo.external_data; i++) {
        ret = co_tell_table(c, i, buf, told);
    }
    keys = g_list_sort(g_hash_table_get_keys(c->miscounted), qcow2_check_compare_keys);
    for (GList *l = keys; l && ret == 0; l = l->next) {
        if (!g_hash_table_contains(told, l->data)) { /* nobody's, or of tables and snapshots */
            tell_cluster(c, GPOINTER_TO_SIZE(l->data), 0, 0);
        }
    }
    return ret;
}
