/* SPDX-License-Identifier: MIT */
/* The file driver's ways to the kernel: io_uring, threads, and the change from one to the other
 * where a sandbox refuses io_uring, before or after it was used; buffered and O_DIRECT; several
 * threads. */
#include "sandbox.h"

#include "block/backend.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LEN ((size_t)(1 * MiB))

static uint8_t *buf, *back;

/* Not in /tmp, which may be in memory: there all is done in the caller's thread. */
static char *make_file(void)
{
    char *name = g_strdup("/var/tmp/cowlet-file-io-XXXXXX");
    int fd = g_mkstemp(name);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, 2 * LEN), ==, 0);
    close(fd);
    return name;
}

static BlockBackend *open_file(const char *name, const char *options)
{
    Options *o = opts_new();
    GError *err = NULL;
    BlockBackend *blk;

    g_assert_true(opts_parse(o, options, NULL, NULL));
    opts_set(o, "driver", "file");
    opts_set(o, "filename", name);
    blk = blk_open(NULL, o, BLK_O_RDWR, &err);
    if (err && strstr(err->message, "O_DIRECT")) {
        g_test_skip("no O_DIRECT here");
        g_error_free(err);
        return NULL;
    }
    g_assert_no_error(err);
    return blk;
}

static void write_and_read(BlockBackend *blk, int byte)
{
    memset(buf, byte, LEN);
    memset(back, 0, LEN);
    g_assert_cmpint(blk_pwrite(blk, 4096, LEN, buf, 0), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(blk_pread(blk, 4096, LEN, back, 0), ==, 0);
    g_assert_cmpmem(buf, LEN, back, LEN);
    g_assert_cmpint(blk_pread(blk, 4096 + 512, 512, back, 0), ==, 0);
    g_assert_cmpmem(buf, 512, back, 512);
    g_assert_cmpint(blk_pwrite(blk, 8192, 512, buf + 512, 0), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 4096, 4096, BLK_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(blk_pread(blk, 4096, 4096, back, 0), ==, 0);
    g_assert_true(buffer_is_zero(back, 4096));
}

static void run(const char *options)
{
    g_autofree char *name = make_file();
    BlockBackend *blk = open_file(name, options);

    if (blk) {
        write_and_read(blk, 1);
        blk_close(blk);
    }
    unlink(name);
}

static void test_ways(void)
{
    run("aio=threads");
    run("aio=io_uring");
    run("cache.direct=on,aio=threads");
    run("cache.direct=on,aio=io_uring");
    run("cache.direct=on,aio=native");
}

/* Refused from the start, and in the middle of the life of an open file. */
static void refused(int call, int err)
{
    static const char *const modes[] = { "cache.direct=off", "cache.direct=on" };
    char *names[2];
    BlockBackend *blk[2];

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 60 * G_USEC_PER_SEC, 0);
        g_test_trap_assert_passed();
        return;
    }
    if (call == __NR_io_uring_setup) {
        sandbox_refuse(call, err);
    }
    for (int i = 0; i < 2; i++) {
        names[i] = make_file();
        blk[i] = open_file(names[i], modes[i]);
        if (blk[i]) {
            write_and_read(blk[i], 2);
        }
    }
    sandbox_refuse(call, err);
    for (int i = 0; i < 2; i++) {
        if (blk[i]) {
            write_and_read(blk[i], 3);
            blk_close(blk[i]);
        }
        unlink(names[i]);
        g_free(names[i]);
    }
}

static void test_setup_eperm(void)
{
    refused(__NR_io_uring_setup, EPERM);
}

static void test_setup_enosys(void)
{
    refused(__NR_io_uring_setup, ENOSYS);
}

static void test_enter_eperm(void)
{
    refused(__NR_io_uring_enter, EPERM);
}

/* Without the calls that only try, as sandboxes of before them answer. */
static void test_no_preadv2(void)
{
    refused(__NR_preadv2, EPERM);
}

static void test_no_pwritev2(void)
{
    refused(__NR_pwritev2, EPERM);
}

/* Where data is, is asked anew after the file changed. */
static void test_status_after_change(void)
{
    g_autofree char *name = make_file();
    BlockBackend *blk = open_file(name, "aio=threads");
    int64_t n;

    memset(buf, 1, LEN);
    if (!(blk_block_status_above(blk, NULL, NULL, 0, LEN, &n, NULL, NULL, NULL) & BLK_ZERO)) {
        g_test_skip("files here have no holes");
    } else {
        g_assert_cmpint(blk_pwrite(blk, 65536, 65536, buf, 0), ==, 0);
        g_assert_true(
            blk_block_status_above(blk, NULL, NULL, 65536, 65536, &n, NULL, NULL, NULL) &
            BLK_DATA);
        g_assert_cmpint(blk_pwrite_zeroes(blk, 65536, 65536, BLK_REQ_MAY_UNMAP), ==, 0);
        g_assert_cmpint(blk_pwrite(blk, 0, 65536, buf, 0), ==, 0);
        g_assert_true(blk_block_status_above(blk, NULL, NULL, 0, 65536, &n, NULL, NULL, NULL) &
                      BLK_DATA);
    }
    blk_close(blk);
    unlink(name);
}

/* A network file system tells at close what it could not store. */
static void test_close_edquot(void)
{
    g_autofree char *name = NULL;
    BlockBackend *blk;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 60 * G_USEC_PER_SEC, 0);
        g_test_trap_assert_passed();
        return;
    }
    name = make_file();
    blk = open_file(name, "aio=threads");
    write_and_read(blk, 4);
    sandbox_refuse(__NR_close, EDQUOT);
    g_assert_cmpint(blk_close(blk), ==, -EDQUOT);
    unlink(name);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    buf = mem_align_try(4096, LEN);
    back = mem_align_try(4096, LEN);
    g_test_add_func("/file-io/ways", test_ways);
    g_test_add_func("/file-io/setup-eperm", test_setup_eperm);
    g_test_add_func("/file-io/setup-enosys", test_setup_enosys);
    g_test_add_func("/file-io/enter-eperm", test_enter_eperm);
    g_test_add_func("/file-io/no-preadv2", test_no_preadv2);
    g_test_add_func("/file-io/no-pwritev2", test_no_pwritev2);
    g_test_add_func("/file-io/status-after-change", test_status_after_change);
    g_test_add_func("/file-io/close-edquot", test_close_edquot);
    ret = g_test_run();
    mem_align_free(buf);
    mem_align_free(back);
    return ret;
}
