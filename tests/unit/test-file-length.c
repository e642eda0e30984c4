/* SPDX-License-Identifier: MIT */
/*
 * A file's length under requests of two threads: what one wrote past the end is not cut off by
 * another that looked at the length before and sets it after.  ftruncate() is this program's, and
 * waits for the other thread where it is called.
 */
/* Shows INV-LEN-1, INV-LEN-2. */
#include "block/backend.h"
#include "block/driver.h"
#include "block/io.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FAR (1 * MiB)
#define PATIENCE 300 /* ms that ftruncate() gives the other thread */

static atomic_bool armed, in_window, written;

static int late_truncate(int fd, int64_t length)
{
    if (atomic_exchange(&armed, false)) {
        atomic_store(&in_window, true);
        for (int i = 0; i < PATIENCE && !atomic_load(&written); i++) {
            g_usleep(1000);
        }
    }
    return (int)syscall(SYS_ftruncate, fd, length);
}

/* Whichever name the headers give it. */
int ftruncate64(int fd, off64_t length);
int ftruncate64(int fd, off64_t length)
{
    return late_truncate(fd, length);
}

typedef enum OpKind { OP_WRITE, OP_ZERO, OP_GROW } OpKind;

typedef struct Op {
    BdrvChild *file;
    OpKind kind;
    int64_t offset, bytes;
    int ret;
    atomic_bool done;
} Op;

static int coroutine_fn op_co_do(Op *op)
{
    g_autofree uint8_t *buf = g_malloc(MAX(op->bytes, 1));

    switch (op->kind) {
    case OP_WRITE:
        memset(buf, 0xab, op->bytes);
        return bdrv_co_pwrite(op->file, op->offset, op->bytes, buf, 0);
    case OP_ZERO:
        return bdrv_co_pwrite_zeroes(op->file, op->offset, op->bytes, BLK_REQ_MAY_UNMAP);
    case OP_GROW:
        return bdrv_co_truncate(op->file, op->offset, false, BLK_PREALLOC_OFF, 0, NULL);
    }
    g_assert_not_reached();
}

static void coroutine_fn op_entry(void *opaque)
{
    Op *op = opaque;

    op->ret = op_co_do(op);
    if (op->kind == OP_WRITE) {
        atomic_store(&written, true);
    }
    atomic_store(&op->done, true);
}

static void op_enter(void *opaque)
{
    coroutine_enter(coroutine_create(op_entry, opaque));
}

static void wait_for(atomic_bool *flag, atomic_bool *or_flag)
{
    while (!atomic_load(flag) && !(or_flag && atomic_load(or_flag))) {
        aio_poll(aio_current(), false);
        g_usleep(200);
    }
}

static char *new_file(void)
{
    char *name = g_strdup("/var/tmp/cowlet-file-length-XXXXXX");
    int fd = g_mkstemp(name);

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    return name;
}

static int coroutine_fn open_entry(void *opaque)
{
    BdrvChild **file = opaque;
    g_autofree char *name = new_file();

    *file = bdrv_co_open_root(name, NULL, BLK_O_RDWR | BLK_O_RESIZE | BLK_O_UNMAP | BLK_O_PROTOCOL,
                              NULL);
    unlink(name);
    return *file ? 0 : -1;
}

static int coroutine_fn close_entry(void *opaque)
{
    bdrv_co_close_child(opaque);
    return 0;
}

static int coroutine_fn verify_entry(void *opaque)
{
    uint8_t got[4096];
    BdrvChild *file = opaque;

    g_assert_cmpint(bdrv_co_getlength(file->bs), ==, FAR + sizeof(got));
    g_assert_cmpint(bdrv_co_pread(file, FAR, sizeof(got), got, 0), ==, 0);
    for (size_t i = 0; i < sizeof(got); i++) {
        g_assert_cmphex(got[i], ==, 0xab);
    }
    return 0;
}

/* @first, and once it is about to set the length a write beyond that. */
static void write_during(Op *first)
{
    IoThread *threads[2] = { io_thread_new("first", NULL), io_thread_new("write", NULL) };
    Op write = { .kind = OP_WRITE, .offset = FAR, .bytes = 4096 };

    atomic_store(&in_window, false);
    atomic_store(&written, false);
    g_assert_cmpint(co_run_sync(open_entry, &first->file), ==, 0);
    write.file = first->file;
    atomic_store(&armed, true);
    aio_bh_schedule_oneshot(io_thread_context(threads[0]), op_enter, first);
    wait_for(&in_window, &first->done);
    g_assert_true(atomic_load(&in_window)); /* the race takes place */
    aio_bh_schedule_oneshot(io_thread_context(threads[1]), op_enter, &write);
    wait_for(&write.done, NULL);
    wait_for(&first->done, NULL);
    g_assert_cmpint(first->ret, ==, 0);
    g_assert_cmpint(write.ret, ==, 0);
    g_assert_cmpint(co_run_sync(verify_entry, first->file), ==, 0);
    g_assert_cmpint(co_run_sync(close_entry, first->file), ==, 0);
    io_thread_free(threads[0]);
    io_thread_free(threads[1]);
}

static void test_zero_past_end(void)
{
    write_during(&(Op){ .kind = OP_ZERO, .offset = 100 * KiB, .bytes = 100 * KiB });
}

static void test_grow(void)
{
    write_during(&(Op){ .kind = OP_GROW, .offset = 200 * KiB });
}

typedef struct Ask {
    BlockBackend *blk;
    int64_t n;
} Ask;

static int coroutine_fn ask_entry(void *opaque)
{
    Ask *a = opaque;

    return bdrv_co_block_status_above(blk_bs(a->blk), NULL, FAR, 4096, &a->n, NULL, NULL, NULL);
}

/* What was told of a hole is void once something is written there. */
static void test_status_after_write(void)
{
    uint8_t buf[4096] = { 1 };
    g_autofree char *name = new_file();
    GError *err = NULL;
    BlockBackend *blk;
    Options *o = opts_new();
    Ask a;

    opts_set(o, "driver", "file");
    opts_set(o, "filename", name);
    blk = blk_open(NULL, o, BLK_O_RDWR | BLK_O_RESIZE, &err);
    g_assert_no_error(err);
    a.blk = blk;
    g_assert_cmpint(blk_truncate(blk, 4 * MiB, true, BLK_PREALLOC_OFF, 0, NULL), ==, 0);
    g_assert_cmpint(co_run_sync(ask_entry, &a) & BLK_ZERO, !=, 0);
    g_assert_cmpint(blk_pwrite(blk, FAR, sizeof(buf), buf, 0), ==, 0);
    g_assert_cmpint(co_run_sync(ask_entry, &a) & BLK_ZERO, ==, 0);
    blk_close(blk);
    unlink(name);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/file-length/zero-past-end", test_zero_past_end);
    g_test_add_func("/file-length/grow", test_grow);
    g_test_add_func("/file-length/status-after-write", test_status_after_write);
    return g_test_run();
}
