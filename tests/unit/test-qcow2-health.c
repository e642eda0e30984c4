/* SPDX-License-Identifier: MIT */
/*
 * An image that is found corrupt, or whose sync fails; and the fields of its header that are
 * written one by one.
 */
/* Shows INV-HEALTH-1, INV-HDR-1. */
#include "mem-driver.h"
#include "mem-image.h"

#include "block/qcow2/header-layout.h"
#include "block/qcow2/health.h"
#include "util/bytes.h"

#include <string.h>

static MemImage im;
static BlockBackend *blk;
static Qcow2 *q;
static unsigned reports;

static void report(const char *line, void *opaque)
{
    g_assert_nonnull(strstr(line, "Marking image as corrupt: tests at offset 0x200"));
    reports++;
}

static void setup(void)
{
    im = (MemImage){ .cluster_bits = 16, .refcount_order = 4, .size = 8 * MiB };
    mem_image_init(&im);
    blk = mem_image_open(&im, NULL);
    q = mem_image_qcow2(blk);
    reports = 0;
    blk_set_report(blk, report, NULL);
}

static void teardown(void)
{
    blk_close(blk);
    mem_image_clear(&im);
}

static uint64_t bits(void)
{
    return ldbe64(last_mem->data + HEADER_AT(incompatible));
}

/* Twice found, once reported; the other bits stay; nothing is written any more. */
static int coroutine_fn co_corrupt(void *opaque)
{
    uint64_t before;

    stbe64(last_mem->data + HEADER_AT(incompatible), bits() | QCOW2_INCOMPAT_DIRTY);
    before = bits();
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(qcow2_health_co_corrupt(&q->health, "tests", 512, "no reason"), ==, -EIO);
    }
    g_assert_cmpuint(reports, ==, 1);
    g_assert_cmphex(bits(), ==, before | QCOW2_INCOMPAT_CORRUPT);
    g_assert_cmpint(qcow2_health_may_write(&q->health), ==, -EIO);
    return 0;
}

static void test_corrupt(void)
{
    uint8_t byte = 1;

    setup();
    co_run_sync(co_corrupt, NULL);
    g_assert_cmpint(blk_pwrite(blk, 0, 1, &byte, 0), ==, -EIO);
    teardown();
}

/* Only the bytes that were named change. */
static int coroutine_fn co_fields(void *opaque)
{
    static const size_t places[] = {
        HEADER_AT(size),         HEADER_AT(l1_size),       HEADER_AT(reftable_offset),
        HEADER_AT(nb_snapshots), HEADER_AT(incompatible),  HEADER_AT(compatible),
        HEADER_AT(autoclear),    HEADER_AT(refcount_order)
    };
    Qcow2Header h = q->hdr;
    uint8_t before[HEADER_SECTOR];

    h.size = h.l1_offset = h.reftable_offset = UINT64_C(0x5a5a5a5a5a5a5a5a);
    h.incompatible = h.compatible = h.autoclear = h.snapshots_offset = h.size;
    h.l1_size = h.reftable_clusters = h.nb_snapshots = h.crypt_method = 0x5a5a5a5a;
    for (size_t i = 0; i + 1 < G_N_ELEMENTS(places); i++) {
        size_t from = places[i], to = places[i + 1];

        memcpy(before, last_mem->data, sizeof(before));
        g_assert_cmpint(qcow2_header_co_write_fields(&q->header, &h, from, to), ==, 0);
        for (size_t at = 0; at < sizeof(before); at++) {
            g_assert_cmphex(last_mem->data[at], ==, at >= from && at < to ? 0x5a : before[at]);
        }
    }
    memcpy(last_mem->data, im.data, HEADER_SECTOR);
    return 0;
}

static void test_fields(void)
{
    setup();
    co_run_sync(co_fields, NULL);
    teardown();
}

/* A sync that failed keeps writes out for good, with its error. */
static int coroutine_fn co_sync(void *opaque)
{
    last_mem->fail_syncs = 1;
    g_assert_cmpint(qcow2_health_co_sync(&q->health, q->file->bs), ==, -EIO);
    last_mem->fail_syncs = 0;
    g_assert_cmpint(qcow2_health_co_sync(&q->health, q->file->bs), ==, 0);
    g_assert_cmpint(qcow2_health_may_write(&q->health), ==, -EIO); /* all the same */
    return 0;
}

static void test_sync(void)
{
    setup();
    co_run_sync(co_sync, NULL);
    teardown();
}

int main(int argc, char **argv)
{
    mem_register();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/health/corrupt", test_corrupt);
    g_test_add_func("/qcow2/health/fields", test_fields);
    g_test_add_func("/qcow2/health/sync", test_sync);
    return g_test_run();
}
