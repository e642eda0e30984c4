/* SPDX-License-Identifier: MIT */
/*
 * Bitmaps that are tracked: what the first write of a region costs, who waits for whom, and what a
 * failure leaves. Shows INV-TRK-1.
 */
#include "mem-driver.h"
#include "mem-image.h"

#include "block/qcow2/bitmap-set.h"

#include <errno.h>
#include <string.h>

#define REGIONS 512
#define REGION (2 * MiB) /* of the disk */

static MemImage im;
static BlockBackend *blk;

static void setup(void)
{
    BlockBitmapChange c = { .action = BLK_BITMAP_ADD, .name = "b", .granularity = 512 };

    im = (MemImage){ .cluster_bits = 12, .refcount_order = 4, .size = REGIONS * REGION };
    mem_image_init(&im);
    blk = mem_image_open(&im, NULL);
    g_assert_cmpint(blk_bitmap_change(blk, &c, NULL), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 4096, 0), ==, 0); /* tracking begins */
}

static void teardown(void)
{
    blk_close(blk);
    mem_image_clear(&im);
}

/* What its region has on disk of bit @i. */
static bool on_disk(uint64_t i) UNCHECKED_LOCKS
{
    const Qcow2Bitmaps *set = mem_image_qcow2(blk)->bitmaps;
    const Bitmap *b = g_ptr_array_index(set->all, 0);
    uint64_t byte = i / 8;

    return last_mem->data[b->table[byte / 4096] + byte % 4096] >> i % 8 & 1;
}

static bool in_memory(uint64_t i)
{
    BlockBitmapData d = { NULL };
    bool is;

    g_assert_cmpint(blk_bitmap_read(blk, "b", &d, NULL), ==, 0);
    is = dirty_bits_test(d.bits, i);
    dirty_bits_unref(d.bits);
    return is;
}

/* ---- Costs ---- */

static void test_few_syncs(void)
{
    int before;

    setup();
    before = atomic_load(&last_mem->syncs);
    for (unsigned i = 0; i < REGIONS; i++) {
        int64_t offset = (int64_t)(i * 197 % REGIONS) * REGION;

        g_assert_cmpint(blk_pwrite_zeroes(blk, offset + 8192, 4096, 0), ==, 0);
        g_assert_true(on_disk((uint64_t)(offset + 8192) / 512));
    }
    g_assert_cmpint(last_mem->syncs - before, <, 24);
    before = last_mem->writes;
    g_assert_cmpint(blk_pwrite_zeroes(blk, 16384, 4096, 0), ==, 0);
    g_assert_cmpint(last_mem->writes, ==, before); /* hot: nothing for the bitmap */
    teardown();
}

/* A single write makes its own region dirty, no other. */
static void test_no_more_than_needed(void)
{
    setup();
    g_assert_true(on_disk(4095));
    g_assert_false(on_disk(4096));
    g_assert_false(in_memory(4095));
    g_assert_true(in_memory(0));
    teardown();
}

/* ---- Several at once ---- */

typedef struct Waiter {
    int64_t offset;
    int ret;
    int *left;
} Waiter;

static void coroutine_fn zero_co(void *opaque)
{
    Waiter *w = opaque;

    w->ret = blk_co_pwrite_zeroes(blk, w->offset, 4096, 0);
    g_assert_true(w->ret < 0 || on_disk((uint64_t)w->offset / 512));
    --*w->left;
}

#define WAITERS 32

/* How many failed. */
static unsigned run_waiters(void)
{
    Waiter w[WAITERS];
    int left = WAITERS;
    unsigned failed = 0;

    for (unsigned i = 0; i < WAITERS; i++) {
        w[i] = (Waiter){ (int64_t)(2 * i + 3) * REGION, 1, &left };
    }
    for (unsigned i = 0; i < WAITERS; i++) {
        coroutine_enter(coroutine_create(zero_co, &w[i]));
    }
    AIO_WAIT_WHILE(aio_current(), left > 0);
    for (unsigned i = 0; i < WAITERS; i++) {
        failed += w[i].ret < 0;
    }
    return failed;
}

static void test_shared_sync(void)
{
    int before;

    setup();
    before = atomic_load(&last_mem->syncs);
    last_mem->slow = true;
    g_assert_cmpuint(run_waiters(), ==, 0);
    last_mem->slow = false;
    g_assert_cmpint(last_mem->syncs - before, <=, 2); /* the first alone, then all the others */
    teardown();
}

/* ---- Failures ---- */

/* All that wait are told; later it works, and the bits are on disk then. */
static void test_failed_write(void)
{
    setup();
    last_mem->slow = true;
    last_mem->fail_nth_write = 4; /* the first one is alone; all others wait together */
    g_assert_cmpuint(run_waiters(), ==, WAITERS - 1);
    g_assert_cmpuint(run_waiters(), ==, 0);
    last_mem->slow = false;
    teardown();
}

/* A sync that failed says nothing of what is on disk: nothing is written any more. */
static void test_failed_sync(void)
{
    setup();
    last_mem->fail_syncs = 1000;
    g_assert_cmpint(blk_pwrite_zeroes(blk, REGION, 4096, 0), ==, -EIO);
    last_mem->fail_syncs = 0;
    g_assert_cmpint(blk_pwrite_zeroes(blk, REGION, 4096, 0), ==, -EIO);
    teardown();
}

int main(int argc, char **argv)
{
    mem_register();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/track/few-syncs", test_few_syncs);
    g_test_add_func("/qcow2/track/no-more-than-needed", test_no_more_than_needed);
    g_test_add_func("/qcow2/track/shared-sync", test_shared_sync);
    g_test_add_func("/qcow2/track/failed-write", test_failed_write);
    g_test_add_func("/qcow2/track/failed-sync", test_failed_sync);
    return g_test_run();
}
