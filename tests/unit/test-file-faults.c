/* SPDX-License-Identifier: MIT */
/*
 * The file driver where the kernel does less than it was asked for: transfers cut short, calls that
 * a signal interrupts, a device that is full in the middle of a write, a sync that fails once.
 */
#include "block/backend.h"
#include "fake-kernel.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LEN ((size_t)300000)

/* ---- Files ---- */

static uint8_t *data, *back;

/* In memory, where all is done in the caller's thread, and not, where threads do it. */
static const char *const places[] = { "/dev/shm", "/var/tmp" };

static char *make_file(const char *place)
{
    char *name = g_build_filename(place, "cowlet-faults-XXXXXX", NULL);
    int fd = g_mkstemp(name);

    if (fd < 0) {
        g_clear_pointer(&name, g_free);
        return NULL;
    }
    g_assert_cmpint(ftruncate(fd, 1 * MiB), ==, 0);
    close(fd);
    return name;
}

static BlockBackend *open_file(const char *driver, const char *name)
{
    Options *o = opts_new();
    GError *err = NULL;
    BlockBackend *blk;
    const char *prefix = g_str_equal(driver, "file") ? "" : "file.";

    opts_set(o, "driver", driver);
    g_assert_true(
        opts_parse(o, *prefix ? "file.driver=file,file.aio=threads" : "aio=threads", NULL, NULL));
    opts_set(o, *prefix ? "file.filename" : "filename", name);
    blk = blk_open(NULL, o, BLK_O_RDWR, &err);
    g_assert_no_error(err);
    return blk;
}

/* Run @fn on a file of each place. */
static void in_each_place(void (*fn)(BlockBackend *blk))
{
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *name = make_file(places[i]);
        BlockBackend *blk;

        if (!name) {
            g_test_message("no files in %s", places[i]);
            continue;
        }
        kernel_reset();
        blk = open_file("file", name);
        fn(blk);
        kernel_reset();
        blk_close(blk);
        unlink(name);
    }
}

/* As they are on the host, by other calls than the driver's. */
static void expect_data(BlockBackend *blk, int64_t offset, size_t len)
{
    kernel_reset();
    memset(back, 0, LEN);
    g_assert_cmpint(blk_pread(blk, offset, len, back, 0), ==, 0);
    g_assert_cmpmem(data, len, back, len);
}

/* Small ones go to the kernel from the caller's thread, middle ones through a lane, large ones to
 * the pool. */
static const size_t sizes[] = { 1, 512, 5000, 40000, LEN };

typedef struct Transfer {
    BlockBackend *blk;
    bool write;
    int64_t offset;
    IOVector v;
} Transfer;

static int coroutine_fn transfer_fn(void *opaque)
{
    Transfer *t = opaque;

    return t->write ? blk_co_pwritev(t->blk, t->offset, &t->v, 0)
                    : blk_co_preadv(t->blk, t->offset, &t->v, 0);
}

/* A vector of several elements over @data or @back. */
static int transfer_vector(BlockBackend *blk, bool write, int64_t offset, size_t len)
{
    uint8_t *buf = write ? data : back;
    size_t third = len / 3;
    struct iovec parts[3] = { { buf, third },
                              { buf + third, third },
                              { buf + third * 2, len - third * 2 } };
    Transfer t = { .blk = blk, .write = write, .offset = offset };

    iov_init_external(&t.v, parts, 3);
    return co_run_sync(transfer_fn, &t);
}

static void move_all(BlockBackend *blk, size_t most, unsigned interrupt)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        int64_t offset = 1000 * (int64_t)i + 7;
        size_t len = sizes[i];

        memset(data, 0x30 + (int)i, LEN);
        data[len - 1] = 0xff;
        kernel.most = most ? most : len - len / 4;
        kernel.interrupt = interrupt;
        g_assert_cmpint(blk_pwrite(blk, offset, len, data, 0), ==, 0);
        expect_data(blk, offset, len);
        data[len / 2] = 0xfe;
        kernel.most = most ? most : len - len / 4;
        kernel.interrupt = interrupt;
        g_assert_cmpint(transfer_vector(blk, true, offset, len), ==, 0);
        memset(back, 0, LEN);
        g_assert_cmpint(transfer_vector(blk, false, offset, len), ==, 0);
        g_assert_cmpmem(data, len, back, len);
        g_assert_true(kernel.most >= len || atomic_load(&kernel.shortened) > 0);
        g_assert_true(!interrupt || atomic_load(&kernel.interrupted) > 0);
        expect_data(blk, offset, len);
    }
}

static void short_ones(BlockBackend *blk)
{
    move_all(blk, 0, 0);
    move_all(blk, 333, 0);
}

static void test_short(void)
{
    in_each_place(short_ones);
}

static void interrupted_ones(BlockBackend *blk)
{
    move_all(blk, LEN, 2);
    move_all(blk, 4096, 3);
    kernel.interrupt = 2;
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 8192, BLK_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 65536, 8192, BLK_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpuint(atomic_load(&kernel.interrupted), >, 0);
    memset(data, 0, 8192);
    expect_data(blk, 0, 8192);
    expect_data(blk, 65536, 8192);
}

static void test_interrupted(void)
{
    in_each_place(interrupted_ones);
}

/* A device that is full in the middle of a write: the write fails, however much of it is there. */
static void full_in_the_middle(BlockBackend *blk)
{
    for (unsigned i = 1; i < G_N_ELEMENTS(sizes); i++) {
        int64_t offset = 8192;
        size_t len = sizes[i];

        memset(data, 0x60 + (int)i, LEN);
        kernel.full_at = offset + (int64_t)len / 2;
        g_assert_cmpint(blk_pwrite(blk, offset, len, data, 0), ==, -ENOSPC);
        g_assert_cmpuint(atomic_load(&kernel.shortened), >, 0);
        kernel_reset();
        g_assert_cmpint(blk_pwrite(blk, offset, len, data, 0), ==, 0); /* there is room again */
        expect_data(blk, offset, len);
    }
}

static void test_full(void)
{
    in_each_place(full_in_the_middle);
}

/*
 * A sync fails once. The kernel tells of lost pages once only, so the next sync says nothing of
 * them: the driver remembers, until the file is opened again.
 */
static void sync_fails(BlockBackend *blk)
{
    g_assert_cmpint(blk_pwrite(blk, 0, 512, data, 0), ==, 0);
    atomic_store(&kernel.failed_syncs, 1);
    g_assert_cmpint(blk_flush(blk), ==, -EIO);
    g_assert_cmpint(atomic_load(&kernel.failed_syncs), ==, 0); /* it was asked, and failed */
    g_assert_cmpint(blk_flush(blk), ==, -EIO);
    (void)blk_pwrite(blk, 0, 512, data, 0);
    g_assert_cmpint(blk_flush(blk), ==, -EIO);
    expect_data(blk, 0, 512);
}

static void test_sync(void)
{
    in_each_place(sync_fails);
}

/* The same seen through qcow2: no flush that follows claims that all is on disk. */
static void test_sync_below_qcow2(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *name = make_file(places[i]);
        Options *o = opts_new();
        BlockBackend *blk;

        if (!name) {
            opts_free(o);
            continue;
        }
        kernel_reset();
        opts_set(o, "size", "1M");
        g_assert_cmpint(blk_create(name, "qcow2", o, NULL), ==, 0);
        blk = open_file("qcow2", name);
        g_assert_cmpint(blk_pwrite(blk, 0, 100000, data, 0), ==, 0);
        g_assert_cmpint(blk_flush(blk), ==, 0);
        g_assert_cmpint(blk_pwrite(blk, 500000, 100000, data, 0), ==, 0);
        atomic_store(&kernel.failed_syncs, 1);
        g_assert_cmpint(blk_flush(blk), ==, -EIO);
        g_assert_cmpint(blk_flush(blk), <, 0);
        (void)blk_pwrite(blk, 0, 512, data, 0);
        g_assert_cmpint(blk_flush(blk), <, 0);
        blk_close(blk);
        unlink(name);
    }
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    data = g_malloc(LEN);
    back = g_malloc(LEN);
    memset(data, 0x55, LEN);
    g_test_add_func("/file/short-transfers", test_short);
    g_test_add_func("/file/interrupted", test_interrupted);
    g_test_add_func("/file/full-in-the-middle", test_full);
    g_test_add_func("/file/failed-sync", test_sync);
    g_test_add_func("/file/failed-sync/below-qcow2", test_sync_below_qcow2);
    ret = g_test_run();
    g_free(data);
    g_free(back);
    return ret;
}
