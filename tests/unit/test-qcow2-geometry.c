/* SPDX-License-Identifier: MIT */
/* Address arithmetic against plain division, for each cluster size, entry size and refcount
 * width. */
#include "block/qcow2/geometry.h"

typedef unsigned __int128 Wide;

static void check_constants(const Geometry *g, unsigned cb, unsigned order, bool ext)
{
    g_assert_cmpuint(g->cluster_size, ==, UINT64_C(1) << cb);
    g_assert_cmpuint(g->subclusters, ==, ext ? 32 : 1);
    g_assert_cmpuint(g->subcluster_size * g->subclusters, ==, g->cluster_size);
    g_assert_cmpuint(UINT64_C(1) << g->subcluster_bits, ==, g->subcluster_size);
    g_assert_cmpuint(g->l2_entry_size, ==, ext ? 16 : 8);
    g_assert_cmpuint((UINT64_C(1) << g->l2_bits) * g->l2_entry_size, ==, g->cluster_size);
    g_assert_cmpuint(g->refcount_bits, ==, 1u << order);
    g_assert_cmpuint((UINT64_C(1) << g->refblock_bits) * g->refcount_bits, ==, g->cluster_size * 8);
    if (order < 6) {
        g_assert_cmpuint(g->refcount_max, ==, (UINT64_C(1) << g->refcount_bits) - 1);
    } else {
        g_assert_cmpuint(g->refcount_max, ==, INT64_MAX);
    }
    /* A compressed descriptor: offset and sectors fill bits 0 to 61, and sectors cover a
     * cluster. */
    g_assert_cmpuint(g->coffset_mask & (g->csize_mask << g->csize_shift), ==, 0);
    g_assert_cmpuint(g->coffset_mask | (g->csize_mask << g->csize_shift), ==,
                     (UINT64_C(1) << 62) - 1);
    g_assert_cmpuint((g->csize_mask + 1) * 512, ==, 2 * g->cluster_size);
}

static void check_address(const Geometry *g, uint64_t at)
{
    uint64_t cs = g->cluster_size, per_l2 = cs / g->l2_entry_size;

    g_assert_cmpuint(geo_cluster_start(g, at), ==, at / cs * cs);
    g_assert_cmpuint(geo_in_cluster(g, at), ==, at % cs);
    g_assert_cmpuint(geo_clusters(g, at), ==, (uint64_t)(((Wide)at + cs - 1) / cs));
    g_assert_cmpuint(geo_l1_index(g, at), ==, at / cs / per_l2);
    g_assert_cmpuint(geo_l2_index(g, at), ==, at / cs % per_l2);
    g_assert_cmpuint(geo_sc_index(g, at), ==, at % cs / g->subcluster_size);
    g_assert_cmpuint(geo_l1_entries(g, at), ==,
                     (uint64_t)(((Wide)at + cs * per_l2 - 1) / (cs * per_l2)));
}

static void check_edges(const Geometry *g)
{
    uint64_t per_table = g->cluster_size << g->l2_bits;
    const uint64_t edges[] = { 0,         g->subcluster_size, g->cluster_size,
                               per_table, 3 * per_table,      UINT64_C(1) << 56,
                               INT64_MAX, UINT64_MAX / 2,     UINT64_MAX };

    for (unsigned i = 0; i < G_N_ELEMENTS(edges); i++) {
        for (uint64_t d = 0; d < 3; d++) {
            check_address(g, edges[i] - d); /* wraps round at 0: the far end */
            check_address(g, edges[i] + d);
        }
    }
}

static void test_all(void)
{
    for (unsigned cb = QCOW2_MIN_CLUSTER_BITS; cb <= QCOW2_MAX_CLUSTER_BITS; cb++) {
        for (unsigned order = 0; order <= 6; order++) {
            for (int ext = 0; ext < 2; ext++) {
                Geometry g;

                if (ext && cb < QCOW2_EXTL2_MIN_CLUSTER_BITS) {
                    continue;
                }
                qcow2_geometry_init(&g, 3, cb, order, ext, false, false);
                check_constants(&g, cb, order, ext);
                check_edges(&g);
            }
        }
    }
}

/* What the format's documents say of the common ones. */
static void test_known(void)
{
    Geometry g;

    qcow2_geometry_init(&g, 3, 16, 4, false, false, false);
    g_assert_cmpuint(1u << g.l2_bits, ==, 8192);
    g_assert_cmpuint(1u << g.refblock_bits, ==, 32768);
    g_assert_cmpuint(geo_l1_entries(&g, UINT64_C(1) << 40), ==, 2048); /* 1 TiB */
    qcow2_geometry_init(&g, 3, 16, 4, true, false, false);
    g_assert_cmpuint(g.subcluster_size, ==, 2048);
    g_assert_cmpuint(geo_l1_entries(&g, UINT64_C(1) << 40), ==, 4096);
    qcow2_geometry_init(&g, 3, 21, 0, true, false, false);
    g_assert_cmpuint(g.subcluster_size, ==, 65536);
    g_assert_cmpuint(g.refcount_max, ==, 1);
    g_assert_cmpuint(1u << g.refblock_bits, ==, 1u << 24);
}

/* The largest L1 table that is allowed holds 8 EiB with 2 MiB clusters, and 128 GiB with those of
 * 512 bytes. */
static void test_limits(void)
{
    Geometry g;

    qcow2_geometry_init(&g, 3, 9, 4, false, false, false);
    g_assert_cmpuint(geo_l1_entries(&g, UINT64_C(128) << 30), ==, QCOW2_MAX_L1_BYTES / 8);
    g_assert_cmpuint(geo_l1_entries(&g, (UINT64_C(128) << 30) + 1), >, QCOW2_MAX_L1_BYTES / 8);
    qcow2_geometry_init(&g, 3, 21, 4, false, false, false);
    g_assert_cmpuint(geo_l1_entries(&g, INT64_MAX), <=, QCOW2_MAX_L1_BYTES * 4);
    g_assert_cmpuint(QCOW2_OFFSET_MASK, ==, (QCOW2_MAX_OFFSET - 1) & ~UINT64_C(511));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/geometry/all", test_all);
    g_test_add_func("/qcow2/geometry/known", test_known);
    g_test_add_func("/qcow2/geometry/limits", test_limits);
    return g_test_run();
}
