/* SPDX-License-Identifier: MIT */
/*
 * The same 4 KiB writes on two images in turn, in one thread: short slices of one and of the other,
 * so that whatever else the machine does disturbs both; prints a line of figures.
 *
 * Usage: bench-pair [options] IMAGE OTHER
 *   -d DEPTH        requests in flight (1)
 *   -n REQUESTS     of one slice (2000)
 *   -t SECONDS      how long, in all (2)
 *   -S BYTES        part of the images that is used (all)
 *   -1              touch each block once at most, then stop
 *   -w              before it is measured, touch each block once
 * Prints: a=… b=… (requests a second) ratio=… (b to a, of all) median=… (of the slices) cpu=…
 * (processor time of a request, a to b)
 */
#include "block/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define BLOCK 4096

typedef struct Side {
    BlockBackend *blk;
    uint64_t issued, mult;
    double wall, cpu, done;
} Side;

typedef struct Pair {
    Side side[2];
    uint64_t blocks, slice, left;
    int depth, in_flight, ret;
    bool once;
    Side *now;
} Pair;

/* A walk all over the image that meets each block once: blocks is a power of two, mult odd. */
static int64_t next_offset(const Pair *p, Side *s)
{
    return (int64_t)((s->issued++ * s->mult) & (p->blocks - 1)) * BLOCK;
}

static void coroutine_fn worker(void *opaque)
{
    Pair *p = opaque;
    void *buf = mem_align_try(BLOCK, BLOCK);
    IOVector v;

    memset(buf, 0x5a, BLOCK);
    while (p->ret == 0 && p->left > 0) {
        int ret;

        p->left--;
        iov_init_buf(&v, buf, BLOCK);
        ret = blk_co_pwritev(p->now->blk, next_offset(p, p->now), &v, 0);
        p->ret = ret < 0 ? ret : p->ret;
    }
    mem_align_free(buf);
    p->in_flight--;
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Seconds of @n requests of one side. */
static double run_slice(Pair *p, Side *s, uint64_t n)
{
    double cpu = cpu_seconds(), took;
    int64_t start = aio_clock_ns();

    p->now = s;
    p->left = n;
    p->in_flight = p->depth;
    for (int i = 0; i < p->depth; i++) {
        coroutine_enter(coroutine_create(worker, p));
    }
    AIO_WAIT_WHILE(aio_current(), p->in_flight > 0);
    took = (double)(aio_clock_ns() - start) / 1e9;
    s->wall += took;
    s->cpu += cpu_seconds() - cpu;
    s->done += (double)n;
    return took;
}

static int by_size(gconstpointer a, gconstpointer b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void print_all(const Pair *p, GArray *ratios)
{
    const Side *a = &p->side[0], *b = &p->side[1];

    g_array_sort(ratios, by_size);
    printf("a=%.0f b=%.0f ratio=%.3f median=%.3f cpu=%.3f slices=%u\n", a->done / a->wall,
           b->done / b->wall, b->done / b->wall / (a->done / a->wall),
           g_array_index(ratios, double, ratios->len / 2), a->cpu / a->done / (b->cpu / b->done),
           ratios->len);
}

static int run(Pair *p, double seconds)
{
    int64_t end = aio_clock_ns() + (int64_t)(seconds * 1e9);
    GArray *ratios = g_array_new(FALSE, FALSE, sizeof(double));

    for (unsigned i = 0; p->ret == 0 && aio_clock_ns() < end; i++) {
        uint64_t n = p->once ? MIN(p->slice, p->blocks - p->side[0].issued) : p->slice;
        double took[2], ratio;

        if (!n) {
            break;
        }
        took[i & 1] = run_slice(p, &p->side[i & 1], n); /* who is first, in turn */
        took[!(i & 1)] = run_slice(p, &p->side[!(i & 1)], n);
        ratio = took[0] / took[1];
        g_array_append_val(ratios, ratio);
    }
    if (p->ret < 0 || !ratios->len) {
        fprintf(stderr, "bench-pair: %s\n", g_strerror(-p->ret));
        return 1;
    }
    print_all(p, ratios);
    g_array_unref(ratios);
    return 0;
}

static void touch_all(Pair *p)
{
    for (unsigned i = 0; i < 2; i++) {
        run_slice(p, &p->side[i], p->blocks);
        p->side[i] = (Side){ .blk = p->side[i].blk, .mult = p->side[i].mult };
    }
}

static bool open_both(Pair *p, char **names)
{
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(GError) err = NULL;

        p->side[i] = (Side){ .blk = blk_open(names[i], opts_new(), BLK_O_RDWR, &err),
                             .mult = UINT64_C(0x9e3779b97f4a7c15) };
        if (!p->side[i].blk) {
            fprintf(stderr, "bench-pair: %s: %s\n", names[i], err->message);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    Pair p = { .depth = 1, .slice = 2000 };
    double seconds = 2;
    bool warm = false;
    uint64_t span = 0;
    int c, ret;

    while ((c = getopt(argc, argv, "d:n:t:S:1w")) != -1) {
        switch (c) {
        case 'd':
            p.depth = atoi(optarg);
            break;
        case 'n':
            p.slice = strtoull(optarg, NULL, 10);
            break;
        case 't':
            seconds = g_ascii_strtod(optarg, NULL);
            break;
        case 'S':
            span = strtoull(optarg, NULL, 10);
            break;
        case '1':
            p.once = true;
            break;
        case 'w':
            warm = true;
            break;
        default:
            return 2;
        }
    }
    if (argc - optind != 2 || p.depth <= 0 || !p.slice) {
        fprintf(stderr, "bench-pair: two images are needed\n");
        return 2;
    }
    if (!open_both(&p, argv + optind)) {
        return 1;
    }
    p.blocks = (span ? span : (uint64_t)blk_getlength(p.side[0].blk)) / BLOCK;
    while (p.blocks & (p.blocks - 1)) {
        p.blocks &= p.blocks - 1;
    }
    if (warm) {
        touch_all(&p);
    }
    ret = run(&p, seconds);
    for (unsigned i = 0; i < 2; i++) {
        blk_close(p.side[i].blk);
    }
    return ret;
}
