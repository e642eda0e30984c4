/* SPDX-License-Identifier: MIT */
/*
 * The file driver under a program of requests, whose nth system call fails, for every n: what
 * fails says so, the same again succeeds, and nothing that was acknowledged is lost, neither when
 * it is read through the driver nor in the file. A call that a signal interrupted is made again,
 * and nobody hears of it. After a sync that failed no other says that all is on the disk.
 */
#include "block/backend.h"
#include "block/io.h"
#include "fake-kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define SIZE (1 * MiB) /* in the beginning */
#define MAX_SIZE (3 * MiB)

typedef struct Step {
    enum { WRITE, VECTOR, ZERO, UNMAP, DISCARD, GROW, RESERVE, SHRINK, READ, FLUSH } kind;
    int64_t offset, bytes; /* GROW, RESERVE, SHRINK: the new length */
} Step;

static const Step steps[] = {
    { WRITE, 4096, 4096 },
    { WRITE, 1000, 5000 },
    { VECTOR, 300000, 40000 },
    { WRITE, 400000, 300000 },
    { FLUSH, 0, 0 },
    { ZERO, 4096, 8192 },
    { ZERO, 4000, 600 },
    { UNMAP, 65536, 8192 },
    { UNMAP, 500000, 100000 },
    { ZERO, SIZE - 4096, 12288 }, /* past the end */
    { DISCARD, 131072, 65536 },
    { WRITE, SIZE + 65536, 10240 }, /* a gap before it */
    { READ, 0, SIZE },
    { GROW, 0, 2 * MiB },
    { RESERVE, 0, 5 * MiB / 2 },
    { WRITE, 2 * MiB - 512, 70000 },
    { SHRINK, 0, 3 * MiB / 2 },
    { GROW, 0, 2 * MiB },
    { READ, SIZE, MiB },
    { FLUSH, 0, 0 },
};

typedef struct File {
    char *name;
    BdrvChild *file;
    int flags;
    uint8_t *want; /* MAX_SIZE */
    bool *any;     /* ... of each byte: a request failed there, or it was discarded */
    int64_t size;
    bool size_is_any; /* a request past the end failed: as long as that */
    uint8_t *buf;     /* MAX_SIZE, aligned */
} File;

/* ---- What the file should hold ---- */

static void learn(File *f, const Step *s, unsigned i, int ret)
{
    int64_t end = s->kind >= GROW && s->kind <= SHRINK ? s->bytes : s->offset + s->bytes;
    bool writes = s->kind <= UNMAP;

    if (s->kind == READ || s->kind == FLUSH || (s->kind == DISCARD && ret < 0)) {
        return;
    }
    f->size_is_any = ret < 0 && s->kind != DISCARD && (end > f->size || s->kind == SHRINK);
    if (ret < 0 || s->kind == DISCARD) {
        for (int64_t k = writes || s->kind == DISCARD ? s->offset : MIN(end, f->size); k < end;
             k++) {
            f->any[k] = true;
        }
        return;
    }
    if (s->kind == SHRINK) {
        memset(f->want + end, 0, (size_t)(MAX_SIZE - end));
        memset(f->any + end, 0, (size_t)(MAX_SIZE - end));
        f->size = end;
        return;
    }
    if (writes) {
        memset(f->want + s->offset, s->kind <= VECTOR ? (int)i + 1 : 0, (size_t)s->bytes);
        memset(f->any + s->offset, 0, (size_t)s->bytes);
    }
    f->size = MAX(f->size, end);
}

static void compare(const File *f, const uint8_t *got, int64_t offset, int64_t bytes,
                    const char *when)
{
    if (!memcmp(got, f->want + offset, (size_t)bytes)) {
        return;
    }
    for (int64_t k = 0; k < bytes; k++) {
        if (got[k] != f->want[offset + k] && !f->any[offset + k]) {
            g_error("%s, after %s failed: byte %" PRId64 " is 0x%02x, not 0x%02x", when,
                    kernel.failed_call, offset + k, got[k], f->want[offset + k]);
        }
    }
}

/* By calls of our own. */
static void check_file(File *f, const char *when)
{
    int fd = open(f->name, O_RDONLY);
    int64_t len = lseek(fd, 0, SEEK_END);

    g_assert_cmpint(fd, >=, 0);
    if (!f->size_is_any && len != f->size) {
        g_error("%s: %" PRId64 " bytes, not %" PRId64, when, len, f->size);
    }
    len = MIN(len, f->size);
    g_assert_cmpint(read(fd, f->buf, 0), ==, 0);
    g_assert_cmpint(lseek(fd, 0, SEEK_SET), ==, 0);
    for (int64_t at = 0, n; at < len; at += n) {
        n = read(fd, f->buf + at, (size_t)(len - at));
        g_assert_cmpint(n, >, 0);
    }
    compare(f, f->buf, 0, len, when);
    close(fd);
}

/* ---- Requests ---- */

typedef struct Request {
    File *f;
    const Step *s;
    unsigned i;
} Request;

static int coroutine_fn co_write_vector(File *f, const Step *s)
{
    size_t half = (size_t)s->bytes / 2;
    struct iovec parts[2] = { { f->buf, half }, { f->buf + half, (size_t)s->bytes - half } };
    IOVector v;

    iov_init_external(&v, parts, 2);
    return bdrv_co_pwritev(f->file, s->offset, &v, 0);
}

static int coroutine_fn co_step(void *opaque)
{
    Request *r = opaque;
    BdrvChild *c = r->f->file;
    const Step *s = r->s;

    switch (s->kind) {
    case WRITE:
        memset(r->f->buf, (int)r->i + 1, (size_t)s->bytes);
        return bdrv_co_pwrite(c, s->offset, s->bytes, r->f->buf, 0);
    case VECTOR:
        memset(r->f->buf, (int)r->i + 1, (size_t)s->bytes);
        return co_write_vector(r->f, s);
    case ZERO:
        return bdrv_co_pwrite_zeroes(c, s->offset, s->bytes, 0);
    case UNMAP:
        return bdrv_co_pwrite_zeroes(c, s->offset, s->bytes, BLK_REQ_MAY_UNMAP);
    case DISCARD:
        return bdrv_co_pdiscard(c, s->offset, s->bytes);
    case GROW:
    case SHRINK:
        return bdrv_co_truncate(c, s->bytes, true, BLK_PREALLOC_OFF, 0, NULL);
    case RESERVE:
        return bdrv_co_truncate(c, s->bytes, true, BLK_PREALLOC_FALLOC, 0, NULL);
    case READ:
        memset(r->f->buf, 0xee, (size_t)s->bytes);
        return bdrv_co_pread(c, s->offset, s->bytes, r->f->buf, 0);
    case FLUSH:
        return bdrv_co_flush(c->bs);
    }
    return -EINVAL;
}

static int run_step(File *f, const Step *s, unsigned i)
{
    Request r = { f, s, i };
    int ret = co_run_sync(co_step, &r);

    if (ret == 0 && s->kind == READ) {
        compare(f, f->buf, s->offset, s->bytes, "read");
    }
    return ret;
}

static int coroutine_fn co_open(void *opaque)
{
    File *f = opaque;
    Options *o = opts_new();

    opts_set(o, "driver", "file");
    opts_set(o, "aio", "threads");
    opts_set(o, "filename", f->name);
    f->file = bdrv_co_open_root(
        NULL, o, BLK_O_RDWR | BLK_O_RESIZE | BLK_O_UNMAP | BLK_O_PROTOCOL | f->flags, NULL);
    return f->file ? 0 : -1;
}

static int coroutine_fn co_close(void *opaque)
{
    File *f = opaque;

    return bdrv_co_close_child(f->file);
}

static void file_open(File *f)
{
    g_assert_cmpint(co_run_sync(co_open, f), ==, 0);
}

/* The failed one again. */
static void try_again(File *f, unsigned i)
{
    const Step *s = &steps[i];
    int ret = run_step(f, s, i);

    if (s->kind == FLUSH) {
        g_assert_cmpint(ret, <, 0);     /* what the sync lost is not on the disk */
        (void)co_run_sync(co_close, f); /* says so as well */
        file_open(f);
        return;
    }
    g_assert_cmpint(ret, ==, 0);
    f->size_is_any = false;
    learn(f, s, i, ret);
}

/* ---- The sweep ---- */

static void set_up(File *f, const char *place, int flags)
{
    int fd;

    *f = (File){ .flags = flags, .size = SIZE };
    f->name = g_build_filename(place, "cowlet-sweep-XXXXXX", NULL);
    fd = g_mkstemp(f->name);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, SIZE), ==, 0);
    close(fd);
    f->want = g_malloc0(MAX_SIZE);
    f->any = g_new0(bool, MAX_SIZE);
    f->buf = aligned_alloc(4096, MAX_SIZE);
    file_open(f);
}

static void tear_down(File *f)
{
    (void)co_run_sync(co_close, f);
    unlink(f->name);
    g_free(f->name);
    g_free(f->want);
    g_free(f->any);
    free(f->buf);
}

/* With the nth call that fails; false: there is none. */
static bool one_run(const char *place, int flags, int n, int error)
{
    unsigned failures = 0;
    bool met;
    File f;

    kernel_reset();
    set_up(&f, place, flags);
    kernel.fail_errno = error;
    atomic_store(&kernel.fail_in, n);
    for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
        int ret = run_step(&f, &steps[i], i);

        learn(&f, &steps[i], i, ret);
        g_autofree char *when = g_strdup_printf("step %u", i);

        check_file(&f, when);
        if (ret < 0) {
            failures++;
            g_test_message("call %d (%s): step %u says %s", n, kernel.failed_call, i,
                           g_strerror(-ret));
            g_assert_cmpuint(atomic_load(&kernel.failed), ==, 1);
            g_assert_cmpint(ret, ==, -error);
            g_assert_cmpint(error, !=, EINTR);
            try_again(&f, i);
            check_file(&f, "tried again");
        }
    }
    met = atomic_load(&kernel.failed) > 0;
    g_assert_cmpuint(failures, <=, met);
    tear_down(&f);
    return met;
}

static void sweep(const char *place, int flags)
{
    static const int errors[] = { EIO, ENOSPC, EINTR };
    int n = 1;

    if (access(place, W_OK)) {
        g_test_skip("no files there");
        return;
    }
    for (unsigned e = 0; e < G_N_ELEMENTS(errors); e++) {
        for (n = 1; one_run(place, flags, n, errors[e]); n++) {
        }
        g_assert_cmpint(n, >, (int)G_N_ELEMENTS(steps)); /* a call for each step at least */
    }
    g_test_message("%d calls", n - 1);
}

static void test_memory(void)
{
    sweep("/dev/shm", 0);
}

static void test_disk(void)
{
    sweep("/var/tmp", 0);
}

static void test_direct(void)
{
    sweep("/var/tmp", BLK_O_NOCACHE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/file-sweep/memory", test_memory);
    g_test_add_func("/file-sweep/disk", test_disk);
    g_test_add_func("/file-sweep/direct", test_direct);
    return g_test_run();
}
