/* SPDX-License-Identifier: MIT */
/*
 * Requests of several event loops to one qcow2 image, against a model: neighbours within a cluster
 * that belong to different threads, and whole regions with writes, zeroes, discards and flushes.
 * Each byte has one owner, so that what it reads is known; clusters, tables and refcounts are
 * everybody's.  Small caches, small clusters.
 */
#include "mem-driver.h"
#include "mem-image.h"

#include <errno.h>
#include <string.h>

#define LOOPS 3
#define WORKERS 9
#define BLOCK 512
#define SHARED ((int64_t)(1 * MiB)) /* [0, SHARED): blocks in turn; behind: a region each */
#define REGION ((int64_t)(128 * KiB))
#define SIZE (SHARED + WORKERS * REGION)
#define STEPS 150

typedef struct Shared {
    BlockBackend *blk;
    uint8_t *model;
    atomic_int left;
} Shared;

typedef struct Worker {
    Shared *s;
    int id;
    GRand *rand;
} Worker;

static void coroutine_fn co_verify(Worker *w, int64_t at, int64_t n)
{
    g_autofree uint8_t *got = g_malloc(n);

    g_assert_cmpint(blk_co_pread(w->s->blk, at, n, got, 0), ==, 0);
    g_assert_cmpmem(got, n, w->s->model + at, n);
}

static void coroutine_fn co_write(Worker *w, int64_t at, int64_t n)
{
    memset(w->s->model + at, g_rand_int_range(w->rand, 1, 256), n);
    g_assert_cmpint(blk_co_pwrite(w->s->blk, at, n, w->s->model + at, 0), ==, 0);
}

static void coroutine_fn co_zero(Worker *w, int64_t at, int64_t n)
{
    unsigned flags = g_rand_boolean(w->rand) ? BLK_REQ_MAY_UNMAP : 0;

    memset(w->s->model + at, 0, n);
    g_assert_cmpint(blk_co_pwrite_zeroes(w->s->blk, at, n, flags), ==, 0);
}

/* Each block is what it was, or zero. */
static void coroutine_fn co_discard(Worker *w, int64_t at, int64_t n)
{
    g_autofree uint8_t *got = g_malloc(n);

    g_assert_cmpint(blk_co_pdiscard(w->s->blk, at, n), ==, 0);
    g_assert_cmpint(blk_co_pread(w->s->blk, at, n, got, 0), ==, 0);
    for (int64_t i = 0; i < n; i += BLOCK) {
        if (!buffer_is_zero(got + i, BLOCK)) {
            g_assert_cmpmem(got + i, BLOCK, w->s->model + at + i, BLOCK);
        }
    }
    memcpy(w->s->model + at, got, n);
}

static void coroutine_fn co_step_shared(Worker *w)
{
    int64_t per = SHARED / BLOCK / WORKERS;
    int64_t at = (g_rand_int_range(w->rand, 0, (int)per) * WORKERS + w->id) * BLOCK;

    switch (g_rand_int_range(w->rand, 0, 4)) {
    case 0:
        co_verify(w, at, BLOCK);
        break;
    case 1:
        co_zero(w, at, BLOCK);
        break;
    default:
        co_write(w, at, BLOCK);
    }
}

static void coroutine_fn co_step_region(Worker *w)
{
    int64_t from = SHARED + w->id * REGION;
    int64_t a = g_rand_int_range(w->rand, 0, (int)(REGION / BLOCK)) * BLOCK;
    int64_t n = (int64_t)g_rand_int_range(w->rand, 1, 100) * BLOCK;

    n = MIN(REGION - a, n);
    switch (g_rand_int_range(w->rand, 0, 6)) {
    case 0:
        co_zero(w, from + a, n);
        break;
    case 1:
        co_discard(w, from + a, n);
        break;
    case 2:
        co_verify(w, from + a, n);
        break;
    default:
        co_write(w, from + a, n);
    }
}

static void coroutine_fn worker_entry(void *opaque)
{
    Worker *w = opaque;

    for (int i = 0; i < STEPS; i++) {
        if (i % 8 == 7) {
            g_assert_cmpint(blk_co_flush(w->s->blk), ==, 0);
        } else if (i % 2) {
            co_step_shared(w);
        } else {
            co_step_region(w);
        }
    }
    atomic_fetch_sub(&w->s->left, 1);
}

static void run_workers(Shared *s, guint32 seed)
{
    IoThread *t[LOOPS];
    Worker w[WORKERS];

    atomic_store(&s->left, WORKERS);
    for (int i = 0; i < LOOPS; i++) {
        t[i] = io_thread_new("loop", NULL);
    }
    for (int i = 0; i < WORKERS; i++) {
        w[i] = (Worker){ s, i, g_rand_new_with_seed(seed + (guint32)i) };
        aio_co_schedule(io_thread_context(t[i % LOOPS]), coroutine_create(worker_entry, &w[i]));
    }
    while (atomic_load(&s->left) > 0) {
        g_usleep(1000);
    }
    for (int i = 0; i < LOOPS; i++) {
        io_thread_free(t[i]);
    }
    for (int i = 0; i < WORKERS; i++) {
        g_rand_free(w[i].rand);
    }
}

static void print_line(const char *line, void *opaque)
{
    g_test_message("%s", line);
}

static void run(unsigned cluster_bits, bool ext, unsigned refcount_order, const char *options)
{
    MemImage im = { .cluster_bits = cluster_bits,
                    .refcount_order = refcount_order,
                    .extended_l2 = ext,
                    .size = SIZE };
    Shared s = { .model = g_malloc0(SIZE) };
    g_autofree uint8_t *got = g_malloc(SIZE);
    BlockCheckResult res = { 0 };

    mem_image_init(&im);
    s.blk = mem_image_open(&im, options);
    for (guint32 round = 0; round < 3; round++) {
        run_workers(&s, cluster_bits * 100 + round * 10);
        g_assert_cmpint(blk_pread(s.blk, 0, SIZE, got, 0), ==, 0);
        g_assert_cmpmem(got, SIZE, s.model, SIZE);
    }
    g_assert_cmpint(blk_flush(s.blk), ==, 0);
    g_assert_cmpint(blk_check(s.blk, &res, 0, print_line, NULL), ==, 0);
    g_assert_cmpint(res.corruptions, ==, 0);
    g_assert_cmpint(res.leaks, ==, 0);
    blk_close(s.blk);
    mem_image_clear(&im);
    g_free(s.model);
}

static void test_ext(void)
{
    run(14, true, 4, "l2-cache-size=16k,l2-cache-entry-size=4k,file.slow=on");
}

static void test_std(void)
{
    run(12, false, 4, "l2-cache-size=4k,l2-cache-entry-size=512,refcount-cache-size=4k");
}

static void test_lazy(void)
{
    run(16, true, 6, "lazy-refcounts=on");
}

int main(int argc, char **argv)
{
    mem_register();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/threads/extended", test_ext);
    g_test_add_func("/qcow2/threads/standard", test_std);
    g_test_add_func("/qcow2/threads/lazy", test_lazy);
    return g_test_run();
}
