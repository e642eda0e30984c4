/* SPDX-License-Identifier: MIT */
/*
 * Random requests on one image through BlockBackend, in one thread; prints a line of figures.
 *
 * Usage: bench-io [options] IMAGE
 *   -w              write (default: read)
 *   -d DEPTH        requests in flight (1)
 *   -t SECONDS      how long (3)
 *   -s BYTES        size of a request (4096)
 *   -S BYTES        part of the image that is used (all)
 *   -o OPTIONS      open options, e.g. driver=qcow2,l2-cache-size=4M
 *   -1              touch each block once at most (allocating writes), then stop
 *   -P              open as raw protocol file
 * Prints: iops=… seconds=… requests=… rss_kib=…
 */
#include "block/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct Bench {
    BlockBackend *blk;
    bool write, once;
    int64_t size, blocks, limit;
    int64_t issued, done;
    int64_t end_ns;
    int in_flight, ret;
    uint64_t seed, mult;
} Bench;

/* xorshift64*: which block comes next. */
static int64_t next_block(Bench *b)
{
    if (b->once) { /* a walk that meets each block once: blocks is a power of two, mult odd */
        return (int64_t)(((uint64_t)b->issued * b->mult) & (uint64_t)(b->blocks - 1));
    }
    b->seed ^= b->seed >> 12;
    b->seed ^= b->seed << 25;
    b->seed ^= b->seed >> 27;
    return (int64_t)((b->seed * UINT64_C(2685821657736338717) >> 11) % (uint64_t)b->blocks);
}

static void coroutine_fn worker(void *opaque)
{
    Bench *b = opaque;
    void *buf = mem_align_try(4096, (size_t)b->size);
    IOVector v;

    memset(buf, 0x5a, (size_t)b->size);
    while (b->ret == 0 && b->issued < b->limit &&
           ((b->issued & 63) != 0 || aio_clock_ns() < b->end_ns)) {
        int64_t offset = next_block(b) * b->size;
        int ret;

        b->issued++;
        iov_init_buf(&v, buf, (size_t)b->size);
        ret =
            b->write ? blk_co_pwritev(b->blk, offset, &v, 0) : blk_co_preadv(b->blk, offset, &v, 0);
        if (ret < 0) {
            b->ret = ret;
        }
        b->done++;
    }
    mem_align_free(buf);
    b->in_flight--;
}

static int run(Bench *b, int depth, double seconds)
{
    struct rusage ru;
    int64_t start = aio_clock_ns();
    double took;

    b->end_ns = start + (int64_t)(seconds * 1e9);
    b->in_flight = depth;
    for (int i = 0; i < depth; i++) {
        coroutine_enter(coroutine_create(worker, b));
    }
    AIO_WAIT_WHILE(aio_current(), b->in_flight > 0);
    took = (double)(aio_clock_ns() - start) / 1e9;
    getrusage(RUSAGE_SELF, &ru);
    if (b->ret < 0) {
        fprintf(stderr, "bench-io: %s\n", g_strerror(-b->ret));
        return 1;
    }
    printf("iops=%.0f seconds=%.3f requests=%" G_GINT64_FORMAT " rss_kib=%ld\n",
           (double)b->done / took, took, b->done, ru.ru_maxrss);
    return 0;
}

int main(int argc, char **argv)
{
    Bench b = { .size = 4096,
                .seed = 88172645463325252u,
                .mult = 0x9e3779b97f4a7c15u | 1,
                .limit = INT64_MAX };
    g_autoptr(Options) o = opts_new();
    g_autoptr(GError) err = NULL;
    double seconds = 3;
    int64_t span = 0;
    int depth = 1, c, ret, flags = 0;

    while ((c = getopt(argc, argv, "wd:t:s:S:o:1")) != -1) {
        switch (c) {
        case 'w':
            b.write = true;
            flags |= BLK_O_RDWR;
            break;
        case 'd':
            depth = atoi(optarg);
            break;
        case 't':
            seconds = g_ascii_strtod(optarg, NULL);
            break;
        case 's':
            b.size = atoll(optarg);
            break;
        case 'S':
            span = atoll(optarg);
            break;
        case 'o':
            if (!opts_parse(o, optarg, NULL, &err)) {
                fprintf(stderr, "bench-io: %s\n", err->message);
                return 1;
            }
            break;
        case '1':
            b.once = true;
            break;
        default:
            return 2;
        }
    }
    if (optind >= argc || b.size <= 0 || depth <= 0) {
        fprintf(stderr, "bench-io: an image is needed\n");
        return 2;
    }
    b.blk = blk_open(argv[optind], g_steal_pointer(&o), flags, &err);
    if (!b.blk) {
        fprintf(stderr, "bench-io: %s: %s\n", argv[optind], err->message);
        return 1;
    }
    b.blocks = (span ? span : blk_getlength(b.blk)) / b.size;
    if (b.once) {
        while (b.blocks & (b.blocks - 1)) {
            b.blocks &= b.blocks - 1;
        }
        b.limit = b.blocks;
    }
    ret = run(&b, depth, seconds);
    blk_close(b.blk);
    return ret;
}
