/* SPDX-License-Identifier: MIT */
/*
 * commit: what the upper images of a chain hold goes into a lower one.
 *
 * The lower image is flushed before the upper one is emptied, and until then the upper one hides
 * what changes below it: stopped at any moment, it reads as it did.
 */
#include "chain.h"
#include "copy.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "commit [OPTIONS] FILE\n"
    "Puts what an image holds into its backing file.\n"
    "\n"
    "  -f, --format FORMAT   format of the image (probed)\n"
    "  --image-opts          the image is an option string\n"
    "  -b, --base FILE       into this image of its chain, and what lies between; with -d\n"
    "  -d, --drop            do not empty the image afterwards: it is to be deleted\n"
    "  -t, --cache MODE      cache mode (writeback)\n"
    "  -r, --rate SIZE       bytes per second at most\n"
    "  -p, --progress        show progress\n"
    "  --object DEFINITION   a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -q, --quiet           print errors only\n"
    "  -h, --help            this text\n"
    "\n"
    "With -b the images between are of no use afterwards: their content is not what it was.\n"
    "Sizes are in bytes, or with a suffix k, M, G, T, P or E for powers of 1024.\n"
    "Cache modes: none, writeback, writethrough, directsync, unsafe.\n";

typedef struct Commit {
    const char *name, *format, *base, *cache;
    bool image_opts, drop, progress, quiet;
    int64_t rate;
    BlockBackend *top, *target;
} Commit;

#define FIELD(f) .at = offsetof(Commit, f)
static const ToolArg commit_args[] = {
    { "help", 'h', ARG_DO, .what = help_text, .call = img_show_help },
    { "quiet", 'q', ARG_SET, FIELD(quiet) },
    { "progress", 'p', ARG_SET, FIELD(progress) },
    { "format", 'f', ARG_TEXT, FIELD(format) },
    { "image-opts", 0, ARG_SET, FIELD(image_opts) },
    { "cache", 't', ARG_TEXT, FIELD(cache) },
    { "drop", 'd', ARG_SET, FIELD(drop) },
    { "base", 'b', ARG_TEXT, FIELD(base) },
    { "rate", 'r', ARG_SIZE, FIELD(rate), "rate limit", 0, INT64_MAX },
    { "object", 0, ARG_TAKE, .call = object_take },
    { NULL }
};
#undef FIELD

static bool open_top(Commit *c)
{
    int flags = BLK_O_RDWR | BLK_O_UNMAP;
    bool writethrough;

    if (!blk_parse_cache_mode(c->cache, &flags, &writethrough)) {
        img_error("Invalid cache option: %s", c->cache);
        return false;
    }
    c->top = img_open(c->name, c->format, flags, writethrough, c->image_opts, false);
    return c->top != NULL;
}

/* The image that is written. NULL: told. */
static BlockDriverState *find_base(const Commit *c)
{
    BlockDriverState *base;

    if (!c->base) {
        base = blk_node_backing(blk_bs(c->top));
        if (!base) {
            img_error("Image does not have a backing file");
        }
        return base;
    }
    base = chain_find(blk_bs(c->top), c->base);
    if (!base) {
        img_error("Did not find '%s' in the backing chain of '%s'", c->base, c->name);
    }
    return base;
}

static bool open_target(Commit *c, BlockDriverState *base)
{
    GError *err = NULL;

    c->target = blk_open_layer(base, &err);
    if (!c->target) {
        img_error_from(err, NULL);
        return false;
    }
    if (!blk_write_cache(c->top)) {
        blk_set_write_cache(c->target, false);
    }
    return true;
}

/* The lower disk is as long as the upper one, at least. */
static bool make_room(const Commit *c)
{
    int64_t len = blk_getlength(c->top);
    GError *err = NULL;

    if (blk_getlength(c->target) < len &&
        blk_truncate(c->target, len, false, BLK_PREALLOC_OFF, 0, &err) < 0) {
        img_error_from(err, NULL);
        return false;
    }
    return true;
}

static bool copy_down(const Commit *c, BlockDriverState *base)
{
    BlockDriverInfo info = { 0 };
    CopySource source = { .blk = c->top, .bytes = blk_getlength(c->top) };
    Copy copy = { .sources = &source,
                  .n_sources = 1,
                  .total = source.bytes,
                  .target = c->target,
                  .shared_base = base,
                  .base_blk = c->target,
                  .out_of_order = true,
                  .min_sparse = 4096,
                  .rate = c->rate,
                  .workers = 8 };

    if (blk_get_info(base, &info) == 0 && info.cluster_size > copy.min_sparse) {
        copy.min_sparse = info.cluster_size; /* what costs no space as zeroes */
    }
    return copy_run(&copy);
}

static bool empty_top(const Commit *c)
{
    int ret = blk_make_empty(c->top);

    if (ret < 0) {
        img_error("Could not empty %s: %s", c->name, g_strerror(-ret));
    }
    return ret == 0;
}

static bool commit(Commit *c)
{
    BlockDriverState *base;
    int ret;

    if (!open_top(c)) {
        return false;
    }
    base = find_base(c);
    if (!base || !open_target(c, base) || !make_room(c) || !copy_down(c, base)) {
        return false;
    }
    ret = blk_flush(c->target);
    if (ret < 0) {
        img_error("Could not flush %s: %s", blk_node_facts(base).filename, g_strerror(-ret));
        return false;
    }
    return c->drop || empty_top(c);
}

static bool close_all(Commit *c, bool ok)
{
    ok = img_close(c->target, c->base ? c->base : c->name, ok) && ok;
    return img_close(c->top, c->name, ok) && ok;
}

int img_commit(int argc, char **argv)
{
    Commit c = { .cache = "writeback" };
    bool ok;

    img_take_args("commit", commit_args, argc, argv, &c);
    img_expect_one_image("commit", argc);
    if (c.image_opts && c.format) {
        img_error("--image-opts and --format are mutually exclusive");
        return 1;
    }
    c.name = argv[optind];
    c.drop |= c.base != NULL;
    progress_init(c.progress && !c.quiet, 1.0);
    ok = commit(&c);
    ok = close_all(&c, ok);
    if (ok) {
        progress_set(100);
    }
    progress_end();
    if (ok && !c.quiet) {
        printf("Image committed.\n");
    }
    return ok ? 0 : 1;
}
