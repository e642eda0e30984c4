/* SPDX-License-Identifier: MIT */
/* amend: other values for what an image's creation chose. */
#include "img.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "amend [OPTIONS] -o OPTIONS FILE\n"
    "Changes options of an image, in place. Cut off at any moment the image is valid, and the "
    "same\n"
    "command goes on.\n"
    "\n"
    "  -f, --format FORMAT           format of the image (probed)\n"
    "  --image-opts                  the name is an option string (driver=qcow2,file.filename=x)\n"
    "  -o, --options OPTIONS         what is to change, key=value,…; 'help' lists it\n"
    "  -t, --cache MODE              cache mode (writeback)\n"
    "  --force                       also what may lose the last way to the data\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -p, --progress                show how far it is\n"
    "  -q, --quiet                   print errors only\n"
    "  -h, --help                    this text\n"
    "\n"
    "Cache modes: none, writeback, writethrough, directsync, unsafe.\n";

typedef struct AmendArgs {
    const char *format, *cache;
    char *options;
    bool image_opts, force, progress, quiet;
} AmendArgs;

static bool take_options(const ToolArg *a, void *record, void *field, const char *value)
{
    return img_add_options(&((AmendArgs *)record)->options, value);
}

#define FIELD(f) .at = offsetof(AmendArgs, f)
static const ToolArg amend_args[] = { { "help", 'h', ARG_DO, .what = help_text,
                                        .call = img_show_help },
                                      { "options", 'o', ARG_TAKE, .call = take_options },
                                      { "format", 'f', ARG_TEXT, FIELD(format) },
                                      { "cache", 't', ARG_TEXT, FIELD(cache) },
                                      { "image-opts", 0, ARG_SET, FIELD(image_opts) },
                                      { "force", 0, ARG_SET, FIELD(force) },
                                      { "object", 0, ARG_TAKE, .call = object_take },
                                      { "progress", 'p', ARG_SET, FIELD(progress) },
                                      { "quiet", 'q', ARG_SET, FIELD(quiet) },
                                      { NULL } };
#undef FIELD

static int print_amend_options(const char *format)
{
    GError *err = NULL;
    const BlockCreateOption *list = blk_amend_options(format, &err);
    g_autofree BlockCreateOption *o = NULL;
    size_t n = 0;

    if (!list) {
        img_error_from(err, NULL);
        return 1;
    }
    while (list[n].name) {
        n++;
    }
    o = g_memdup2(list, (n + 1) * sizeof(*o));
    printf("Amend options for '%s':\n", format);
    img_print_options(o);
    return 0;
}

static bool show_progress(double done, void *opaque)
{
    progress_set(done * 100);
    return true;
}

static int amend(BlockBackend *blk, const AmendArgs *a)
{
    BlockAmend how = { .force = a->force, .progress = show_progress };
    g_autoptr(Options) o = opts_new();
    GError *err = NULL;
    int ret;

    object_add_secrets(o);
    if (!opts_parse(o, a->options, NULL, &err)) {
        img_error_from(err, NULL);
        return 1;
    }
    progress_set(0);
    ret = blk_amend(blk, g_steal_pointer(&o), &how, &err);
    if (ret < 0) {
        progress_end();
        img_error_from(err, NULL);
        return 1;
    }
    progress_set(100);
    progress_end();
    return 0;
}

static int open_and_amend(const char *name, const AmendArgs *a)
{
    int flags = BLK_O_RDWR | BLK_O_RESIZE, ret;
    bool writethrough;
    BlockBackend *blk;

    if (!blk_parse_cache_mode(a->cache, &flags, &writethrough)) {
        img_error("Invalid cache option: %s", a->cache);
        return 1;
    }
    blk = img_open(name, a->format, flags, writethrough, a->image_opts, false);
    if (!blk) {
        return 1;
    }
    ret =
        img_is_help(a->options) ? print_amend_options(blk_driver_name(blk_bs(blk))) : amend(blk, a);
    return img_close(blk, name, ret == 0) ? ret : 1;
}

static int run(const AmendArgs *a, int argc, char **argv)
{
    const char *name = optind == argc - 1 ? argv[optind] : NULL;

    if (!a->options) {
        img_usage_error("amend", "Must specify options (-o)");
    }
    progress_init(a->progress && !a->quiet, 1.0);
    if (a->format && img_is_help(a->options)) {
        return print_amend_options(a->format);
    }
    if (!name) {
        img_error("Expecting one image file name");
        return 1;
    }
    return open_and_amend(name, a);
}

int img_amend(int argc, char **argv)
{
    AmendArgs a = { .cache = "writeback" };
    int ret;

    img_take_args("amend", amend_args, argc, argv, &a);
    ret = run(&a, argc, argv);
    g_free(a.options);
    return ret;
}
