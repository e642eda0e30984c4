/* SPDX-License-Identifier: MIT */
/* The packed map of references that check counts in: what is set is what is got, whatever the
 * neighbours in a byte or a page have, and for each size of number. Shows INV-CHK-1. */
#include "block/qcow2/check.h"

#define CLUSTER UINT64_C(65536)
#define CLUSTERS (3 * REFMAP_PAGE - 1)
#define BEYOND 8 /* clusters past the end of the file */

static const uint64_t numbers[] = { 0, 1, 2, 3, 254, 255, 256, 257, 258, 70000, UINT32_MAX };

static Qcow2 image;
static Check check = { .q = &image };

static void start(void)
{
    image.geo.cluster_bits = 16;
    image.geo.cluster_size = CLUSTER;
    check.res = g_new0(BlockCheckResult, 1);
    g_assert_cmpint(qcow2_check_refmap_init(&check.map, &image, CLUSTERS * CLUSTER - 5), ==, 0);
    g_assert_cmpuint(check.map.clusters, ==, CLUSTERS);
}

static void finish(void)
{
    g_assert_false(check.map.out_of_memory);
    qcow2_check_refmap_clear(&check.map);
    g_clear_pointer(&check.res, g_free);
}

static void test_numbers(void)
{
    static uint64_t model[CLUSTERS + BEYOND];

    start();
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t at = (uint64_t)g_test_rand_int_range(0, CLUSTERS + BEYOND);

        at = i % 2 ? at % 16 + REFMAP_PAGE - 8 : at; /* both sides of a page's end */
        model[at] = numbers[g_test_rand_int_range(0, G_N_ELEMENTS(numbers))];
        qcow2_check_refmap_set(&check.map, at, model[at]);
        for (uint64_t k = at - MIN(at, 4); k < MIN(at + 5, G_N_ELEMENTS(model)); k++) {
            g_assert_cmpuint(qcow2_check_refmap_get(&check.map, k), ==, model[k]);
        }
    }
    for (uint64_t k = 0; k < G_N_ELEMENTS(model); k++) {
        g_assert_cmpuint(qcow2_check_refmap_get(&check.map, k), ==, model[k]);
    }
    finish();
}

static void test_bits_apart(void)
{
    start();
    qcow2_check_refmap_mark(&check.map, 6, REFMAP_SINGLE);
    for (uint64_t i = 4; i < 9; i++) {
        g_assert_cmpuint(qcow2_check_refmap_get(&check.map, i), ==, 0);
        g_assert_cmpint(qcow2_check_refmap_has(&check.map, i, REFMAP_SINGLE), ==, i == 6);
    }
    qcow2_check_refmap_set(&check.map, 6, 300);
    qcow2_check_refmap_set(&check.map, 6, 0);
    g_assert_true(qcow2_check_refmap_has(&check.map, 6, REFMAP_SINGLE));
    g_assert_false(qcow2_check_refmap_has(&check.map, 6, REFMAP_SEEN));
    finish();
}

static void test_ranges(void)
{
    start();
    for (uint64_t n = 1; n <= 600; n++) {
        qcow2_check_refmap_add(&check, 3 * CLUSTER + 7, CLUSTER); /* touches two */
        g_assert_cmpuint(qcow2_check_refmap_get(&check.map, 2), ==, 0);
        g_assert_cmpuint(qcow2_check_refmap_get(&check.map, 3), ==, n);
        g_assert_cmpuint(qcow2_check_refmap_get(&check.map, 4), ==, n);
        g_assert_cmpuint(qcow2_check_refmap_get(&check.map, 5), ==, 0);
    }
    g_assert_cmpint(check.res->corruptions, ==, 0);
    qcow2_check_refmap_add(&check, (CLUSTERS + 2) * CLUSTER, CLUSTER);
    g_assert_cmpint(check.res->corruptions, ==, 1);
    finish();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/refmap/numbers", test_numbers);
    g_test_add_func("/qcow2/refmap/bits-apart", test_bits_apart);
    g_test_add_func("/qcow2/refmap/ranges", test_ranges);
    return g_test_run();
}
