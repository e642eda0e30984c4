/* SPDX-License-Identifier: MIT */
/* Check reads each refcount block and each table once, however scattered the image is; and it still
 * sees each wrong COPIED flag and count. */
#include "mem-driver.h"
#include "mem-image.h"

#include "util/bytes.h"

#include <errno.h>
#include <string.h>

#define CLUSTER 512
#define SIZE ((int64_t)(1 * MiB))
#define CLUSTERS (SIZE / CLUSTER)
#define TABLES (CLUSTERS / 64) /* L2 tables of 64 entries, and refcount blocks of 64 counts */

typedef struct Image {
    MemImage im;
    BlockBackend *blk;
} Image;

/* All clusters written, in an order in which no two neighbours of the disk are in one refcount
 * block. */
static void image_open(Image *i)
{
    uint8_t buf[CLUSTER];

    i->im = (MemImage){ .cluster_bits = 9, .refcount_order = 6, .size = SIZE };
    mem_image_init(&i->im);
    i->blk = mem_image_open(&i->im, NULL);
    memset(buf, 1, sizeof(buf));
    for (int64_t c = 0; c < CLUSTERS; c++) {
        int64_t at = c * 67 % CLUSTERS * CLUSTER;

        g_assert_cmpint(blk_pwrite(i->blk, at, CLUSTER, buf, 0), ==, 0);
    }
    g_assert_cmpint(blk_flush(i->blk), ==, 0);
}

static void image_close(Image *i)
{
    blk_close(i->blk);
    mem_image_clear(&i->im);
}

static void check(Image *i, int64_t corruptions, int64_t leaks, int64_t errors)
{
    BlockCheckResult res = { 0 };

    mem_count_anew(last_mem);
    g_assert_cmpint(blk_check(i->blk, &res, 0, NULL, NULL), ==, 0);
    g_assert_cmpint(res.corruptions, ==, corruptions);
    g_assert_cmpint(res.leaks, ==, leaks);
    g_assert_cmpint(res.check_errors, ==, errors);
}

static void test_reads(void)
{
    Image i;

    image_open(&i);
    check(&i, 0, 0, 0);
    /* L1, the L2 tables, and the blocks for data, tables and themselves */
    g_assert_cmpint(last_mem->reads, >=, 1 + 2 * TABLES);
    g_assert_cmpint(last_mem->reads, <=, 1 + 2 * TABLES + TABLES / 8);
    image_close(&i);
}

static uint8_t *l2_entry(Image *i, uint64_t guest)
{
    uint64_t table = ldbe64(last_mem->data + i->im.l1 + guest / CLUSTER / 64 * 8);

    return last_mem->data + (table & QCOW2_OFFSET_MASK) + guest / CLUSTER % 64 * 8;
}

/* One flag is missing: one error, and one table is read again. */
static void test_copied(void)
{
    Image i;
    uint8_t *e;
    int before;

    image_open(&i);
    check(&i, 0, 0, 0);
    before = last_mem->reads;
    e = l2_entry(&i, 300 * CLUSTER);
    e[0] &= 0x7f;
    check(&i, 1, 0, 0);
    g_assert_cmpint(last_mem->reads, ==, before + 1);
    e[0] |= 0x80;
    check(&i, 0, 0, 0);
    image_close(&i);
}

/* A count too high (leaked, and its flag is wrong), a count too low. */
static void test_counts(void)
{
    Image i;
    uint64_t cluster, block;
    uint8_t *count;

    image_open(&i);
    cluster = (ldbe64(l2_entry(&i, 70 * CLUSTER)) & QCOW2_OFFSET_MASK) / CLUSTER;
    block = mem_image_qcow2(i.blk)->alloc.reftable[cluster / 64];
    count = last_mem->data + block + cluster % 64 * 8;
    g_assert_cmpuint(ldbe64(count), ==, 1);
    stbe64(count, 2);
    check(&i, 1, 1, 0);
    stbe64(count, 0);
    check(&i, 2, 0, 0);
    image_close(&i);
}

/* A block that cannot be read: one error, not one for each of its clusters. */
static void test_unreadable(void)
{
    Image i;

    image_open(&i);
    last_mem->bad_start = (int64_t)mem_image_qcow2(i.blk)->alloc.reftable[3];
    last_mem->bad_end = last_mem->bad_start + 1;
    check(&i, 0, 0, 1);
    last_mem->bad_end = 0;
    check(&i, 0, 0, 0);
    image_close(&i);
}

int main(int argc, char **argv)
{
    mem_register();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/check/reads", test_reads);
    g_test_add_func("/qcow2/check/copied", test_copied);
    g_test_add_func("/qcow2/check/counts", test_counts);
    g_test_add_func("/qcow2/check/unreadable", test_unreadable);
    return g_test_run();
}
