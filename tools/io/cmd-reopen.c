/* SPDX-License-Identifier: MIT */
/* reopen: the image gets other options; or stays as it was, should that fail. */
#include "io.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

typedef struct ReopenArgs {
    Options *o; /* what -o says */
    int flags;
    bool writethrough, has_rw, has_cache;
} ReopenArgs;

static void reopen_help(void)
{
    printf("\n"
           " Changes the open options of an already opened image\n"
           "\n"
           " Example:\n"
           " 'reopen -o lazy-refcounts=on' - activates lazy refcount writeback on a qcow2 image\n"
           "\n"
           " -r, -- Reopen the image read-only\n"
           " -w, -- Reopen the image read-write\n"
           " -c, -- Change the cache mode to the given value\n"
           " -o, -- Changes block driver options (cf. 'open' command)\n"
           "\n");
}

static int take_options(int argc, char **argv, ReopenArgs *a)
{
    int c;

    while ((c = getopt(argc, argv, "c:o:rw")) != -1) {
        switch (c) {
        case 'c':
            if (!blk_parse_cache_mode(optarg, &a->flags, &a->writethrough)) {
                tool_error("Invalid cache option: %s", optarg);
                return -EINVAL;
            }
            a->has_cache = true;
            break;
        case 'o':
            if (!parse_options(a->o, optarg)) {
                return -EINVAL;
            }
            break;
        case 'r':
        case 'w':
            if (a->has_rw) {
                tool_error("Only one -r/-w option may be given");
                return -EINVAL;
            }
            a->flags &= ~BLK_O_RDWR;
            a->flags |= c == 'w' ? BLK_O_RDWR | BLK_O_RESIZE : 0;
            a->has_rw = true;
            break;
        default:
            return command_usage(command_find("reopen"));
        }
    }
    return optind != argc ? command_usage(command_find("reopen")) : 0;
}

static bool has_cache_option(const Options *o)
{
    return opts_has(o, "cache.direct") || opts_has(o, "cache.no-flush");
}

/* -r, -w and -c as the options that they stand for. */
static int complete_options(const ReopenArgs *a)
{
    if (opts_has(a->o, "read-only") && a->has_rw) {
        tool_error("Cannot set both -r/-w and 'read-only'");
        return -EINVAL;
    }
    if (has_cache_option(a->o) && a->has_cache) {
        tool_error("Cannot set both -c and the cache options");
        return -EINVAL;
    }
    if (a->has_rw) {
        opts_set_bool(a->o, "read-only", !(a->flags & BLK_O_RDWR));
    }
    if (a->has_cache) {
        opts_set_bool(a->o, "cache.direct", a->flags & BLK_O_NOCACHE);
        opts_set_bool(a->o, "cache.no-flush", a->flags & BLK_O_NO_FLUSH);
    }
    return 0;
}

static int reopen_with(const ReopenArgs *a)
{
    g_autoptr(GError) err = NULL;

    if (io_flush() < 0) {
        return -EIO;
    }
    if (!blk_reopen(tool.blk, opts_copy(a->o), &err)) {
        tool_error("%s", err->message);
        return -EINVAL;
    }
    if (a->has_cache) {
        blk_set_write_cache(tool.blk, !a->writethrough);
    }
    return 0;
}

static int cmd_reopen(int argc, char **argv)
{
    g_autoptr(Options) given = opts_new();
    ReopenArgs a = { .o = given };
    int ret = take_options(argc, argv, &a);

    ret = ret < 0 ? ret : complete_options(&a);
    return ret < 0 ? ret : reopen_with(&a);
}

const IoCommand reopen_commands[] = { { "reopen", NULL, cmd_reopen, 0, -1, 0,
                                        "[(-r|-w)] [-c cache] [-o options]",
                                        "reopens an image with new options", reopen_help },
                                      { NULL } };
