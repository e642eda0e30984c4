/* SPDX-License-Identifier: MIT */
/* compare: exit 0 identical, 1 different, 2 or more an error. */
#include "img.h"

#include "tools/lib/process.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help_text[] =
    "compare [OPTIONS] FILE1 FILE2\n"
    "Compares what two images contain, whatever their formats.\n"
    "\n"
    "  -f, --a-format FORMAT         format of FILE1 (probed)\n"
    "  -F, --b-format FORMAT         format of FILE2 (probed)\n"
    "  --image-opts                  both names are option strings\n"
    "  -s, --strict                  sizes and allocation must be the same too\n"
    "  -T, --cache MODE              cache mode of both (writeback)\n"
    "  -p, --progress                show progress\n"
    "  -U, --force-share             the images may be in use, by a writer too\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -q, --quiet                   print errors only\n"
    "  -h, --help                    this text\n"
    "\n"
    "Exit code: 0 the same, 1 different, 2 an error.\n"
    "Cache modes: none, writeback, writethrough, directsync, unsafe.\n";

#define CHUNK (2 * MiB)
/* What -s wants to be the same: all of a status but whether a run reaches the end, which depends on
 * where clusters lie. */
#define STRICT_STATUS (BLK_DATA | BLK_ZERO | BLK_ALLOCATED | BLK_OFFSET_VALID | BLK_COMPRESSED)

typedef struct Compare {
    BlockBackend *blk[2];
    const char *name[2];
    uint8_t *buf[2];
    bool strict, quiet;
} Compare;

static void say(const Compare *c, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static void say(const Compare *c, const char *fmt, ...)
{
    va_list ap;

    if (!c->quiet) {
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
    }
}

static int64_t first_difference(const uint8_t *a, const uint8_t *b, int64_t len)
{
    if (memcmp(a, b, (size_t)len) == 0) {
        return -1;
    }
    for (int64_t i = 0;; i++) {
        if (a[i] != b[i]) {
            return i;
        }
    }
}

static int64_t first_nonzero(const uint8_t *a, int64_t len)
{
    if (buffer_is_zero(a, (size_t)len)) {
        return -1;
    }
    for (int64_t i = 0;; i++) {
        if (a[i]) {
            return i;
        }
    }
}

static int read_chunk(Compare *c, int i, int64_t offset, int64_t bytes)
{
    int ret = blk_pread(c->blk[i], offset, bytes, c->buf[i], 0);

    if (ret < 0) {
        img_error("Error while reading offset %" G_GINT64_FORMAT " of %s: %s", offset, c->name[i],
                  strerror(-ret));
        return 4;
    }
    return 0;
}

static int mismatch(const Compare *c, int64_t offset)
{
    /* Differences are told by the sector, as the reference does. */
    say(c, "Content mismatch at offset %" G_GINT64_FORMAT "!\n", ALIGN_DOWN(offset, INT64_C(512)));
    return 1;
}

/* Content of image @i at [offset, +bytes) is zero? 0 yes, 1 told no, > 1 error. */
static int check_zero(Compare *c, int i, int64_t offset, int64_t bytes)
{
    int ret = read_chunk(c, i, offset, bytes);
    int64_t at;

    if (ret) {
        return ret;
    }
    at = first_nonzero(c->buf[i], bytes);
    return at < 0 ? 0 : mismatch(c, offset + at);
}

static int status(Compare *c, int i, int64_t offset, int64_t bytes, int64_t *num)
{
    int64_t map;
    BlockDriverState *file;
    int ret = blk_block_status_above(c->blk[i], NULL, NULL, offset, bytes, num, &map, &file, NULL);

    if (ret < 0) {
        img_error("Sector allocation test failed for %s", c->name[i]);
    }
    return ret;
}

static int compare_range(Compare *c, int64_t offset, int64_t bytes, int64_t *done)
{
    int64_t n1, n2, at;
    int s1 = status(c, 0, offset, bytes, &n1), s2 = s1 < 0 ? 0 : status(c, 1, offset, bytes, &n2);
    bool zero1, zero2;
    int ret;

    if (s1 < 0 || s2 < 0) {
        return 3;
    }
    *done = MIN(n1, n2);
    if (c->strict && (s1 & STRICT_STATUS) != (s2 & STRICT_STATUS)) {
        say(c, "Strict mode: Offset %" G_GINT64_FORMAT " block status mismatch!\n", offset);
        return 1;
    }
    zero1 = s1 & BLK_ZERO;
    zero2 = s2 & BLK_ZERO;
    if (zero1 && zero2) {
        return 0;
    }
    *done = MIN(*done, CHUNK);
    if (zero1 || zero2) {
        return check_zero(c, zero1 ? 1 : 0, offset, *done);
    }
    ret = read_chunk(c, 0, offset, *done);
    ret = ret ? ret : read_chunk(c, 1, offset, *done);
    if (ret) {
        return ret;
    }
    at = first_difference(c->buf[0], c->buf[1], *done);
    return at < 0 ? 0 : mismatch(c, offset + at);
}

/* The longer image must be zero past the shorter one's end. */
static int compare_rest(Compare *c, int i, int64_t offset, int64_t end)
{
    while (offset < end) {
        int64_t num;
        int s = status(c, i, offset, end - offset, &num), ret;

        if (s < 0) {
            return 3;
        }
        if (!(s & BLK_ZERO)) {
            num = MIN(num, CHUNK);
            ret = check_zero(c, i, offset, num);
            if (ret) {
                return ret;
            }
        }
        offset += num;
        progress_set((double)offset / (double)end * 100);
    }
    return 0;
}

static int compare_all(Compare *c)
{
    int64_t len[2], common, total;
    int ret = 0;

    for (int i = 0; i < 2; i++) {
        len[i] = blk_getlength(c->blk[i]);
        if (len[i] < 0) {
            img_error("Can't get size of %s: %s", c->name[i], strerror((int)-len[i]));
            return 4;
        }
    }
    common = MIN(len[0], len[1]);
    total = MAX(len[0], len[1]);
    if (len[0] != len[1] && c->strict) {
        say(c, "Strict mode: Image size mismatch!\n");
        return 1;
    }
    for (int64_t offset = 0, n; offset < common && !ret; offset += n) {
        n = 0;
        ret = compare_range(c, offset, common - offset, &n);
        if (!ret) {
            progress_set((double)(offset + n) / (double)total * 100);
        }
    }
    if (!ret && len[0] != len[1]) {
        say(c, "Warning: Image size mismatch!\n");
        ret = compare_rest(c, len[0] > len[1] ? 0 : 1, common, total);
    }
    if (!ret) {
        say(c, "Images are identical.\n");
    }
    return ret;
}

typedef struct CompareArgs {
    Compare c;
    const char *format_a, *format_b, *cache;
    bool progress, image_opts, force_share;
} CompareArgs;

static bool take_object(const ToolArg *a, void *record, void *field, const char *value)
{
    if (!object_take(a, record, field, value)) {
        exit(2); /* 1 would mean: they differ */
    }
    return true;
}

#define FIELD(f) .at = offsetof(CompareArgs, f)
static const ToolArg compare_args[] = { { "help", 'h', ARG_DO, .what = help_text,
                                          .call = img_show_help },
                                        { "object", 0, ARG_TAKE, .call = take_object },
                                        { "a-format", 'f', ARG_TEXT, FIELD(format_a) },
                                        { "b-format", 'F', ARG_TEXT, FIELD(format_b) },
                                        { "strict", 's', ARG_SET, FIELD(c.strict) },
                                        { "cache", 'T', ARG_TEXT, FIELD(cache) },
                                        { "progress", 'p', ARG_SET, FIELD(progress) },
                                        { "quiet", 'q', ARG_SET, FIELD(c.quiet) },
                                        { "image-opts", 0, ARG_SET, FIELD(image_opts) },
                                        { "force-share", 'U', ARG_SET, FIELD(force_share) },
                                        { NULL } };
#undef FIELD

static bool open_both(CompareArgs *a, char **names, int flags, bool writethrough)
{
    Compare *c = &a->c;

    for (int i = 0; i < 2; i++) {
        c->name[i] = names[i];
        c->blk[i] = img_open(names[i], i ? a->format_b : a->format_a, flags, writethrough,
                             a->image_opts, a->force_share);
        if (!c->blk[i]) {
            blk_close_reader(c->blk[0]);
            return false;
        }
    }
    return true;
}

static int run(Compare *c)
{
    int ret = 4;

    c->buf[0] = mem_align_try(4096, CHUNK);
    c->buf[1] = mem_align_try(4096, CHUNK);
    if (c->buf[0] && c->buf[1]) {
        ret = compare_all(c);
    } else {
        img_error("Out of memory");
    }
    progress_end();
    mem_align_free(c->buf[0]);
    mem_align_free(c->buf[1]);
    blk_close_reader(c->blk[0]);
    blk_close_reader(c->blk[1]);
    return ret;
}

int img_compare(int argc, char **argv)
{
    CompareArgs a = { .cache = "writeback" };
    bool writethrough;
    int flags = 0;

    process_set_output_error(2); /* 1 would mean: they differ */
    img_take_args("compare", compare_args, argc, argv, &a);
    if (optind != argc - 2) {
        img_usage_error("compare", "Expecting two image file names");
    }
    if (!blk_parse_cache_mode(a.cache, &flags, &writethrough)) {
        img_error("Invalid source cache option: %s", a.cache);
        return 2;
    }
    progress_init(a.progress && !a.c.quiet, 2.0);
    progress_set(0);
    return open_both(&a, argv + optind, flags, writethrough) ? run(&a.c) : 2;
}
