/* SPDX-License-Identifier: MIT */
/* measure: how long the file of a new image will be, of a size or with what another image holds. */
#include "img.h"

#include "tools/lib/object.h"

#include <getopt.h>
#include <stdio.h>

static const char help_text[] =
    "measure [OPTIONS] (--size SIZE | FILE)\n"
    "Tells how long the file of a new image will be: of a disk of SIZE with nothing on it, or "
    "with\n"
    "what FILE holds, and when all of it is written.\n"
    "\n"
    "  -O, --target-format FORMAT    format of the new image (raw)\n"
    "  -o, --options OPTIONS         its options, as for create\n"
    "  --size SIZE                   size of its disk\n"
    "  -f, --format FORMAT           format of FILE (probed)\n"
    "  --image-opts                  FILE is an option string (driver=qcow2,file.filename=x)\n"
    "  -l, --snapshot NAME           what an internal snapshot of FILE holds: its id or name,\n"
    "                                or snapshot.id=ID,snapshot.name=NAME\n"
    "  --exact                       count the tables alone that convert will make: the length of\n"
    "                                its file, to the cluster (required: room for all tables)\n"
    "  --output human|json           how it is printed (human)\n"
    "  -U, --force-share             FILE may be in use, by a writer too\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -h, --help                    this text\n"
    "\n"
    "Sizes are in bytes, or with a suffix k, M, G, T, P or E for powers of 1024.\n";

typedef struct MeasureArgs {
    const char *format, *snapshot, *target_format;
    char *options;
    int64_t size; /* -1: not given */
    bool json, image_opts, force_share, exact;
} MeasureArgs;

static bool take_options(const ToolArg *a, void *record, void *field, const char *value)
{
    return img_add_options(field, value);
}

static bool take_snapshot(const ToolArg *a, void *record, void *field, const char *value)
{
    ((MeasureArgs *)record)->snapshot = value;
    return img_check_snapshot_name(value);
}

#define FIELD(f) .at = offsetof(MeasureArgs, f)
static const ToolArg measure_args[] = {
    { "help", 'h', ARG_DO, .what = help_text, .call = img_show_help },
    { "target-format", 'O', ARG_TEXT, FIELD(target_format) },
    { "options", 'o', ARG_TAKE, FIELD(options), .call = take_options },
    { "size", 0, ARG_SIZE, FIELD(size), "image size", 0, INT64_MAX },
    { "format", 'f', ARG_TEXT, FIELD(format) },
    { "image-opts", 0, ARG_SET, FIELD(image_opts) },
    { "snapshot", 'l', ARG_TAKE, .call = take_snapshot },
    { "exact", 0, ARG_SET, FIELD(exact) },
    { "output", 0, ARG_TAKE, FIELD(json), "measure", .call = img_take_output },
    { "force-share", 'U', ARG_SET, FIELD(force_share) },
    { "object", 0, ARG_TAKE, .call = object_take },
    { NULL }
};
#undef FIELD

static const char *contradiction(const MeasureArgs *a, bool file, bool more)
{
    if (more) {
        return "At most one filename argument is allowed.";
    }
    if (!file && (a->image_opts || a->format || a->snapshot)) {
        return "--image-opts, -f, and -l require a filename argument.";
    }
    if (!file && a->size < 0) {
        return "Either --size N or one filename must be specified.";
    }
    return file && a->size >= 0 ? "--size N cannot be used together with a filename." : NULL;
}

static void print_result(const MeasureArgs *a, const BlockMeasureInfo *m)
{
    int64_t required = (int64_t)(a->exact ? m->exact : m->required);
    JsonObject *o;
    g_autoptr(JsonNode) node = NULL;

    if (!a->json) {
        printf("required size: %" G_GINT64_FORMAT "\n", required);
        printf("fully allocated size: %" G_GUINT64_FORMAT "\n", m->fully_allocated);
        if (m->bitmaps >= 0) {
            printf("bitmaps size: %" G_GINT64_FORMAT "\n", m->bitmaps);
        }
        return;
    }
    node = json_node_new(JSON_NODE_OBJECT);
    o = json_object_new();
    if (m->bitmaps >= 0) {
        json_object_set_int_member(o, "bitmaps", m->bitmaps);
    }
    json_object_set_int_member(o, "required", required);
    json_object_set_int_member(o, "fully-allocated", (gint64)m->fully_allocated);
    json_node_take_object(node, o);
    img_print_json(node);
}

static int measure(const MeasureArgs *a, BlockBackend *src)
{
    g_autoptr(Options) o = opts_new();
    BlockMeasureInfo m;
    GError *err = NULL;

    object_add_secrets(o);
    if (blk_format_features(a->target_format) < 0) {
        img_error("Unknown file format '%s'", a->target_format);
        return 1;
    }
    if (a->options && (!opts_parse(o, a->options, NULL, &err) ||
                       !blk_check_create_options("file", a->target_format, o, &err))) {
        img_error_from(err, NULL);
        img_error("Invalid options for file format '%s'", a->target_format);
        return 1;
    }
    if (a->size >= 0) {
        opts_set_int(o, "size", a->size);
    }
    if (blk_measure(a->target_format, g_steal_pointer(&o), src, &m, &err) < 0) {
        img_error_from(err, NULL);
        return 1;
    }
    print_result(a, &m);
    return 0;
}

static int run(const MeasureArgs *a, const char *filename, bool more)
{
    const char *wrong = contradiction(a, filename, more);
    g_autoptr(BlockBackend) src = NULL;

    if (wrong) {
        img_error("%s", wrong);
        return 1;
    }
    if (filename) {
        src = img_open(filename, a->format, 0, false, a->image_opts, a->force_share);
        if (!src) {
            return 1;
        }
    }
    if (a->snapshot && !img_load_snapshot(src, a->snapshot)) {
        return 1;
    }
    return measure(a, src);
}

int img_measure(int argc, char **argv)
{
    MeasureArgs a = { .target_format = "raw", .size = -1 };
    int ret;

    img_take_args("measure", measure_args, argc, argv, &a);
    ret = run(&a, optind < argc ? argv[optind] : NULL, optind + 1 < argc);
    g_free(a.options);
    return ret;
}
