/* SPDX-License-Identifier: MIT */
/* Copy on read: what is read becomes the image's own, what is written meanwhile stays. Shows
 * INV-COPYUP-1. */
#include "mem-image.h"

#include "mem-driver.h"
#include "open-opts.h"

#include <string.h>

#define DISK (256 * KiB)
#define IMAGE "file.driver=qcow2,file.file.driver=test-mem,"
#define BELOW "file.backing.driver=test-mem,file.backing.size=128k,file.backing.slow=on"

/* An empty image over a slow file of 0xaa, half as long, below a filter that copies. */
static BlockBackend *open_cor(bool extended, const char *options)
{
    g_autofree char *all =
        g_strdup_printf("driver=copy-on-read," IMAGE BELOW "%s", options ? options : "");
    MemImage im = {
        .cluster_bits = 16, .refcount_order = 4, .extended_l2 = extended, .size = DISK
    };
    BlockBackend *blk;

    mem_image_init(&im);
    mem_preload(im.data, im.next);
    blk = open_opts(all, BLK_O_RDWR | BLK_O_UNMAP);
    mem_image_clear(&im);
    return blk;
}

static bool is_own(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    int64_t n;
    int ret = blk_is_allocated(blk, offset, bytes, &n);

    g_assert_cmpint(ret, >=, 0);
    g_assert_cmpint(n, ==, bytes);
    return ret;
}

static void expect(BlockBackend *blk, int64_t offset, int64_t bytes, uint8_t want)
{
    g_autofree uint8_t *buf = g_malloc((size_t)bytes);

    g_assert_cmpint(blk_pread(blk, offset, bytes, buf, 0), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        g_assert_cmphex(buf[i], ==, want);
    }
}

static void test_read(gconstpointer extended)
{
    BlockBackend *blk = open_cor(extended != NULL, NULL);
    int64_t unit = extended ? 2 * KiB : 64 * KiB;

    g_assert_false(is_own(blk, 0, DISK));
    expect(blk, unit + 100, 50, 0xaa);
    g_assert_false(is_own(blk, 0, unit));
    g_assert_true(is_own(blk, unit, unit));
    expect(blk, 120 * KiB, 8 * KiB, 0xaa);
    expect(blk, 128 * KiB, 128 * KiB, 0); /* past the end of what is below */
    g_assert_true(is_own(blk, 128 * KiB, 128 * KiB));
    g_assert_cmpint(blk_close(blk), ==, 0);
}

typedef struct Req {
    BlockBackend *blk;
    int64_t offset, bytes;
    int write; /* this byte; -1: a read */
    bool done;
    int ret;
} Req;

static void coroutine_fn req_entry(void *opaque)
{
    Req *r = opaque;
    g_autofree uint8_t *buf = g_malloc((size_t)r->bytes);

    memset(buf, r->write, (size_t)r->bytes);
    r->ret = r->write >= 0 ? blk_co_pwrite(r->blk, r->offset, r->bytes, buf, 0)
                           : blk_co_pread(r->blk, r->offset, r->bytes, buf, 0);
    r->done = true;
}

/* A write to the cluster that is being copied, begun before or after the read. */
static void test_write_meanwhile(gconstpointer extended)
{
    for (int first = 0; first < 2; first++) {
        BlockBackend *blk = open_cor(extended != NULL, NULL);
        Req read = { blk, 0, 64 * KiB, -1, false, 0 }, write = { blk, 4 * KiB, 512, 7, false, 0 };

        coroutine_enter(coroutine_create(req_entry, first ? &write : &read));
        coroutine_enter(coroutine_create(req_entry, first ? &read : &write));
        AIO_WAIT_WHILE(aio_current(), !read.done || !write.done);
        g_assert_cmpint(read.ret, ==, 0);
        g_assert_cmpint(write.ret, ==, 0);
        expect(blk, 0, 4 * KiB, 0xaa);
        expect(blk, 4 * KiB, 512, 7);
        expect(blk, 4 * KiB + 512, 60 * KiB - 512, 0xaa);
        g_assert_cmpint(blk_close(blk), ==, 0);
    }
}

/* The image cannot take it: the read fails, and what is there is whole. */
static void test_failure(void)
{
    BlockBackend *blk = open_cor(false, NULL);
    Mem *m = memory_file(blk_bs(blk)->file->bs->file->bs);
    uint8_t b;

    atomic_store(&m->fail_writes, 1);
    g_assert_cmpint(blk_pread(blk, 0, 1, &b, 0), ==, -EIO);
    atomic_store(&m->fail_writes, 0);
    expect(blk, 0, 64 * KiB, 0xaa);
    g_assert_cmpint(blk_close(blk), ==, 0);
}

static void test_bottom(void)
{
    BlockBackend *blk = open_cor(false, ",file.node-name=top,bottom=top");

    expect(blk, 0, 4 * KiB, 0xaa);
    g_assert_false(is_own(blk, 0, DISK)); /* what is below the bottom is left there */
    g_assert_cmpint(blk_close(blk), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mem_register();
    g_test_add_data_func("/copy-up/read", NULL, test_read);
    g_test_add_data_func("/copy-up/read-extended", "", test_read);
    g_test_add_data_func("/copy-up/write-meanwhile", NULL, test_write_meanwhile);
    g_test_add_data_func("/copy-up/write-meanwhile-extended", "", test_write_meanwhile);
    g_test_add_func("/copy-up/failure", test_failure);
    g_test_add_func("/copy-up/bottom", test_bottom);
    return g_test_run();
}
