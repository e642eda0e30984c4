/* SPDX-License-Identifier: MIT */
/* What the file driver learns from errors: INV-FILE-1, INV-FLOCK-1.  The calls are this program's
 * own, so that each can fail with any error once, or always. */
/* Shows INV-FLOCK-1. */
#include "block/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEN INT64_C(1048576)

/* Of calls with this mode (fallocate) or command (fcntl): how many still succeed, how many fail
 * after them, and with what. */
static struct Fault {
    int key, after, times, err;
    int calls;
} fault;

static int fails(int key)
{
    if (!fault.err || key != fault.key) {
        return 0;
    }
    fault.calls++;
    if (fault.after > 0) {
        fault.after--;
        return 0;
    }
    return fault.times-- > 0 ? fault.err : 0;
}

#define OURS __attribute__((visibility("default")))

OURS int fallocate(int fd, int mode, off_t offset, off_t len)
{
    int err = fails(mode);

    if (err) {
        errno = err;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

OURS int fcntl(int fd, int cmd, ...)
{
    int err = fails(cmd);
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (err) {
        errno = err;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, cmd, arg);
}

static char *name;

static BlockBackend *open_file(const char *locking, GError **errp)
{
    Options *o = opts_new();

    opts_set(o, "driver", "file");
    opts_set(o, "filename", name);
    opts_set(o, "locking", locking);
    return blk_open(NULL, o, BLK_O_RDWR | BLK_O_UNMAP, errp);
}

/* A file full of ones. */
static BlockBackend *open_filled(void)
{
    g_autofree char *ones = g_malloc(LEN);
    GError *err = NULL;
    BlockBackend *blk;

    fault = (struct Fault){ 0 };
    blk = open_file("auto", &err);
    g_assert_no_error(err);
    memset(ones, 1, LEN);
    g_assert_cmpint(blk_pwrite(blk, 0, LEN, ones, 0), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    return blk;
}

static int64_t allocated(void)
{
    struct stat st;

    g_assert_cmpint(stat(name, &st), ==, 0);
    return (int64_t)st.st_blocks * 512;
}

static void check_zero(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    g_autofree char *buf = g_malloc(bytes);

    g_assert_cmpint(blk_pread(blk, offset, bytes, buf, 0), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        g_assert_cmpint(buf[i], ==, 0);
    }
}

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* @err, once, must not be the end of punching, neither for discards nor for zero writes. */
static void check_passing_error(int err)
{
    BlockBackend *blk = open_filled();

    fault = (struct Fault){ PUNCH, 0, 2, err, 0 };
    g_assert_cmpint(blk_pdiscard(blk, 0, 65536), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 65536, BLK_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(fault.calls, ==, 2);
    check_zero(blk, 0, 65536);
    g_assert_cmpint(blk_pdiscard(blk, 0, LEN / 2), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, LEN / 2, LEN / 2, BLK_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(fault.calls, ==, 4);
    g_assert_cmpint(allocated(), ==, 0);
    check_zero(blk, 0, LEN);
    blk_close(blk);
}

static void test_passing_errors(void)
{
    check_passing_error(EINVAL);
    check_passing_error(EPERM);
}

static void test_missing_call(void)
{
    static const int errors[] = { EOPNOTSUPP, ENOSYS, ENODEV };

    for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
        BlockBackend *blk = open_filled();

        fault = (struct Fault){ PUNCH, 0, 1, errors[i], 0 };
        g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 65536, BLK_REQ_MAY_UNMAP), ==, 0);
        g_assert_cmpint(blk_pwrite_zeroes(blk, 65536, 65536, BLK_REQ_MAY_UNMAP), ==, 0);
        g_assert_cmpint(blk_pdiscard(blk, 0, 65536), ==, 0);
        g_assert_cmpint(fault.calls, ==, 1);
        check_zero(blk, 0, 131072);
        blk_close(blk);
    }
}

/* A file system without one mode may well have another. */
static void test_missing_allocation(void)
{
    BlockBackend *blk = open_filled();

    /* The first call tells that zeroing is not there, so that the next one punches and allocates;
     * that there is no allocating tells nothing about punching. */
    fault = (struct Fault){ FALLOC_FL_ZERO_RANGE, 0, 1, EOPNOTSUPP, 0 };
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 65536, 0), ==, 0);
    g_assert_cmpint(fault.calls, ==, 1);
    fault = (struct Fault){ 0, 0, 1, EOPNOTSUPP, 0 };
    g_assert_cmpint(blk_pwrite_zeroes(blk, 65536, 65536, 0), ==, 0);
    g_assert_cmpint(fault.calls, ==, 1);
    check_zero(blk, 0, 131072);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, LEN, BLK_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(allocated(), ==, 0);
    blk_close(blk);
}

static void test_no_locks(void)
{
    static const int errors[] = { ENOLCK, ENOSYS, EOPNOTSUPP, EINVAL };

    for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
        g_autoptr(GError) err = NULL;
        BlockBackend *blk;

        fault = (struct Fault){ F_OFD_SETLK, 0, 1000, errors[i], 0 };
        blk = open_file("auto", &err);
        g_assert_no_error(err);
        g_assert_nonnull(blk);
        check_zero(blk, 0, 512);
        g_assert_cmpint(fault.calls, ==, 1); /* asked once */
        blk_close(blk);
        g_assert_null(open_file("on", &err));
        g_assert_nonnull(strstr(err->message, "locking=on was requested"));
        g_assert_nonnull(strstr(err->message, g_strerror(errors[i])));
    }
}

/* Where one lock was had, there are locks. */
static void test_lock_fails_later(void)
{
    g_autoptr(GError) err = NULL;

    fault = (struct Fault){ F_OFD_SETLK, 1, 1, ENOLCK, 0 };
    g_assert_null(open_file("auto", &err));
    g_assert_nonnull(strstr(err->message, "Failed to lock byte"));
}

static void test_looking_fails(void)
{
    g_autoptr(GError) err = NULL;

    fault = (struct Fault){ F_OFD_GETLK, 0, 1000, EIO, 0 };
    g_assert_null(open_file("auto", &err));
    g_assert_nonnull(strstr(err->message, "Failed to look for locks"));
}

int main(int argc, char **argv)
{
    int fd, ret;

    g_test_init(&argc, &argv, NULL);
    name = g_strdup("/var/tmp/cowlet-file-learn-XXXXXX");
    fd = g_mkstemp(name);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, LEN), ==, 0);
    close(fd);
    g_test_add_func("/file-learn/passing-errors", test_passing_errors);
    g_test_add_func("/file-learn/missing-call", test_missing_call);
    g_test_add_func("/file-learn/missing-allocation", test_missing_allocation);
    g_test_add_func("/file-learn/no-locks", test_no_locks);
    g_test_add_func("/file-learn/lock-fails-later", test_lock_fails_later);
    g_test_add_func("/file-learn/looking-fails", test_looking_fails);
    ret = g_test_run();
    unlink(name);
    g_free(name);
    return ret;
}
