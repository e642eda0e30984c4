/* SPDX-License-Identifier: MIT */
/* reopen: the image closed and opened again with changed options; as it was, should that fail. */
#include "io.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

/* What may change while an image is in use, as in the reference. */
static const char *const changeable[] = {
    /* of every node */
    "cache.direct", "cache.no-flush", "read-only", "auto-read-only", "discard", "detect-zeroes",
    "force-share",
    /* of qcow2 */
    "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other",
    "discard-no-unref", "overlap-check", "overlap-check.template", "overlap-check.main-header",
    "overlap-check.active-l1", "overlap-check.active-l2", "overlap-check.refcount-table",
    "overlap-check.refcount-block", "overlap-check.snapshot-table", "overlap-check.inactive-l1",
    "overlap-check.inactive-l2", "overlap-check.bitmap-directory", "cache-size", "l2-cache-size",
    "l2-cache-entry-size", "refcount-cache-size", "cache-clean-interval",
    /* of raw, of file */
    "offset", "size", "aio", "locking", "drop-cache", "x-check-cache-dropped", NULL
};

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

static bool may_change(const char *key)
{
    const char *last = key;

    while (g_str_has_prefix(last, "file.")) {
        last += strlen("file.");
    }
    return g_strv_contains(changeable, last);
}

static void check_change(const char *key, const char *value, void *opaque)
{
    const char **bad = opaque, *now = opts_peek(tool.opts, key);

    if (!*bad && !may_change(key) && g_strcmp0(now, value) != 0 &&
        !(!strcmp(key, "driver") && !strcmp(value, blk_driver_name(blk_bs(tool.blk))))) {
        *bad = key;
    }
}

static int check_options(const ReopenArgs *a)
{
    const char *bad = NULL;

    if (opts_has(a->o, "read-only") && a->has_rw) {
        tool_error("Cannot set both -r/-w and 'read-only'");
        return -EINVAL;
    }
    if ((opts_has(a->o, "cache.direct") || opts_has(a->o, "cache.no-flush")) && a->has_cache) {
        tool_error("Cannot set both -c and the cache options");
        return -EINVAL;
    }
    opts_foreach(a->o, check_change, &bad);
    if (bad) {
        tool_error("Cannot change the option '%s'", bad);
        return -EINVAL;
    }
    return 0;
}

static int reopen_with(const ReopenArgs *a)
{
    g_autoptr(Options) o = opts_copy(tool.opts);
    g_autoptr(Options) old = opts_copy(tool.opts);
    g_autofree char *name = g_strdup(tool.name);
    int flags = tool.flags, ret, close_ret;
    bool writethrough = tool.writethrough;

    opts_merge(o, a->o, true);
    if (a->has_rw) { /* else it would be as the last reopen said */
        opts_del(o, "read-only");
    }
    if (a->has_cache) {
        opts_del(o, "cache.direct");
        opts_del(o, "cache.no-flush");
    }
    if (io_flush() < 0) {
        return -EIO;
    }
    close_ret = io_close();
    ret = io_open(name, a->flags, a->writethrough, tool.force_share, g_steal_pointer(&o));
    if (ret < 0) {
        (void)io_open(name, flags, writethrough, tool.force_share, g_steal_pointer(&old));
    }
    return ret < 0 ? ret : close_ret;
}

static int cmd_reopen(int argc, char **argv)
{
    g_autoptr(Options) given = opts_new();
    ReopenArgs a = { .o = given, .flags = tool.flags, .writethrough = tool.writethrough };
    int ret = take_options(argc, argv, &a);

    ret = ret < 0 ? ret : check_options(&a);
    return ret < 0 ? ret : reopen_with(&a);
}

const IoCommand reopen_commands[] = { { "reopen", NULL, cmd_reopen, 0, -1, 0,
                                        "[(-r|-w)] [-c cache] [-o options]",
                                        "reopens an image with new options", reopen_help },
                                      { NULL } };
