/* SPDX-License-Identifier: MIT */
/* bench: many requests of one size in steps through the image. */
#include "img.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "bench [OPTIONS] FILE\n"
    "Sends many requests of one size in steps through an image, and says how long it took.\n"
    "\n"
    "  -f, --format FORMAT           format of the image (probed)\n"
    "  --image-opts                  the name is an option string (driver=qcow2,file.filename=x)\n"
    "  -t, --cache MODE              cache mode (writeback)\n"
    "  -i, --aio MODE                threads, native or io_uring (io_uring where there is one)\n"
    "  -n, --native                  the same as -i native\n"
    "  -c, --count COUNT             requests (75000)\n"
    "  -d, --depth COUNT             ... in flight (64)\n"
    "  -s, --buffer-size SIZE        size of each (4096)\n"
    "  -S, --step-size SIZE          from one to the next (as -s)\n"
    "  -o, --offset OFFSET           of the first (0)\n"
    "  -w, --write                   write; else read\n"
    "  --pattern BYTE                what is written (0)\n"
    "  --flush-interval COUNT        flush after so many writes\n"
    "  --no-drain                    ... without a wait for those in flight\n"
    "  -U, --force-share             the image may be in use, by a writer too\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -q, --quiet                   accepted; there is nothing to print but figures\n"
    "  -h, --help                    this text\n"
    "\n"
    "Sizes are in bytes, or with a suffix k, M, G, T, P or E for powers of 1024.\n"
    "Cache modes: none, writeback, writethrough, directsync, unsafe.\n";

typedef struct Bench {
    BlockBackend *blk;
    bool write, drain_on_flush;
    int64_t n, size, step, offset, length, depth, flush_interval, pattern;
    /* State: */
    int64_t elapsed; /* ns */
    int64_t issued, completed, next_flush;
    int in_flight, flushes;
    bool draining;
    int ret;
} Bench;

static int64_t next_offset(Bench *b)
{
    int64_t at = b->offset;

    b->offset += b->step;
    if (b->length > 0) {
        if (b->length <= b->size) {
            b->offset = 0;
        } else {
            b->offset %= b->length;
            if (b->offset + b->size > b->length) {
                b->offset = 0;
            }
        }
    }
    return at;
}

static void coroutine_fn flush_entry(void *opaque)
{
    Bench *b = opaque;
    int ret = blk_co_flush(b->blk);

    if (ret < 0 && !b->ret) {
        b->ret = ret;
    }
    b->flushes--;
}

/* After each interval's last write: one flush, alone if drained. */
static void coroutine_fn co_maybe_flush(Bench *b)
{
    if (!b->flush_interval || b->completed < b->next_flush) {
        return;
    }
    b->next_flush += b->flush_interval;
    if (b->drain_on_flush) {
        b->draining = true; /* others wait for the end of their own requests */
        while (b->in_flight > 0 && !b->ret) {
            co_reschedule_self();
        }
        int ret = blk_co_flush(b->blk);

        if (ret < 0 && !b->ret) {
            b->ret = ret;
        }
        b->draining = false;
    } else {
        Coroutine *co = coroutine_create(flush_entry, b);

        if (!co) {
            b->ret = -ENOMEM;
            return;
        }
        b->flushes++;
        coroutine_enter(co);
    }
}

static void coroutine_fn worker(void *opaque)
{
    Bench *b = opaque;
    uint8_t *buf = mem_align_try(4096, (size_t)b->size);
    IOVector v;

    if (!buf) {
        b->ret = -ENOMEM;
    } else {
        memset(buf, (int)b->pattern, (size_t)b->size);
    }
    while (b->issued < b->n && !b->ret) {
        int64_t at;
        int ret;

        while (b->draining && !b->ret) {
            co_reschedule_self();
        }
        if (b->issued >= b->n) {
            break;
        }
        at = next_offset(b);
        b->issued++;
        b->in_flight++;
        iov_init_buf(&v, buf, (size_t)b->size);
        ret = b->write ? blk_co_pwritev(b->blk, at, &v, 0) : blk_co_preadv(b->blk, at, &v, 0);
        b->in_flight--;
        b->completed++;
        progress_set((double)b->completed / (double)b->n * 100);
        if (ret < 0 && !b->ret) {
            b->ret = ret;
        }
        if (b->write && !b->ret) {
            co_maybe_flush(b);
        }
    }
    mem_align_free(buf);
    b->flushes--; /* each worker counts as one, so that the end is one condition */
}

static int run(Bench *b)
{
    int64_t start = aio_clock_ns();
    int workers = (int)MIN(b->depth, b->n);

    b->next_flush = b->flush_interval;
    b->flushes = workers;
    for (int i = 0; i < workers; i++) {
        Coroutine *co = coroutine_create(worker, b);

        if (!co) {
            b->ret = -ENOMEM;
            b->flushes--;
            continue;
        }
        coroutine_enter(co);
    }
    AIO_WAIT_WHILE(aio_current(), b->flushes > 0);
    if (b->ret < 0) {
        img_error("Failed request: %s", strerror(-b->ret));
        return 1;
    }
    b->elapsed = aio_clock_ns() - start;
    return 0;
}

typedef struct BenchArgs {
    Bench b;
    const char *format;
    bool quiet, image_opts, force_share, writethrough;
    int flags;
} BenchArgs;

static bool take_cache(const ToolArg *a, void *record, void *field, const char *value)
{
    BenchArgs *b = record;

    if (!blk_parse_cache_mode(value, &b->flags, &b->writethrough)) {
        img_error("Invalid cache mode");
        return false;
    }
    return true;
}

#define FIELD(f) .at = offsetof(BenchArgs, f)
static const ToolArg bench_args[] = {
    { "help", 'h', ARG_DO, .what = help_text, .call = img_show_help },
    { "flush-interval", 0, ARG_NUMBER, FIELD(b.flush_interval), "flush interval", 0, INT_MAX },
    { "pattern", 0, ARG_NUMBER, FIELD(b.pattern), "pattern byte", 0, 0xff },
    { "no-drain", 0, ARG_CLEAR, FIELD(b.drain_on_flush) },
    { "image-opts", 0, ARG_SET, FIELD(image_opts) },
    { "force-share", 'U', ARG_SET, FIELD(force_share) },
    { "object", 0, ARG_TAKE, .call = object_take },
    { "format", 'f', ARG_TEXT, FIELD(format) },
    { "count", 'c', ARG_NUMBER, FIELD(b.n), "request count", 1, INT_MAX },
    { "depth", 'd', ARG_NUMBER, FIELD(b.depth), "queue depth", 1, INT_MAX },
    { "aio", 'i', ARG_TAKE, FIELD(flags), .call = arg_take_aio },
    { "native", 'n', ARG_DO, FIELD(flags), .call = arg_native_aio },
    { "offset", 'o', ARG_SIZE, FIELD(b.offset), "offset", 0, INT64_MAX },
    { "quiet", 'q', ARG_SET, FIELD(quiet) },
    { "buffer-size", 's', ARG_SIZE, FIELD(b.size), "buffer size", 1, INT_MAX },
    { "step-size", 'S', ARG_SIZE, FIELD(b.step), "step size", 0, INT_MAX },
    { "cache", 't', ARG_TAKE, .call = take_cache },
    { "write", 'w', ARG_SET, FIELD(b.write) },
    { NULL }
};
#undef FIELD

static bool check_args(const Bench *b)
{
    if (!b->write && b->flush_interval) {
        img_error("--flush-interval is only available in write tests");
        return false;
    }
    if (b->flush_interval && b->flush_interval < b->depth) {
        img_error("Flush interval can't be smaller than depth");
        return false;
    }
    return true;
}

static void announce(const Bench *b)
{
    printf("Sending %" G_GINT64_FORMAT " %s requests, %" G_GINT64_FORMAT
           " bytes each, %" G_GINT64_FORMAT " in parallel (starting at "
           "offset %" G_GINT64_FORMAT ", step size %" G_GINT64_FORMAT ")\n",
           b->n, b->write ? "write" : "read", b->size, b->depth, b->offset, b->step);
    if (b->flush_interval) {
        printf("Sending flush every %" G_GINT64_FORMAT " requests\n", b->flush_interval);
    }
}

int img_bench(int argc, char **argv)
{
    BenchArgs a = { .b = { .n = 75000, .size = 4096, .depth = 64, .drain_on_flush = true } };
    Bench *b = &a.b;
    int ret;

    img_take_args("bench", bench_args, argc, argv, &a);
    img_expect_one_image("bench", argc);
    if (!check_args(b)) {
        return 1;
    }
    a.flags |= b->write ? BLK_O_RDWR : 0;
    b->blk = img_open(argv[optind], a.format, a.flags, a.writethrough, a.image_opts, a.force_share);
    if (!b->blk) {
        return 1;
    }
    b->length = blk_getlength(b->blk);
    if (b->length < 0) {
        img_error("%s", strerror((int)-b->length));
        (void)blk_close(b->blk); /* nothing was written */
        return 1;
    }
    b->step = b->step ? b->step : b->size;
    announce(b);
    progress_init(false, 0);
    ret = run(b);
    if (ret == 0) {
        printf("Run completed in %3.3f seconds.\n", (double)b->elapsed / 1e9);
    }
    return img_close(b->blk, argv[optind], ret == 0) ? ret : 1;
}
