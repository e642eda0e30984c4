/* SPDX-License-Identifier: MIT */
/* resize: a longer or shorter disk. */
#include "img.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "resize [OPTIONS] FILE [+|-]SIZE\n"
    "Makes the disk of an image longer or shorter: SIZE bytes, or by so many with a sign before.\n"
    "\n"
    "  -f, --format FORMAT           format of the image (probed)\n"
    "  --image-opts                  the name is an option string (driver=qcow2,file.filename=x)\n"
    "  --preallocation MODE          of the new area: off, metadata, falloc, full (off)\n"
    "  --shrink                      shorter is meant: what lies past the new end is lost\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -q, --quiet                   print errors only\n"
    "  -h, --help                    this text\n"
    "\n"
    "Sizes are in bytes, or with a suffix k, M, G, T, P or E for powers of 1024.\n";

typedef struct ResizeArgs {
    const char *format;
    BlockPrealloc prealloc;
    bool image_opts, shrink, quiet;
} ResizeArgs;

static bool take_prealloc(const ToolArg *a, void *record, void *field, const char *value)
{
    for (int i = 0; blk_prealloc_names[i]; i++) {
        if (!strcmp(value, blk_prealloc_names[i])) {
            ((ResizeArgs *)record)->prealloc = (BlockPrealloc)i;
            return true;
        }
    }
    img_error("Invalid preallocation mode '%s'", value);
    return false;
}

#define FIELD(f) .at = offsetof(ResizeArgs, f)
static const ToolArg resize_args[] = { { "help", 'h', ARG_DO, .what = help_text,
                                         .call = img_show_help },
                                       { "format", 'f', ARG_TEXT, FIELD(format) },
                                       { "image-opts", 0, ARG_SET, FIELD(image_opts) },
                                       { "preallocation", 0, ARG_TAKE, .call = take_prealloc },
                                       { "shrink", 0, ARG_SET, FIELD(shrink) },
                                       { "object", 0, ARG_TAKE, .call = object_take },
                                       { "quiet", 'q', ARG_SET, FIELD(quiet) },
                                       { NULL } };
#undef FIELD

/* ---- The size ---- */

/* "-1M" is no option: it is taken off before options are looked for. */
static const char *take_negative(int *argc, char **argv)
{
    const char *last = *argc > 1 ? argv[*argc - 1] : "";

    if (last[0] != '-' || !g_ascii_isdigit(last[1])) {
        return NULL;
    }
    (*argc)--;
    return last;
}

/* The bytes and their sign, 0: none. False and told. */
static bool parse_size(const char *text, int *sign, uint64_t *bytes)
{
    g_autoptr(Options) o = opts_new();
    GError *err = NULL;

    *sign = *text == '+' ? 1 : *text == '-' ? -1 : 0;
    opts_set(o, "size", text + (*sign != 0));
    if (!opts_take_size(o, "size", 0, bytes, &err)) {
        img_error_from(err, NULL);
        return false;
    }
    return true;
}

/* The disk's new length; <= 0: none that can be. */
static int64_t new_length(int64_t now, int sign, uint64_t bytes)
{
    if (bytes > INT64_MAX || (sign > 0 && (int64_t)bytes > INT64_MAX - now)) {
        return 0;
    }
    return sign ? now + sign * (int64_t)bytes : (int64_t)bytes;
}

/* ---- Resize ---- */

static int refuse_shrink(void)
{
    img_error("Use the --shrink option to perform a shrink operation.");
    img_error("warning: Shrinking an image will delete all data beyond the shrunken image's end. "
              "Before performing such an operation, make sure there is no important data there.");
    return 1;
}

static int resize(BlockBackend *blk, const ResizeArgs *a, int sign, uint64_t bytes)
{
    int64_t now = blk_getlength(blk), to = new_length(MAX(now, 0), sign, bytes);
    GError *err = NULL;

    if (now < 0) {
        img_error("Failed to get image size: %s", strerror((int)-now));
        return 1;
    }
    if (to <= 0) {
        img_error("New image size must be positive");
        return 1;
    }
    if (to <= now && a->prealloc != BLK_PREALLOC_OFF) {
        img_error("Preallocation can only be used for growing images");
        return 1;
    }
    if (to < now && !a->shrink) {
        return refuse_shrink();
    }
    if (blk_truncate(blk, to, true, a->prealloc, 0, &err) < 0) {
        img_error_from(err, NULL);
        return 1;
    }
    if (!a->quiet) {
        printf("Image resized.\n");
    }
    return 0;
}

static int run(const ResizeArgs *a, int argc, char **argv, const char *size)
{
    const char *name = argv[optind];
    uint64_t bytes;
    int sign, ret;
    BlockBackend *blk;

    if (optind + (size ? 0 : 1) >= argc) {
        img_usage_error("resize", "Expecting image file name and size");
    }
    if (optind + (size ? 1 : 2) != argc) {
        img_usage_error("resize", "Extra argument(s) in command line");
    }
    if (!parse_size(size ? size : argv[optind + 1], &sign, &bytes)) {
        return 1;
    }
    blk = img_open(name, a->format, BLK_O_RDWR | BLK_O_RESIZE, false, a->image_opts, false);
    if (!blk) {
        return 1;
    }
    ret = resize(blk, a, sign, bytes);
    return img_close(blk, name, ret == 0) ? ret : 1;
}

int img_resize(int argc, char **argv)
{
    ResizeArgs a = { 0 };
    const char *size = take_negative(&argc, argv);

    img_take_args("resize", resize_args, argc, argv, &a);
    return run(&a, argc, argv, size);
}
