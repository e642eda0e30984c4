/* SPDX-License-Identifier: MIT */
/* compact: makes the file of an image shorter, in place. */
#include "img.h"
#include "tools/lib/object.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

static const char help_text[] =
    "compact [OPTIONS] FILE\n"
    "Moves what is at the end of an image's file into what is free before it, gives leaked space\n"
    "back and cuts the file. Snapshots and bitmaps stay. The image is sound at any moment: SIGINT\n"
    "and SIGTERM stop it after a few MiB, and after a loss of power, too, another run goes on.\n"
    "Takes up to 64 MiB more of the disk meanwhile.\n"
    "\n"
    "  -f, --format FORMAT           format of the image (probed)\n"
    "  --image-opts                  the name is an option string (driver=qcow2,file.filename=x)\n"
    "  --defragment                  bring the data into the order of the disk, too\n"
    "  -t, --cache MODE              cache mode (writeback)\n"
    "  -p, --progress                show progress\n"
    "  -q, --quiet                   print errors only\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -h, --help                    this text\n";

typedef struct CompactArgs {
    const char *format, *cache;
    bool image_opts, defragment, progress, quiet;
} CompactArgs;

#define FIELD(f) .at = offsetof(CompactArgs, f)
static const ToolArg compact_args[] = {
    { "help", 'h', ARG_DO, .what = help_text, .call = img_show_help },
    { "format", 'f', ARG_TEXT, FIELD(format) },
    { "image-opts", 0, ARG_SET, FIELD(image_opts) },
    { "defragment", 0, ARG_SET, FIELD(defragment) },
    { "cache", 't', ARG_TEXT, FIELD(cache) },
    { "progress", 'p', ARG_SET, FIELD(progress) },
    { "quiet", 'q', ARG_SET, FIELD(quiet) },
    { "object", 0, ARG_TAKE, .call = object_take },
    { NULL }
};
#undef FIELD

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = 1;
}

/* A second one ends the process at once, which is fine, too. */
static void catch_signals(void)
{
    struct sigaction a = { .sa_handler = on_signal, .sa_flags = SA_RESTART | (int)SA_RESETHAND };

    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

static bool show(double done, void *opaque)
{
    progress_set(done * 100);
    return !stop;
}

static int compact(BlockBackend *blk, const CompactArgs *a)
{
    g_autoptr(GError) err = NULL;
    int ret;

    catch_signals();
    progress_init(a->progress && !a->quiet, 1.0);
    progress_set(0);
    ret = blk_compact(blk, a->defragment ? BLK_COMPACT_DEFRAGMENT : 0, show, NULL, &err);
    if (ret == 0) {
        progress_set(100);
    }
    progress_end();
    if (ret == -ECANCELED) {
        img_error("Interrupted: the image is valid, and another run goes on from here");
    } else if (ret < 0) {
        img_error_from(g_steal_pointer(&err), NULL);
    }
    return ret;
}

int img_compact(int argc, char **argv)
{
    CompactArgs a = { .cache = "writeback" };
    int flags = BLK_O_RDWR | BLK_O_RESIZE | BLK_O_UNMAP, ret;
    bool writethrough;
    BlockBackend *blk;

    img_take_args("compact", compact_args, argc, argv, &a);
    img_expect_one_image("compact", argc);
    if (!blk_parse_cache_mode(a.cache, &flags, &writethrough)) {
        img_error("Invalid cache option: %s", a.cache);
        return 1;
    }
    blk = img_open(argv[optind], a.format, flags, writethrough, a.image_opts, false);
    if (!blk) {
        return 1;
    }
    ret = compact(blk, &a);
    return img_close(blk, argv[optind], ret == 0) && ret == 0 ? 0 : 1;
}
