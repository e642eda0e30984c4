/* SPDX-License-Identifier: MIT */
/*
 * Taking and giving back clusters: whole or not at all, where a count is at its limit and where the
 * second table that an operation needs cannot be read; packing; a refcount table that grows again
 * while it moves.
 */
/* Shows INV-ALLOC-1, INV-ALLOC-2, INV-REF-1, INV-REF-2. */
#include "mem-driver.h"
#include "mem-image.h"

#include "block/qcow2/alloc.h"
#include "block/qcow2/flush.h"
#include "block/qcow2/refcount-codec.h"
#include "block/qcow2/refcount.h"
#include "block/qcow2/reftable.h"
#include "util/bytes.h"
#include "tests/lib/with-co-lock.h"

#include <string.h>

static MemImage im;
static BlockBackend *blk;
static Qcow2 *q;

static void open_image(const char *options)
{
    blk = mem_image_open(&im, options);
    q = mem_image_qcow2(blk);
}

/* Nothing worse than @leaks leaks. */
static void close_image(int64_t leaks)
{
    BlockCheckResult res = { 0 };

    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(blk_check(blk, &res, 0, NULL, NULL), ==, 0);
    g_assert_cmpint(res.corruptions, ==, 0);
    g_assert_cmpint(res.leaks, ==, leaks);
    blk_close(blk);
    mem_image_clear(&im);
}

static uint64_t coroutine_fn co_count(uint64_t cluster)
{
    uint64_t count;

    WITH_CO_LOCK(&q->alloc.meta_lock)
    {
        g_assert_cmpint(qcow2_refcount_co_get(&q->alloc, cluster, &count), ==, 0);
    }
    return count;
}

static int coroutine_fn co_add(uint64_t first, uint64_t n, int delta)
{
    int ret = 0;

    WITH_CO_LOCK(&q->alloc.meta_lock)
    {
        g_assert_cmpint(ABS(delta), ==, 1);
        ret = delta > 0 ? qcow2_alloc_co_add_refs(&q->alloc, first, n)
                        : qcow2_refcount_co_change(&q->alloc, first, n, delta);
    }
    return ret;
}

/* ---- Whole or not at all ---- */

#define PER_BLOCK 512 /* counts of 64 bits in a cluster of 4 KiB */
static uint64_t second_block;

static void image_with_two_blocks(void)
{
    im = (MemImage){ .cluster_bits = 12, .refcount_order = 6, .size = 4 * MiB };
    mem_image_init(&im);
    second_block = mem_image_alloc(&im);
    stbe64(im.data + im.geo.cluster_size + 8, second_block); /* the table follows the header */
    open_image(NULL);
}

/* The counts of a run are in two blocks; the second one cannot be read. */
static int coroutine_fn co_half(void *opaque)
{
    uint64_t first = PER_BLOCK - 2;

    last_mem->bad_start = (int64_t)second_block;
    last_mem->bad_end = (int64_t)second_block + 4096;
    g_assert_cmpint(co_add(first, 4, 1), ==, -EIO);
    g_assert_cmpuint(co_count(first), ==, 0);
    g_assert_cmpuint(co_count(first + 1), ==, 0);
    last_mem->bad_end = 0;
    g_assert_cmpint(co_add(first, 4, 1), ==, 0);
    for (int i = 0; i < 4; i++) {
        g_assert_cmpuint(co_count(first + i), ==, 1);
    }
    g_assert_cmpint(co_add(first, 4, -1), ==, 0);
    return 0;
}

static void test_half(void)
{
    image_with_two_blocks();
    co_run_sync(co_half, NULL);
    close_image(0);
}

/* A run of which the last one is at the limit. */
static int coroutine_fn co_limit(void *opaque)
{
    uint64_t c = 100, taken = 0;

    for (; taken < q->geo.refcount_max; taken++) {
        g_assert_cmpint(co_add(c + 2, 1, 1), ==, 0);
    }
    g_assert_cmpint(co_add(c, 3, 1), ==, -EINVAL);
    g_assert_cmpuint(co_count(c), ==, 0);
    g_assert_cmpuint(co_count(c + 1), ==, 0);
    g_assert_cmpuint(co_count(c + 2), ==, q->geo.refcount_max);
    for (; taken > 0; taken--) {
        g_assert_cmpint(co_add(c + 2, 1, -1), ==, 0);
    }
    return 0;
}

static void test_limit(void)
{
    for (unsigned order = 0; order < 4; order++) {
        im = (MemImage){ .cluster_bits = 12, .refcount_order = order, .size = 4 * MiB };
        mem_image_init(&im);
        im.next = 128 << 12; /* the file is longer than what is in use */
        open_image(NULL);
        co_run_sync(co_limit, NULL);
        close_image(0);
    }
}

/* A table's cluster whose count says that it is free is given to nobody. */
static int coroutine_fn co_metadata(void *opaque)
{
    uint64_t host;

    co_mutex_lock(&q->alloc.meta_lock);
    g_assert_cmpint(qcow2_alloc_co_clusters(&q->alloc, 1, &host), ==, -EIO);
    co_mutex_unlock(&q->alloc.meta_lock);
    g_assert_true(atomic_load(&q->health.corrupt));
    return 0;
}

static void test_metadata(void)
{
    im = (MemImage){ .cluster_bits = 12, .refcount_order = 4, .size = 4 * MiB };
    mem_image_init(&im);
    qcow2_refcount_codec_set(4, im.data + im.refblock, im.l1 >> 12, 0);
    open_image(NULL);
    co_run_sync(co_metadata, NULL);
    blk_close(blk);
    mem_image_clear(&im);
}

/* ---- Packing ---- */

static uint64_t coroutine_fn co_pack(uint64_t bytes)
{
    uint64_t host;

    WITH_CO_LOCK(&q->alloc.meta_lock)
    {
        g_assert_cmpint(qcow2_alloc_co_bytes(&q->alloc, bytes, &host), ==, 0);
    }
    return host;
}

/* A cluster that was packed into is freed, and another one's then: nothing is packed behind. */
static int coroutine_fn co_pack_freed(void *opaque)
{
    unsigned cb = q->geo.cluster_bits;
    uint64_t a = co_pack(100), b, c, other;

    b = co_pack(100);
    g_assert_cmpuint(b, ==, a + 100); /* behind it, in the same cluster */
    g_assert_cmpuint(co_count(a >> cb), ==, 2);
    g_assert_cmpint(co_add(a >> cb, 1, -1), ==, 0);
    c = co_pack(100);
    g_assert_cmpuint(c, ==, a + 200); /* one user is left */
    g_assert_cmpint(co_add(a >> cb, 1, -1), ==, 0);
    g_assert_cmpint(co_add(a >> cb, 1, -1), ==, 0);
    WITH_CO_LOCK(&q->alloc.meta_lock)
    {
        g_assert_cmpint(qcow2_alloc_co_clusters(&q->alloc, 1, &other), ==, 0);
    }
    g_assert_cmpuint(other >> cb, ==, a >> cb); /* the lowest free one */
    c = co_pack(100);
    g_assert_cmpuint(c >> cb, !=, a >> cb);
    g_assert_cmpint(co_add(c >> cb, 1, -1), ==, 0);
    g_assert_cmpint(co_add(other >> cb, 1, -1), ==, 0);
    return 0;
}

static void test_pack_freed(void)
{
    im = (MemImage){ .cluster_bits = 12, .refcount_order = 4, .size = 4 * MiB };
    mem_image_init(&im);
    open_image(NULL);
    co_run_sync(co_pack_freed, NULL);
    close_image(0);
}

/* ---- A refcount table that moves ---- */

/* Take clusters until the table in memory has grown. */
static void coroutine_fn co_grow_table(void)
{
    uint64_t entries = q->alloc.reftable_entries, offset;

    while (q->alloc.reftable_entries == entries) {
        g_assert_cmpint(qcow2_alloc_co_clusters(&q->alloc, 50, &offset), ==, 0);
    }
}

/* As a flush does it, with growth between its steps. @fail: the table's write fails, once. */
static int coroutine_fn co_grow_while_moving(void *opaque)
{
    bool fail = GPOINTER_TO_INT(opaque);
    uint64_t first, second, before = q->hdr.reftable_offset;
    SealedSet blocks;
    ReftableSeal s;
    int ret;

    co_mutex_lock(&q->flush_lock);
    co_mutex_lock(&q->alloc.meta_lock);
    co_grow_table();
    first = q->alloc.reftable_new_offset;
    g_assert_cmpuint(first, !=, 0);
    g_assert_cmpint(qcow2_cache_seal(q->alloc.ref_cache, &blocks), ==, 0);
    g_assert_cmpint(qcow2_reftable_seal(&q->alloc, &s), ==, 0);
    g_assert_true(s.moved && s.table_offset == first);
    co_grow_table(); /* while the flush writes the first */
    second = q->alloc.reftable_new_offset;
    g_assert_cmpuint(second, !=, first);
    co_mutex_unlock(&q->alloc.meta_lock);

    g_assert_cmpint(qcow2_cache_co_write_sealed(q->alloc.ref_cache, &blocks, BLKDBG_NONE), ==, 0);
    qcow2_cache_sealed_clear(&blocks);
    last_mem->fail_writes = fail;
    ret = qcow2_reftable_co_write(&q->alloc, &s);
    last_mem->fail_writes = 0;
    g_assert_cmpint(ret, ==, fail ? -EIO : 0);
    if (ret == 0) {
        g_assert_cmpint(qcow2_reftable_co_switch(&q->alloc, &s), ==, 0);
        g_assert_cmpuint(q->hdr.reftable_offset, ==, first);
    } else {
        g_assert_cmpuint(q->hdr.reftable_offset, ==, before);
    }
    qcow2_reftable_co_seal_clear(&q->alloc, &s, ret < 0);
    g_assert_cmpuint(q->alloc.reftable_new_offset, ==, second); /* it is still to move */
    co_mutex_unlock(&q->flush_lock);
    g_assert_cmpint(qcow2_flush_co_all(q), ==, 0);
    g_assert_cmpuint(q->hdr.reftable_offset, ==, second);
    g_assert_cmpuint(q->alloc.reftable_new_offset, ==, 0);
    g_assert_cmpuint(co_count(first >> q->geo.cluster_bits), ==, 0); /* given back */
    g_assert_cmpuint(co_count(before >> q->geo.cluster_bits), ==, 0);
    g_assert_cmpuint(co_count(second >> q->geo.cluster_bits), ==, 1);
    return 0;
}

/* What is on disk is what memory says: each cluster taken is a leak there, and counted. */
static void grow_while_moving(bool fail)
{
    BlockCheckResult res = { 0 };

    im = (MemImage){ .cluster_bits = 9, .refcount_order = 6, .size = 1 * MiB };
    mem_image_init(&im);
    open_image(NULL);
    co_run_sync(co_grow_while_moving, GINT_TO_POINTER(fail));
    g_assert_cmpint(blk_check(blk, &res, 0, NULL, NULL), ==, 0);
    g_assert_cmpint(res.corruptions, ==, 0);
    g_assert_cmpint(res.leaks, >, 4096); /* what one cluster of table describes */
    blk_close(blk);
    mem_image_clear(&im);
}

static void test_grow_while_moving(void)
{
    grow_while_moving(false);
}

static void test_grow_while_moving_fails(void)
{
    grow_while_moving(true);
}

/* ---- The second table of an operation ---- */

typedef enum Kind { READ, WRITE, ZERO, UNMAP, DISCARD, COMPRESSED, KINDS } Kind;

typedef struct Op {
    Kind kind;
    uint64_t offset, bytes;
    uint8_t *buf;
} Op;

static int coroutine_fn op_fn(void *opaque)
{
    Op *op = opaque;
    IOVector v;

    iov_init_buf(&v, op->buf, op->bytes);
    switch (op->kind) {
    case READ:
        return blk_co_preadv(blk, (int64_t)op->offset, &v, 0);
    case WRITE:
        return blk_co_pwritev(blk, (int64_t)op->offset, &v, 0);
    case ZERO:
        return blk_co_pwrite_zeroes(blk, (int64_t)op->offset, (int64_t)op->bytes, 0);
    case UNMAP:
        return blk_co_pwrite_zeroes(blk, (int64_t)op->offset, (int64_t)op->bytes,
                                    BLK_REQ_MAY_UNMAP);
    case DISCARD:
        return blk_co_pdiscard(blk, (int64_t)op->offset, (int64_t)op->bytes);
    case COMPRESSED:
        return blk_co_pwritev_compressed(blk, (int64_t)op->offset, &v);
    case KINDS:
        break;
    }
    return -EINVAL;
}

#define AREA (256 * KiB)

/* Clusters of 4 KiB, slices of 64 entries: an area over the edge of two slices, all of it 0x11 or
 * not written. */
static void second_read(Kind kind, bool written)
{
    g_autofree uint8_t *buf = g_malloc(AREA), *got = g_malloc(AREA);
    uint64_t edge = 64 * 4096, table, at = edge - 3 * 4096;
    Op op = { .kind = kind, .offset = at, .bytes = 7 * 4096, .buf = buf };
    int ret;

    im = (MemImage){ .cluster_bits = 12, .refcount_order = 4, .size = 4 * MiB };
    mem_image_init(&im);
    mem_image_l2(&im, 0);
    for (unsigned i = 0; written && i < 128; i++) {
        uint64_t host = mem_image_alloc(&im);

        memset(im.data + host, 0x11, 4096);
        qcow2_l2_store(&im.geo, mem_image_l2(&im, 0), i, qcow2_l2_make_normal(&im.geo, host));
    }
    table = ldbe64(im.data + im.l1) & QCOW2_OFFSET_MASK;
    open_image("l2-cache-entry-size=512");
    memset(buf, 0x22, AREA);
    last_mem->bad_start = (int64_t)table + 512; /* the second slice */
    last_mem->bad_end = (int64_t)table + 1024;
    ret = co_run_sync(op_fn, &op);
    g_assert_cmpint(ret, ==, -EIO);
    last_mem->bad_end = 0;

    /* Each byte is old or new, and beside the request old. */
    g_assert_cmpint(blk_pread(blk, 0, AREA, got, 0), ==, 0);
    for (uint64_t i = 0; i < AREA; i++) {
        uint8_t old = written ? 0x11 : 0;
        uint8_t fresh = kind == READ ? old : kind == WRITE || kind == COMPRESSED ? 0x22 : 0;

        g_assert_true(got[i] == old || (got[i] == fresh && i >= at && i < edge));
    }
    /* And a retry does all of it. */
    memset(buf, 0x22, AREA);
    if (kind != COMPRESSED ||
        !written) { /* compressed data replaces none that is written in place */
        g_assert_cmpint(co_run_sync(op_fn, &op), ==, 0);
        g_assert_cmpint(blk_pread(blk, (int64_t)at, 7 * 4096, got, 0), ==, 0);
        g_assert_cmphex(got[0], ==,
                        kind == READ                          ? (written ? 0x11 : 0)
                        : kind == WRITE || kind == COMPRESSED ? 0x22
                                                              : 0);
        g_assert_cmphex(got[7 * 4096 - 1], ==, got[0]);
    }
    close_image(0);
}

static void test_second_read(void)
{
    for (Kind k = READ; k < KINDS; k++) {
        second_read(k, false);
        second_read(k, true);
    }
}

/* Data that could not be written: all of its clusters are free again, and are taken by a retry. */
static void test_data_write_fails(void)
{
    g_autofree uint8_t *buf = g_malloc(5 * 4096), *got = g_malloc(5 * 4096);
    uint64_t free_from;

    im = (MemImage){ .cluster_bits = 12, .refcount_order = 4, .size = 4 * MiB };
    mem_image_init(&im);
    mem_image_l2(&im, 0);
    free_from = im.next;
    open_image(NULL);
    memset(buf, 0x22, 5 * 4096);
    last_mem->bad_start = (int64_t)free_from + 4096;
    last_mem->bad_end = (int64_t)free_from + 8192;
    g_assert_cmpint(blk_pwrite(blk, 4096, 5 * 4096, buf, 0), ==, -EIO);
    last_mem->bad_end = 0;
    g_assert_cmpint(blk_pread(blk, 4096, 5 * 4096, got, 0), ==, 0);
    g_assert_true(buffer_is_zero(got, 5 * 4096));
    g_assert_cmpint(blk_pwrite(blk, 4096, 5 * 4096, buf, 0), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(last_mem->size, ==, (int64_t)free_from + 5 * 4096);
    close_image(0);
}

int main(int argc, char **argv)
{
    mem_register();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/alloc/half", test_half);
    g_test_add_func("/qcow2/alloc/limit", test_limit);
    g_test_add_func("/qcow2/alloc/metadata", test_metadata);
    g_test_add_func("/qcow2/alloc/pack-freed", test_pack_freed);
    g_test_add_func("/qcow2/alloc/grow-while-moving", test_grow_while_moving);
    g_test_add_func("/qcow2/alloc/grow-while-moving/fails", test_grow_while_moving_fails);
    g_test_add_func("/qcow2/alloc/data-write-fails", test_data_write_fails);
    g_test_add_func("/qcow2/alloc/second-read", test_second_read);
    return g_test_run();
}
