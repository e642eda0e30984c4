/* SPDX-License-Identifier: MIT */
/*
 * The block core with drivers that live in the tests only: registration, the gates (end of node,
 * alignment, limits, zero detection), flush, drain, permissions, status through a chain.
 */
/* Shows INV-DRAIN-1, INV-DRAIN-2, INV-GUARD-1, INV-GUARD-2, INV-TRACK-2. */
#include "mem-driver.h"
#include "open-opts.h"

#include "block/backend.h"
#include "block/io.h"

#include <string.h>

/* ---- A format that has nothing of its own: all is in the backing file ---- */

typedef struct Cow {
    int64_t size;
    int zeroed;
} Cow;

static int coroutine_fn cow_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    uint64_t size;

    if (!opts_take_size(o, "size", 1 * MiB, &size, errp) ||
        !bdrv_co_open_child(NULL, o, "file", bs, flags, BDRV_ROLE_FILE, false, errp)) {
        return -EINVAL;
    }
    ((Cow *)bs->opaque)->size = (int64_t)size;
    return 0;
}

static int coroutine_fn cow_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                      unsigned flags)
{
    if (bs->backing) {
        return bdrv_co_preadv(bs->backing, offset, v, 0);
    }
    iov_memset(v, 0, 0, v->size);
    return 0;
}

static int coroutine_fn cow_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                       unsigned flags)
{
    return -ENOSPC;
}

static int coroutine_fn cow_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             unsigned flags)
{
    ((Cow *)bs->opaque)->zeroed++;
    return 0;
}

static int coroutine_fn cow_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum, int64_t *map,
                                            BlockDriverState **file)
{
    *pnum = bytes;
    return 0;
}

static int64_t coroutine_fn cow_co_getlength(BlockDriverState *bs)
{
    return ((Cow *)bs->opaque)->size;
}

static int coroutine_fn cow_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                        BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    ((Cow *)bs->opaque)->size = bytes;
    return 0;
}

static const BlockDriver cow_driver = {
    BLOCK_DRIVER_TABLE,
    .format_name = "test-cow",
    .instance_size = sizeof(Cow),
    .is_format = true,
    .supports_backing = true,
    .co_open = cow_co_open,
    .co_preadv = cow_co_preadv,
    .co_pwritev = cow_co_pwritev,
    .co_pwrite_zeroes = cow_co_pwrite_zeroes,
    .co_block_status = cow_co_block_status,
    .co_getlength = cow_co_getlength,
    .co_truncate = cow_co_truncate,
};

static void expect_error(const char *filename, const char *text, int flags, const char *message)
{
    Options *o = opts_new();
    GError *err = NULL;

    if (text) {
        g_assert_true(opts_parse(o, text, NULL, NULL));
    }
    g_assert_null(blk_open(filename, o, flags, &err));
    g_assert_nonnull(err);
    g_assert_cmpstr(err->message, ==, message);
    g_error_free(err);
}

/* ---- Tests ---- */

static void test_registered(void)
{
    g_autoptr(BlockBackend) blk = open_opts("driver=test-mem,size=4k", BLK_O_RDWR);
    uint8_t buf[4096];

    g_assert_cmpstr(blk_driver_name(blk_bs(blk)), ==, "test-mem");
    g_assert_cmpint(blk_getlength(blk), ==, 4096);
    g_assert_cmpint(blk_pread(blk, 0, 4096, buf, 0), ==, 0);
    g_assert_cmpint(buf[4095], ==, 0xaa);
}

static void test_range(void)
{
    g_autoptr(BlockBackend) blk = open_opts("driver=test-mem,size=4k", BLK_O_RDWR);
    uint8_t buf[512] = { 0 };

    g_assert_cmpint(blk_pread(blk, 4096 - 511, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pread(blk, -1, 1, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pread(blk, INT64_MAX, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pwrite(blk, 4096, 512, buf, 0), ==, -EIO);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 4000, 512, 0), ==, -EIO);
    g_assert_cmpint(blk_pwrite(blk, 4096, 0, buf, 0), ==, 0);
}

static void test_read_only(void)
{
    g_autoptr(BlockBackend) blk = open_opts("driver=test-mem", 0);
    uint8_t buf[512] = { 0 };

    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, 0), ==, -EPERM);
    g_assert_cmpint(blk_pdiscard(blk, 0, 512), ==, -EPERM);
    g_assert_cmpint(last_mem->perm, ==, BLK_PERM_CONSISTENT_READ);
}

/* Every offset and length over three blocks, against a model. */
static void test_unaligned(void)
{
    g_autoptr(BlockBackend) blk = open_opts("driver=test-mem,size=4k,align=8,max=16", BLK_O_RDWR);
    uint8_t model[64], got[64];

    memset(model, 0xaa, sizeof(model));
    for (int off = 0; off < 32; off++) {
        for (int len = 1; len <= 32; len++) {
            uint8_t w[32];

            memset(w, off * 7 + len, sizeof(w));
            memcpy(model + off, w, len);
            if (len % 3) {
                g_assert_cmpint(blk_pwrite(blk, off, len, w, 0), ==, 0);
            } else {
                memset(model + off, 0, len);
                g_assert_cmpint(blk_pwrite_zeroes(blk, off, len, 0), ==, 0);
            }
            g_assert_cmpint(blk_pread(blk, 0, 64, got, 0), ==, 0);
            g_assert_cmpmem(model, 64, got, 64);
            g_assert_cmpint(blk_pread(blk, off, len, got, 0), ==, 0);
            g_assert_cmpmem(model + off, len, got, len);
        }
    }
}

typedef struct ByteWrite {
    BlockBackend *blk;
    int at;
    int *left;
} ByteWrite;

static void coroutine_fn byte_write(void *opaque)
{
    ByteWrite *w = opaque;
    uint8_t b = (uint8_t)(w->at + 1);

    g_assert_cmpint(blk_co_pwrite(w->blk, w->at, 1, &b, 0), ==, 0);
    --*w->left;
}

/* Read-modify-write cycles of one block follow each other. */
static void test_rmw_serialises(void)
{
    g_autoptr(BlockBackend) blk =
        open_opts("driver=test-mem,size=4k,align=512,slow=on", BLK_O_RDWR);
    ByteWrite w[64];
    int left = 64;

    for (int i = 0; i < 64; i++) {
        w[i] = (ByteWrite){ blk, i, &left };
        coroutine_enter(coroutine_create(byte_write, &w[i]));
    }
    AIO_WAIT_WHILE(aio_current(), left > 0);
    for (int i = 0; i < 64; i++) {
        g_assert_cmpint(last_mem->data[i], ==, i + 1);
    }
    g_assert_cmpint(last_mem->data[64], ==, 0xaa);
}

typedef struct DrainArgs {
    BlockBackend *blk;
    BdrvDrain *drain;
} DrainArgs;

static int coroutine_fn drain_fn(void *opaque)
{
    DrainArgs *a = opaque;

    a->drain = bdrv_co_drain_begin(blk_bs(a->blk));
    return 0;
}

static BdrvDrain *drain(BlockBackend *blk)
{
    DrainArgs a = { .blk = blk };

    g_assert_cmpint(co_run_sync(drain_fn, &a), ==, 0);
    return a.drain;
}

static void test_drain(void)
{
    g_autoptr(BlockBackend) blk = open_opts("driver=test-mem,size=4k,slow=on", BLK_O_RDWR);
    ByteWrite w[8];
    int left = 8;
    BdrvDrain *d;

    for (int i = 0; i < 8; i++) {
        w[i] = (ByteWrite){ blk, i, &left };
        coroutine_enter(coroutine_create(byte_write, &w[i]));
    }
    g_assert_cmpint(left, ==, 8);
    d = drain(blk);
    g_assert_cmpint(left, ==, 0);
    left = 1;
    coroutine_enter(coroutine_create(byte_write, &w[0]));
    for (int i = 0; i < 10; i++) {
        aio_poll(aio_current(), false);
    }
    g_assert_cmpint(left, ==, 1); /* held back */
    bdrv_drain_end(d);
    AIO_WAIT_WHILE(aio_current(), left > 0);
}

typedef struct Worker {
    BlockBackend *blk;
    int first; /* byte that this one owns in each block */
    atomic_int *left;
} Worker;

#define WORKER_BLOCKS 64
#define WORKERS 16

/* Own bytes in blocks that all share: lost when read-modify-write cycles of two threads mix. */
static void coroutine_fn worker(void *opaque)
{
    Worker *w = opaque;

    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < WORKER_BLOCKS; i++) {
            uint8_t b = (uint8_t)(round + w->first + i), got = 0;
            int64_t at = i * 512 + w->first;

            g_assert_cmpint(blk_co_pwrite(w->blk, at, 1, &b, 0), ==, 0);
            g_assert_cmpint(blk_co_pread(w->blk, at, 1, &got, 0), ==, 0);
            g_assert_cmpint(got, ==, b);
        }
    }
    atomic_fetch_sub(w->left, 1);
}

static void test_threads(void)
{
    g_autoptr(BlockBackend) blk =
        open_opts("driver=test-mem,size=64k,align=512,slow=on", BLK_O_RDWR);
    IoThread *threads[4];
    Worker w[WORKERS];
    atomic_int left = WORKERS;

    for (int i = 0; i < 4; i++) {
        threads[i] = io_thread_new("worker", NULL);
    }
    for (int i = 0; i < WORKERS; i++) {
        w[i] = (Worker){ blk, i, &left };
        aio_co_schedule(io_thread_context(threads[i % 4]), coroutine_create(worker, &w[i]));
    }
    while (atomic_load(&left) > 0) {
        BdrvDrain *d = drain(blk);
        int writes;

        writes = atomic_load(&last_mem->writes);
        g_usleep(200);
        g_assert_cmpint(writes, ==, atomic_load(&last_mem->writes));
        bdrv_drain_end(d);
        g_usleep(1000);
    }
    for (int i = 0; i < 4; i++) {
        io_thread_free(threads[i]);
    }
}

static void test_split(void)
{
    g_autoptr(BlockBackend) blk = open_opts("driver=test-mem,size=1M,max=4096", BLK_O_RDWR);
    g_autofree uint8_t *buf = g_malloc(100000);

    memset(buf, 1, 100000);
    last_mem->writes = 0;
    g_assert_cmpint(blk_pwrite(blk, 0, 100000, buf, 0), ==, 0);
    g_assert_cmpint(last_mem->writes, ==, 25);
    memset(buf, 0, 100000);
    g_assert_cmpint(blk_pread(blk, 0, 100000, buf, 0), ==, 0);
    g_assert_cmpint(buf[99999], ==, 1);
}

/* A limit that no aligned request keeps is taken as one block. */
static void test_limit_below_alignment(void)
{
    g_autoptr(BlockBackend) blk =
        open_opts("driver=test-mem,size=1M,max=512,align=4096", BLK_O_RDWR);
    g_autofree uint8_t *buf = g_malloc(20000);

    memset(buf, 1, 20000);
    last_mem->writes = 0;
    g_assert_cmpint(blk_pwrite(blk, 0, 16384, buf, 0), ==, 0);
    g_assert_cmpint(last_mem->writes, ==, 4);
    g_assert_cmpint(blk_pwrite(blk, 100, 20000, buf, 0), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 4096, 8192, 0), ==, 0);
    g_assert_cmpint(blk_pread(blk, 0, 20000, buf, 0), ==, 0);
    g_assert_cmpint(buf[4095], ==, 1);
    g_assert_cmpint(buf[4096], ==, 0);
    g_assert_cmpint(buf[12288], ==, 1);
}

/* ---- Status: data up to status_edge, zeroes after it, in one answer or none ---- */

static int64_t status_edge;

static int edge_status_of(void *file, int64_t offset, int64_t *bytes)
{
    bool data = offset < status_edge;

    *bytes = status_edge == 0 ? 0 : data ? MIN(*bytes, status_edge - offset) : *bytes;
    return data ? BLK_DATA : BLK_ZERO;
}

static MemoryStore edge_store;

static int edge_status(BlockBackend *blk, int64_t offset, int64_t *pnum)
{
    return blk_block_status_above(blk, NULL, NULL, offset, 8192 - offset, pnum, NULL, NULL, NULL);
}

static void test_status_moves_on(void)
{
    g_autoptr(BlockBackend) blk = NULL;
    int64_t n;

    edge_store = mem_store;
    edge_store.name = "test-edge";
    edge_store.status = edge_status_of;
    memory_register(&edge_store);
    blk = open_opts("driver=test-edge,size=8192,align=512", 0);
    status_edge = 1000;
    g_assert_cmpint(edge_status(blk, 0, &n) & (BLK_DATA | BLK_ZERO), ==, BLK_DATA);
    g_assert_cmpint(n, ==, 512);
    g_assert_cmpint(edge_status(blk, 512, &n) & (BLK_DATA | BLK_ZERO), ==, BLK_DATA);
    g_assert_cmpint(n, ==, 512);
    g_assert_cmpint(edge_status(blk, 1000, &n) & (BLK_DATA | BLK_ZERO), ==, BLK_DATA);
    g_assert_cmpint(n, ==, 24);
    g_assert_cmpint(edge_status(blk, 1024, &n) & (BLK_DATA | BLK_ZERO), ==, BLK_ZERO);
    g_assert_cmpint(n, ==, 7168);
    status_edge = 0;
    g_assert_cmpint(edge_status(blk, 0, &n), ==, -EIO);
}

/* ---- The start of a guessed raw image (INV-GUARD) ---- */

typedef struct GuardedWrite {
    BlockBackend *blk;
    int64_t offset;
    uint8_t byte;
    int ret, *left;
} GuardedWrite;

static void coroutine_fn guarded_entry(void *opaque)
{
    GuardedWrite *w = opaque;

    w->ret = blk_co_pwrite(w->blk, w->offset, 1, &w->byte, 0);
    --*w->left;
}

/* The bytes of a header all in flight at once: one of them is refused, and no header is there. */
static void test_guard_in_flight(void)
{
    static const uint8_t header[8] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 3 };
    g_autoptr(BlockBackend) blk = open_opts("file.driver=test-mem,file.size=1M", BLK_O_RDWR);
    GuardedWrite w[8];
    uint8_t back[8];
    int left = 8, refused = 0;

    g_assert_nonnull(blk_probed_raw(blk));
    last_mem->slow = true;
    for (int i = 0; i < 8; i++) {
        w[i] = (GuardedWrite){ blk, i, header[i], 1, &left };
        coroutine_enter(coroutine_create(guarded_entry, &w[i]));
    }
    g_assert_cmpint(left, ==, 8); /* so they are in flight together */
    AIO_WAIT_WHILE(aio_current(), left > 0);
    for (int i = 0; i < 8; i++) {
        g_assert_true(w[i].ret == 0 || w[i].ret == -EPERM);
        refused += w[i].ret != 0;
    }
    g_assert_cmpint(refused, ==, 1);
    g_assert_cmpint(blk_pread(blk, 0, 8, back, 0), ==, 0);
    g_assert_cmpint(memcmp(back, header, 8), !=, 0);
}

/* A guest that changes its buffer after the check has written what was checked. */
static void test_guard_copies(void)
{
    g_autoptr(BlockBackend) blk = open_opts("file.driver=test-mem,file.size=1M", BLK_O_RDWR);
    GuardedWrite w;
    uint8_t back;
    int left = 1, writes;

    last_mem->slow = true;
    writes = last_mem->writes;
    w = (GuardedWrite){ blk, 0, 'A', 1, &left };
    coroutine_enter(coroutine_create(guarded_entry, &w));
    while (last_mem->writes == writes) { /* it is checked, and being written */
        aio_poll(aio_current(), true);
    }
    g_assert_cmpint(left, ==, 1);
    w.byte = 'B';
    AIO_WAIT_WHILE(aio_current(), left > 0);
    g_assert_cmpint(blk_pread(blk, 0, 1, &back, 0), ==, 0);
    g_assert_cmpint(back, ==, 'A');
}

/* Where the driver has no call for it, zeroes are written: all of them, and no more. */
static void test_zero_fallback(void)
{
    g_autoptr(BlockBackend) blk = open_opts("driver=test-mem,size=4M", BLK_O_RDWR);
    g_autofree uint8_t *got = g_malloc(4 * MiB);
    int64_t start = 1000, end = 3 * MiB + 77;

    g_assert_cmpint(blk_pwrite_zeroes(blk, start, end - start, 0), ==, 0);
    g_assert_cmpint(blk_pread(blk, 0, 4 * MiB, got, 0), ==, 0);
    g_assert_true(buffer_is_zero(got + start, (size_t)(end - start)));
    for (int64_t i = 0; i < start; i++) {
        g_assert_cmphex(got[i], ==, 0xaa);
    }
    for (int64_t i = end; i < 4 * MiB; i++) {
        g_assert_cmphex(got[i], ==, 0xaa);
    }
}

static void test_flush(void)
{
    g_autoptr(BlockBackend) blk = open_opts("driver=test-mem", BLK_O_RDWR);
    uint8_t b = 1;

    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(last_mem->syncs, ==,
                    1); /* nothing was written: but before, by a process that died? */
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(last_mem->syncs, ==, 1); /* nothing was written */
    blk_pwrite(blk, 0, 1, &b, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(last_mem->syncs, ==, 2);
    blk_pwrite(blk, 0, 1, &b, BLK_REQ_FUA);
    g_assert_cmpint(last_mem->syncs, ==, 3);
    blk_set_write_cache(blk, false);
    blk_pwrite(blk, 0, 1, &b, 0);
    g_assert_cmpint(last_mem->syncs, ==, 4);
    last_mem->fail_writes = 1;
    g_assert_cmpint(blk_pwrite(blk, 0, 1, &b, 0), ==, -EIO);
    last_mem->fail_writes = 0;
}

/* A sync that failed is asked for again: what it was to cover is not safe yet. */
static void test_flush_fails(void)
{
    g_autoptr(BlockBackend) blk = open_opts("driver=test-mem", BLK_O_RDWR);
    uint8_t b = 1;

    g_assert_cmpint(blk_pwrite(blk, 0, 1, &b, 0), ==, 0);
    last_mem->fail_syncs = 1;
    g_assert_cmpint(blk_flush(blk), ==, -EIO);
    g_assert_cmpint(blk_flush(blk), ==, -EIO);
    g_assert_cmpint(last_mem->syncs, ==, 2);
    last_mem->fail_syncs = 0;
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(last_mem->syncs, ==, 3);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(last_mem->syncs, ==, 3);
}

static void test_no_flush(void)
{
    g_autoptr(BlockBackend) blk = open_opts("driver=test-mem,cache.no-flush=on", BLK_O_RDWR);
    uint8_t b = 1;

    blk_pwrite(blk, 0, 1, &b, BLK_REQ_FUA);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(last_mem->syncs, ==, 0);
}

/* What fails at close is the close's result, whichever node it is and whatever else fails; the
 * first counts. */
static void test_close_errors(void)
{
    BlockBackend *blk = open_opts("driver=test-mem", BLK_O_RDWR);
    Mem *file;

    last_mem->fail_syncs = 1;
    g_assert_cmpint(blk_close(blk), ==, -EIO);

    blk = open_opts("driver=test-mem", BLK_O_RDWR);
    last_mem->fail_close = true;
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(blk_close(blk), ==, -EDQUOT);

    blk = open_opts("driver=raw,file.driver=test-mem", BLK_O_RDWR);
    last_mem->fail_syncs = last_mem->fail_close = 1;
    g_assert_cmpint(blk_close(blk), ==, -EIO);

    blk = open_opts("driver=test-mem", 0);
    last_mem->fail_close = true;
    last_mem->fail_syncs = 1; /* a reader has nothing to sync */
    g_assert_cmpint(blk_close(blk), ==, -EDQUOT);

    blk = open_opts("driver=test-cow,file.driver=test-mem,backing.driver=test-mem", BLK_O_RDWR);
    last_mem->fail_close = true; /* the backing file: opened last */
    g_assert_cmpint(blk_close(blk), ==, -EDQUOT);

    blk = open_opts("driver=test-mem,node-name=shared", BLK_O_RDWR);
    file = last_mem;
    g_assert_cmpint(blk_close(open_opts("driver=raw,file=shared", 0)), ==, 0);
    file->fail_close = true; /* not closed before its last user goes */
    g_assert_cmpint(blk_close(open_opts("driver=raw,file=shared", 0)), ==, 0);
    g_assert_cmpint(blk_close(blk), ==, -EDQUOT);
    g_assert_cmpint(blk_close(NULL), ==, 0);
}

static void test_perms(void)
{
    BlockBackend *blk = open_opts("driver=raw,file.driver=test-mem", BLK_O_RDWR);

    g_assert_cmpint(last_mem->perm, ==, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    g_assert_cmpint(last_mem->shared, ==, BLK_PERM_ALL);
    g_assert_cmpint(blk_truncate(blk, 8192, true, BLK_PREALLOC_OFF, 0, NULL), ==, 0);
    g_assert_cmpint(last_mem->size, ==, 8192);
    g_assert_cmpint(last_mem->perm, ==, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    blk_close(blk);

    blk = open_opts("driver=test-cow,file.driver=test-mem", BLK_O_RDWR);
    g_assert_cmpint(last_mem->perm, ==,
                    BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE);
    g_assert_cmpint(last_mem->shared, ==, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    blk_close(blk);

    blk = open_opts("driver=test-cow,file.driver=test-mem,force-share=on", 0);
    g_assert_cmpint(last_mem->perm, ==, BLK_PERM_CONSISTENT_READ);
    g_assert_cmpint(last_mem->shared, ==, BLK_PERM_ALL);
    blk_close(blk);
}

/* What a node lets others do is what all of its parents share, whichever came first. */
static void test_perms_two_parents(void)
{
    BlockBackend *first, *second;

    first = open_opts("driver=raw,file.driver=test-mem,file.node-name=both", 0);
    g_assert_cmpint(last_mem->shared, ==, BLK_PERM_ALL);
    second = open_opts("driver=test-cow,file=both", 0);
    g_assert_cmpint(last_mem->shared, ==, BLK_PERM_ALL & ~(BLK_PERM_WRITE | BLK_PERM_RESIZE));
    blk_close(second);
    g_assert_cmpint(last_mem->shared, ==, BLK_PERM_ALL);
    second = open_opts("driver=raw,file=both", 0);
    blk_close(first);
    g_assert_cmpint(last_mem->shared, ==, BLK_PERM_ALL);
    blk_close(second);
}

static void test_chain(void)
{
    g_autoptr(BlockBackend) blk = open_opts("driver=test-cow,size=1M,file.driver=test-mem,backing."
                                            "driver=raw,backing.file.driver=test-mem,"
                                            "backing.file.size=64k",
                                            BLK_O_RDWR);
    BlockDriverState *file;
    int64_t pnum, map;
    int depth, ret;
    uint8_t buf[1024];

    ret = blk_block_status_above(blk, NULL, NULL, 0, 1 * MiB, &pnum, &map, &file, &depth);
    g_assert_cmpint(ret, ==, BLK_DATA | BLK_ALLOCATED | BLK_OFFSET_VALID);
    g_assert_cmpint(pnum, ==, 65536);
    g_assert_cmpint(depth, ==, 1);
    ret = blk_block_status_above(blk, NULL, NULL, 65536, 1 * MiB, &pnum, &map, &file, &depth);
    g_assert_true(ret & BLK_ZERO);
    g_assert_true(ret & BLK_EOF);
    g_assert_cmpint(pnum, ==, 1 * MiB - 65536);
    g_assert_cmpint(blk_is_allocated(blk, 0, 4096, &pnum), ==, 0);

    /* The end of the backing file inside of a read. */
    g_assert_cmpint(blk_pread(blk, 65536 - 512, 1024, buf, 0), ==, 0);
    g_assert_cmpint(buf[511], ==, 0xaa);
    g_assert_cmpint(buf[512], ==, 0);
}

/* A disk that grows must not show what its longer backing file has there. */
static void test_grow_over_backing(void)
{
    g_autoptr(BlockBackend) blk = open_opts(
        "driver=test-cow,size=4k,file.driver=test-mem,backing.driver=test-mem,backing.size=64k",
        BLK_O_RDWR);
    Cow *cow = blk_bs(blk)->opaque;

    g_assert_cmpint(blk_truncate(blk, 128 * KiB, true, BLK_PREALLOC_OFF, 0, NULL), ==, 0);
    g_assert_cmpint(blk_getlength(blk), ==, 128 * KiB);
    g_assert_cmpint(cow->zeroed, ==, 1);
}

static void test_detect_zeroes(void)
{
    g_autoptr(BlockBackend) blk =
        open_opts("driver=test-cow,file.driver=test-mem,detect-zeroes=on", BLK_O_RDWR);
    uint8_t buf[512] = { 0 };

    g_assert_cmpint(blk_pwrite(blk, 0, 512, buf, 0), ==, 0);
    g_assert_cmpint(((Cow *)blk_bs(blk)->opaque)->zeroed, ==, 1);
}

static void test_messages(void)
{
    expect_error(NULL, "driver=none", 0, "Unknown driver 'none'");
    expect_error(NULL, "driver=test-mem,foo=1", 0,
                 "Block protocol 'test-mem' doesn't support the option 'foo'");
    expect_error(NULL, "driver=raw,file.driver=test-mem,foo=1", 0,
                 "Block format 'raw' does not support the option 'foo'");
    expect_error(NULL, "filename=x", 0, "Must specify either driver or file");
    expect_error(NULL, "driver=raw", 0, "A block device must be specified for \"file\"");
    expect_error("nosuch:x", NULL, 0, "Unknown protocol 'nosuch'");
    expect_error("json:{}", NULL, 0, "Must specify either driver or file");
    expect_error("json:[]", NULL, 0, "Invalid JSON object given");
    expect_error(NULL, "driver=test-mem,cache.direct=x", 0,
                 "Parameter 'cache.direct' expects 'on' or 'off'");
    expect_error(NULL, "driver=test-mem,discard=x", 0, "Invalid discard option");
    expect_error(NULL, "driver=test-mem,detect-zeroes=x", 0, "invalid parameter value: x");
    expect_error(NULL, "driver=test-mem,node-name=1a", 0, "Invalid node-name: '1a'");
    expect_error(NULL, "driver=raw,node-name=aa,file.driver=test-mem,file.node-name=aa", 0,
                 "Duplicate nodes with node-name='aa'");
    expect_error(NULL, "driver=test-mem,force-share=on", BLK_O_RDWR,
                 "force-share=on can only be used with read-only images");
    expect_error(NULL, "driver=test-mem,read-only=on", BLK_O_RDWR, "Block node is read-only");
    expect_error(NULL, "driver=raw,file=none", 0, "Cannot find device='none' nor node-name='none'");
    expect_error(NULL, "driver=test-cow,file.driver=test-mem,backing=foo", 0,
                 "Could not open backing file: Cannot find device='foo' nor node-name='foo'");
}

static void check_combine(const char *base, const char *name, const char *expected)
{
    g_autofree char *got = blk_path_combine(base, name);

    g_assert_cmpstr(got, ==, expected);
}

static void test_paths(void)
{
    check_combine("a", "b", "b");
    check_combine("/x/a", "b", "/x/b");
    check_combine("x/a", "y/b", "x/y/b");
    check_combine("x/a", "/b", "/b");
    check_combine("x/a", "nbd:b", "nbd:b");
    check_combine("x/a", "./c:b", "x/./c:b");
    check_combine("nbd:x/a", "b", "nbd:x/b");
}

int main(int argc, char **argv)
{
    mem_register();
    g_assert_true(block_register_driver(&cow_driver, NULL));
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/core/registered", test_registered);
    g_test_add_func("/core/range", test_range);
    g_test_add_func("/core/read-only", test_read_only);
    g_test_add_func("/core/unaligned", test_unaligned);
    g_test_add_func("/core/rmw-serialises", test_rmw_serialises);
    g_test_add_func("/core/drain", test_drain);
    g_test_add_func("/core/threads", test_threads);
    g_test_add_func("/core/split", test_split);
    g_test_add_func("/core/limit-below-alignment", test_limit_below_alignment);
    g_test_add_func("/core/status-moves-on", test_status_moves_on);
    g_test_add_func("/core/guard-in-flight", test_guard_in_flight);
    g_test_add_func("/core/guard-copies", test_guard_copies);
    g_test_add_func("/core/zero-fallback", test_zero_fallback);
    g_test_add_func("/core/flush", test_flush);
    g_test_add_func("/core/flush-fails", test_flush_fails);
    g_test_add_func("/core/no-flush", test_no_flush);
    g_test_add_func("/core/perms/two-parents", test_perms_two_parents);
    g_test_add_func("/core/close-errors", test_close_errors);
    g_test_add_func("/core/perms", test_perms);
    g_test_add_func("/core/chain", test_chain);
    g_test_add_func("/core/grow-over-backing", test_grow_over_backing);
    g_test_add_func("/core/detect-zeroes", test_detect_zeroes);
    g_test_add_func("/core/messages", test_messages);
    g_test_add_func("/core/paths", test_paths);
    return g_test_run();
}
