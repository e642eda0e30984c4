/* SPDX-License-Identifier: MIT */
/*
 * The pieces of one request run together: how many are under way at a time is counted by the file
 * below, which sleeps in each; what they read and write, where new clusters lie, and what an error
 * of one leaves.
 */
#include "mem-driver.h"
#include "mem-image.h"

#include "block/qcow2/map.h"

#include "util/co-pieces.h"

#include <errno.h>
#include <string.h>

#define CLUSTER ((int64_t)(4 * KiB))
#define N 40 /* clusters of a request: more than run together */
#define BYTES (N * CLUSTER)

typedef struct Image {
    MemImage im;
    BlockBackend *blk;
    uint8_t *model; /* BYTES */
} Image;

static void image_open(Image *i)
{
    i->im = (MemImage){ .cluster_bits = 12, .refcount_order = 4, .size = 4 * MiB };
    mem_image_init(&i->im);
    i->blk = mem_image_open(&i->im, "file.slow=on");
    i->model = g_malloc0(BYTES);
}

static void image_close(Image *i)
{
    BlockCheckResult res = { 0 };

    g_assert_cmpint(blk_flush(i->blk), ==, 0);
    g_assert_cmpint(blk_check(i->blk, &res, 0, NULL, NULL), ==, 0);
    g_assert_cmpint(res.corruptions + res.leaks + res.check_errors, ==, 0);
    blk_close(i->blk);
    mem_image_clear(&i->im);
    g_free(i->model);
}

static void write_cluster(Image *i, int64_t c, int byte)
{
    memset(i->model + c * CLUSTER, byte, CLUSTER);
    g_assert_cmpint(blk_pwrite(i->blk, c * CLUSTER, CLUSTER, i->model + c * CLUSTER, 0), ==, 0);
}

/* No two neighbours of the disk are neighbours in the file. */
static void scatter(Image *i)
{
    for (int64_t c = 0; c < N; c++) {
        int64_t to = c % 2 ? c / 2 : N - 1 - c / 2;

        write_cluster(i, to, (int)(1 + c));
    }
}

typedef struct Call {
    Image *i;
    IOVector *v;
    int64_t guest;
    uint64_t host;
} Call;

static int coroutine_fn co_host_of(void *opaque)
{
    Call *c = opaque;
    Extent x;
    int ret = qcow2_map_co_find(mem_image_qcow2(c->i->blk), (uint64_t)c->guest, CLUSTER, &x);

    c->host = x.host;
    return ret;
}

static uint64_t host_of(Image *i, int64_t guest)
{
    Call c = { .i = i, .guest = guest };

    g_assert_cmpint(co_run_sync(co_host_of, &c), ==, 0);
    g_assert_cmpuint(c.host, >, 0);
    return c.host;
}

static int coroutine_fn co_readv(void *opaque)
{
    Call *c = opaque;

    return blk_co_preadv(c->i->blk, 0, c->v, 0);
}

static int coroutine_fn co_writev(void *opaque)
{
    Call *c = opaque;

    return blk_co_pwritev(c->i->blk, 0, c->v, 0);
}

static int coroutine_fn co_compress(void *opaque)
{
    Call *c = opaque;

    return blk_co_pwritev_compressed(c->i->blk, 0, c->v);
}

static void verify(Image *i)
{
    g_autofree uint8_t *got = g_malloc(BYTES);

    g_assert_cmpint(blk_pread(i->blk, 0, BYTES, got, 0), ==, 0);
    g_assert_cmpmem(got, BYTES, i->model, BYTES);
    g_assert_cmpint(last_mem->busy, ==, 0);
}

static void test_read(void)
{
    Image i;

    image_open(&i);
    scatter(&i);
    mem_count_anew(last_mem);
    verify(&i);
    g_assert_cmpint(last_mem->reads, ==, N);
    g_assert_cmpint(last_mem->most_busy, ==, CO_PIECES_MAX);
    image_close(&i);
}

/* The vector has more elements than pieces, none of their size. */
static void test_vector(void)
{
    enum { STEP = 1234, MAX = BYTES / STEP + 1 };
    g_autofree uint8_t *got = g_malloc0(BYTES);
    g_autofree struct iovec *iov = g_new(struct iovec, MAX);
    IOVector v;
    Image i;
    Call call = { .i = &i, .v = &v };
    int n = 0;

    image_open(&i);
    scatter(&i);
    for (int64_t at = 0; at < BYTES; at += STEP, n++) {
        iov[n] = (struct iovec){ got + at, (size_t)MIN(STEP, BYTES - at) };
    }
    iov_init_external(&v, iov, n);
    mem_count_anew(last_mem);
    g_assert_cmpint(co_run_sync(co_readv, &call), ==, 0);
    g_assert_cmpint(last_mem->most_busy, ==, CO_PIECES_MAX);
    g_assert_cmpmem(got, BYTES, i.model, BYTES);
    for (int64_t at = 0; at < BYTES; at++) {
        i.model[at] = got[at] = (uint8_t)(at % 251);
    }
    mem_count_anew(last_mem);
    g_assert_cmpint(co_run_sync(co_writev, &call), ==, 0);
    g_assert_cmpint(last_mem->writes, ==, N);
    g_assert_cmpint(last_mem->most_busy, ==, CO_PIECES_MAX);
    verify(&i);
    image_close(&i);
}

/* Every other cluster is there: the others are written at the same time, and lie in the order of
 * the disk, one after the other. */
static void test_allocate(void)
{
    uint64_t last = 0;
    Image i;

    image_open(&i);
    for (int64_t c = 0; c < N; c += 2) {
        write_cluster(&i, c, 1);
    }
    memset(i.model, 7, BYTES);
    mem_count_anew(last_mem);
    g_assert_cmpint(blk_pwrite(i.blk, 0, BYTES, i.model, 0), ==, 0);
    g_assert_cmpint(last_mem->writes, ==, N);
    g_assert_cmpint(last_mem->most_busy, ==, CO_PIECES_MAX);
    for (int64_t c = 1; c < N; c += 2) {
        uint64_t host = host_of(&i, c * CLUSTER);

        g_assert_true(!last || host == last + CLUSTER);
        last = host;
    }
    verify(&i);
    image_close(&i);
}

static void test_compressed(void)
{
    Image i;
    IOVector v;
    Call call = { .i = &i, .v = &v };

    image_open(&i);
    for (int64_t at = 0; at < BYTES; at++) {
        i.model[at] = (uint8_t)(at / 100);
    }
    iov_init_buf(&v, i.model, BYTES);
    mem_count_anew(last_mem);
    g_assert_cmpint(co_run_sync(co_compress, &call), ==, 0);
    g_assert_cmpint(last_mem->most_busy, >, 1);
    mem_count_anew(last_mem);
    verify(&i);
    g_assert_cmpint(last_mem->most_busy, ==, CO_PIECES_MAX);
    image_close(&i);
}

/* One piece fails: the request does, once all of its pieces have ended. */
static void test_error(void)
{
    g_autofree uint8_t *got = g_malloc(BYTES);
    Image i;

    image_open(&i);
    scatter(&i);
    for (int64_t c = 0; c < N; c += 3) {
        last_mem->bad_start = (int64_t)host_of(&i, c * CLUSTER) + 1;
        last_mem->bad_end = last_mem->bad_start + 1;
        g_assert_cmpint(blk_pread(i.blk, 0, BYTES, got, 0), ==, -EIO);
        g_assert_cmpint(last_mem->busy, ==, 0);
        g_assert_cmpint(blk_pwrite(i.blk, 0, BYTES, i.model, 0), ==, -EIO);
        g_assert_cmpint(last_mem->busy, ==, 0);
        last_mem->bad_end = 0;
        verify(&i);
    }
    image_close(&i);
}

/* New clusters whose write fails are given back; those of other pieces stay. */
static void test_error_allocating(void)
{
    Image i;

    image_open(&i);
    for (int64_t c = 0; c < N; c += 2) {
        write_cluster(&i, c, 1);
    }
    last_mem->bad_start = (int64_t)host_of(&i, (N - 2) * CLUSTER) + 5 * CLUSTER;
    last_mem->bad_end = last_mem->bad_start + 1;
    g_assert_cmpint(blk_pwrite(i.blk, 0, BYTES, i.model, 0), ==, -EIO);
    g_assert_cmpint(last_mem->busy, ==, 0);
    last_mem->bad_end = 0;
    verify(&i);
    memset(i.model, 9, BYTES);
    g_assert_cmpint(blk_pwrite(i.blk, 0, BYTES, i.model, 0), ==, 0);
    verify(&i);
    image_close(&i);
}

int main(int argc, char **argv)
{
    mem_register();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/pieces/read", test_read);
    g_test_add_func("/qcow2/pieces/vector", test_vector);
    g_test_add_func("/qcow2/pieces/allocate", test_allocate);
    g_test_add_func("/qcow2/pieces/compressed", test_compressed);
    g_test_add_func("/qcow2/pieces/error", test_error);
    g_test_add_func("/qcow2/pieces/error-allocating", test_error_allocating);
    return g_test_run();
}
