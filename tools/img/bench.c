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
    "  --object DEFINITION           objects such as secrets: refused, there are none yet\n"
    "  -q, --quiet                   print errors only\n"
    "  -h, --help                    this text\n"
    "\n"
    "Sizes are in bytes, or with a suffix k, M, G, T, P or E for powers of 1024.\n"
    "Cache modes: none, writeback, writethrough, directsync, unsafe.\n";

typedef struct Bench {
    BlockBackend *blk;
    bool write, drain_on_flush;
    int64_t n, size, step, offset, length;
    int depth, flush_interval, pattern;
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
        memset(buf, b->pattern, (size_t)b->size);
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
    int workers = (int)MIN((int64_t)b->depth, b->n);

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

int img_bench(int argc, char **argv)
{
    static const struct option longs[] = { { "help", no_argument, NULL, 'h' },
                                           { "flush-interval", required_argument, NULL,
                                             OPT_FLUSH_INTERVAL },
                                           { "pattern", required_argument, NULL, OPT_PATTERN },
                                           { "no-drain", no_argument, NULL, OPT_NO_DRAIN },
                                           { "image-opts", no_argument, NULL, OPT_IMAGE_OPTS },
                                           { "force-share", no_argument, NULL, 'U' },
                                           { "object", required_argument, NULL, OPT_OBJECT },
                                           { "format", required_argument, NULL, 'f' },
                                           { "count", required_argument, NULL, 'c' },
                                           { "depth", required_argument, NULL, 'd' },
                                           { "aio", required_argument, NULL, 'i' },
                                           { "native", no_argument, NULL, 'n' },
                                           { "offset", required_argument, NULL, 'o' },
                                           { "quiet", no_argument, NULL, 'q' },
                                           { "buffer-size", required_argument, NULL, 's' },
                                           { "step-size", required_argument, NULL, 'S' },
                                           { "cache", required_argument, NULL, 't' },
                                           { "write", no_argument, NULL, 'w' },
                                           { NULL } };
    Bench b = { .n = 75000, .size = 4096, .depth = 64, .drain_on_flush = true };
    const char *format = NULL;
    bool quiet = false, image_opts = false, force_share = false, writethrough = false;
    int flags = 0, c, ret;
    int64_t v;

    while ((c = getopt_long(argc, argv, "hc:d:f:ni:o:qs:S:t:wU", longs, NULL)) != -1) {
        switch (c) {
        case 'h':
            img_help(help_text);
        case 'c':
            b.n = img_number_arg("request count", optarg, 1, INT_MAX);
            if (b.n < 0) {
                return 1;
            }
            break;
        case 'd':
            v = img_number_arg("queue depth", optarg, 1, INT_MAX);
            if (v < 0) {
                return 1;
            }
            b.depth = (int)v;
            break;
        case 'f':
            format = optarg;
            break;
        case 'n':
            (void)blk_parse_aio("native", &flags);
            break;
        case 'i':
            if (!blk_parse_aio(optarg, &flags)) {
                img_error("Invalid aio option: %s", optarg);
                return 1;
            }
            break;
        case 'o':
            b.offset = img_size_arg("offset", optarg, 0, INT64_MAX);
            if (b.offset < 0) {
                return 1;
            }
            break;
        case 'q':
            quiet = true;
            break;
        case 's':
            b.size = img_size_arg("buffer size", optarg, 1, INT_MAX);
            if (b.size < 0) {
                return 1;
            }
            break;
        case 'S':
            b.step = img_size_arg("step size", optarg, 0, INT_MAX);
            if (b.step < 0) {
                return 1;
            }
            break;
        case 't':
            if (!blk_parse_cache_mode(optarg, &flags, &writethrough)) {
                img_error("Invalid cache mode");
                return 1;
            }
            break;
        case 'w':
            b.write = true;
            flags |= BLK_O_RDWR;
            break;
        case 'U':
            force_share = true;
            break;
        case OPT_PATTERN:
            v = img_number_arg("pattern byte", optarg, 0, 0xff);
            if (v < 0) {
                return 1;
            }
            b.pattern = (int)v;
            break;
        case OPT_FLUSH_INTERVAL:
            v = img_number_arg("flush interval", optarg, 0, INT_MAX);
            if (v < 0) {
                return 1;
            }
            b.flush_interval = (int)v;
            break;
        case OPT_NO_DRAIN:
            b.drain_on_flush = false;
            break;
        case OPT_OBJECT:
            img_refuse_object(optarg, 1);
        case OPT_IMAGE_OPTS:
            image_opts = true;
            break;
        default:
            img_unknown_option("bench");
        }
    }
    img_expect_one_image("bench", argc);
    if (!b.write && b.flush_interval) {
        img_error("--flush-interval is only available in write tests");
        return 1;
    }
    if (b.flush_interval && b.flush_interval < b.depth) {
        img_error("Flush interval can't be smaller than depth");
        return 1;
    }
    b.blk = img_open(argv[optind], format, flags, writethrough, image_opts, force_share);
    if (!b.blk) {
        return 1;
    }
    b.length = blk_getlength(b.blk);
    if (b.length < 0) {
        img_error("%s", strerror((int)-b.length));
        (void)blk_close(b.blk); /* nothing was written */
        return 1;
    }
    b.step = b.step ? b.step : b.size;
    if (!quiet) {
        printf("Sending %" G_GINT64_FORMAT " %s requests, %" G_GINT64_FORMAT
               " bytes each, %d in parallel (starting at "
               "offset %" G_GINT64_FORMAT ", step size %" G_GINT64_FORMAT ")\n",
               b.n, b.write ? "write" : "read", b.size, b.depth, b.offset, b.step);
        if (b.flush_interval) {
            printf("Sending flush every %d requests\n", b.flush_interval);
        }
    }
    progress_init(false, 0);
    ret = run(&b);
    if (ret == 0 && !quiet) {
        printf("Run completed in %3.3f seconds.\n", (double)b.elapsed / 1e9);
    }
    return img_close(b.blk, argv[optind], ret == 0) ? ret : 1;
}
