/* SPDX-License-Identifier: MIT */
/* bitmap: changes of an image's persistent bitmaps, in the order in which they are asked for. */
#include "img.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "bitmap ACTION... [OPTIONS] FILE BITMAP\n"
    "Changes a persistent bitmap of an image; actions (down to --merge) are done in order.\n"
    "\n"
    "  --add                         make it: it tells of changes from now on\n"
    "  --remove                      remove it\n"
    "  --clear                       nothing is dirty in it any more\n"
    "  --enable, --disable           it tells of changes from now on, or stays as it is\n"
    "  --merge SOURCE                what is dirty in the bitmap SOURCE becomes dirty in it\n"
    "  -g, --granularity SIZE        of --add: its parts (the cluster size, 4K to 64K)\n"
    "  -b, --source-file FILE        of --merge: SOURCE is a bitmap of that image\n"
    "  -F, --source-format FORMAT    format of that image (probed)\n"
    "  -f, --format FORMAT           format of the image (probed)\n"
    "  --image-opts                  the name is an option string (driver=qcow2,file.filename=x)\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -h, --help                    this text\n";

typedef struct BitmapAction {
    BlockBitmapAction what;
    const char *source; /* of a merge */
} BitmapAction;

typedef struct BitmapArgs {
    const char *format, *source_file, *source_format;
    bool image_opts;
    int64_t granularity; /* 0: as the driver likes */
    GArray *actions;
} BitmapArgs;

static const char *const action_names[] = {
    "add", "remove", "clear", "enable", "disable", "merge"
};

static bool take_action(const ToolArg *a, void *record, void *field, const char *value)
{
    BitmapAction action = { BLK_BITMAP_ADD, value };

    while (strcmp(action_names[action.what], a->name)) {
        action.what++;
    }
    g_array_append_val(((BitmapArgs *)record)->actions, action);
    return true;
}

#define FIELD(f) .at = offsetof(BitmapArgs, f)
static const ToolArg bitmap_args[] = {
    { "help", 'h', ARG_DO, .what = help_text, .call = img_show_help },
    { "add", 0, ARG_DO, .call = take_action },
    { "remove", 0, ARG_DO, .call = take_action },
    { "clear", 0, ARG_DO, .call = take_action },
    { "enable", 0, ARG_DO, .call = take_action },
    { "disable", 0, ARG_DO, .call = take_action },
    { "merge", 0, ARG_TAKE, .call = take_action },
    { "granularity", 'g', ARG_SIZE, FIELD(granularity), "granularity", 0, INT64_MAX },
    { "source-file", 'b', ARG_TEXT, FIELD(source_file) },
    { "source-format", 'F', ARG_TEXT, FIELD(source_format) },
    { "format", 'f', ARG_TEXT, FIELD(format) },
    { "image-opts", 0, ARG_SET, FIELD(image_opts) },
    { "object", 0, ARG_TAKE, .call = object_take },
    { NULL }
};
#undef FIELD

/* ---- The command line ---- */

static bool has_action(const BitmapArgs *a, BlockBitmapAction what)
{
    for (guint i = 0; i < a->actions->len; i++) {
        if (g_array_index(a->actions, BitmapAction, i).what == what) {
            return true;
        }
    }
    return false;
}

/* What is missing or does not go together; NULL: fine. */
static const char *contradiction(const BitmapArgs *a, int names)
{
    if (!a->actions->len) {
        return "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge";
    }
    if (a->granularity && !has_action(a, BLK_BITMAP_ADD)) {
        return "granularity only supported with --add";
    }
    if (a->source_format && !a->source_file) {
        return "-F only supported with -b";
    }
    if (a->source_file && !has_action(a, BLK_BITMAP_MERGE)) {
        return "Merge bitmap source file only supported with --merge";
    }
    if (names != 2) {
        return "Expecting filename and bitmap name";
    }
    return a->image_opts && a->format ? "--image-opts and --format are mutually exclusive" : NULL;
}

/* ---- Actions ---- */

/* The destination is looked at first, as what is wrong with it is told first. */
static bool takes_more(BlockBackend *blk, const char *name)
{
    GArray *list = blk_bitmap_list(blk, NULL);
    bool found = false;

    for (guint i = 0; list && i < list->len; i++) {
        const BlockBitmapInfo *b = &g_array_index(list, BlockBitmapInfo, i);

        found |= !b->inconsistent && !strcmp(b->name, name);
    }
    g_clear_pointer(&list, g_array_unref);
    return found;
}

static int act(BlockBackend *blk, BlockBackend *source, const char *name, const BitmapArgs *a,
               const BitmapAction *action, GError **errp)
{
    BlockBitmapData data = { NULL };
    BlockBitmapChange c = { .action = action->what,
                            .name = name,
                            .granularity = (uint64_t)a->granularity };
    int ret = 0;

    if (action->what == BLK_BITMAP_MERGE && takes_more(blk, name)) {
        ret = blk_bitmap_read(source, action->source, &data, errp);
        c.source = &data;
    }
    ret = ret < 0 ? ret : blk_bitmap_change(blk, &c, errp);
    dirty_bits_unref(data.bits);
    return ret;
}

static int act_all(BlockBackend *blk, BlockBackend *source, const char *name, const BitmapArgs *a)
{
    for (guint i = 0; i < a->actions->len; i++) {
        const BitmapAction *action = &g_array_index(a->actions, BitmapAction, i);
        GError *err = NULL;

        if (act(blk, source, name, a, action, &err) < 0) {
            g_autofree char *prefix = g_strdup_printf(
                "Operation %s on bitmap %s failed: ", action_names[action->what], name);

            img_error_from(err, prefix);
            return 1;
        }
    }
    return 0;
}

static int open_and_act(const char *file, const char *name, const BitmapArgs *a)
{
    BlockBackend *source = NULL;
    BlockBackend *blk = img_open(file, a->format, BLK_O_RDWR, false, a->image_opts, false);
    int ret = 1;

    if (!blk) {
        return 1;
    }
    if (a->source_file) {
        source = img_open(a->source_file, a->source_format, 0, false, false, false);
    }
    if (source || !a->source_file) {
        ret = act_all(blk, source ? source : blk, name, a);
    }
    g_clear_pointer(&source, blk_close_reader);
    return img_close(blk, file, ret == 0) ? ret : 1;
}

int img_bitmap(int argc, char **argv)
{
    BitmapArgs a = { .actions = g_array_new(FALSE, FALSE, sizeof(BitmapAction)) };
    const char *why;
    int ret = 1;

    img_take_args("bitmap", bitmap_args, argc, argv, &a);
    why = contradiction(&a, argc - optind);
    if (why) {
        img_error("%s", why);
    } else {
        ret = open_and_act(argv[optind], argv[optind + 1], &a);
    }
    g_array_unref(a.actions);
    return ret;
}
