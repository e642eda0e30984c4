/* SPDX-License-Identifier: MIT */
/* check: exit 0 sound, 1 the check failed, 2 corruptions, 3 leaks, 63 the format has no check. */
#include "img.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "check [OPTIONS] FILE\n"
    "Checks the metadata of an image for errors and leaked space.\n"
    "\n"
    "  -f, --format FORMAT           format of the image (probed)\n"
    "  --image-opts                  the name is an option string (driver=qcow2,file.filename=x)\n"
    "  -r, --repair leaks|all        repair what is found (not supported yet)\n"
    "  -T, --cache MODE              cache mode (writeback)\n"
    "  --output human|json           how it is printed (human)\n"
    "  -U, --force-share             the image may be in use, by a writer too; not with -r\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -q, --quiet                   print errors only\n"
    "  -h, --help                    this text\n"
    "\n"
    "Exit code: 0 sound, 1 the check failed, 2 errors, 3 only leaks, 63 the format has no check.\n"
    "Cache modes: none, writeback, writethrough, directsync, unsafe.\n";

static void report_line(const char *line, void *opaque)
{
    fprintf(stderr, "%s\n", line);
}

static void print_human(const BlockCheckResult *r)
{
    if (!r->corruptions && !r->leaks && !r->check_errors) {
        printf("No errors were found on the image.\n");
    }
    if (r->corruptions) {
        printf("\n%" G_GINT64_FORMAT " errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may corrupt it.\n",
               r->corruptions);
    }
    if (r->leaks) {
        printf("\n%" G_GINT64_FORMAT " leaked clusters were found on the image.\n"
               "This means waste of disk space, but no harm to data.\n",
               r->leaks);
    }
    if (r->check_errors) {
        printf("\n%" G_GINT64_FORMAT " internal errors have occurred during the check.\n",
               r->check_errors);
    }
    if (r->total_clusters && r->allocated_clusters) {
        printf("%" G_GINT64_FORMAT "/%" G_GINT64_FORMAT
               " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% "
               "compressed clusters\n",
               r->allocated_clusters, r->total_clusters,
               (double)r->allocated_clusters * 100.0 / (double)r->total_clusters,
               (double)r->fragmented_clusters * 100.0 / (double)r->allocated_clusters,
               (double)r->compressed_clusters * 100.0 / (double)r->allocated_clusters);
    }
    if (r->image_end_offset) {
        printf("Image end offset: %" G_GINT64_FORMAT "\n", r->image_end_offset);
    }
}

static void set_nonzero(JsonObject *o, const char *name, int64_t v)
{
    if (v) {
        json_object_set_int_member(o, name, v);
    }
}

static void print_json(const BlockCheckResult *r, const char *filename, const char *format)
{
    JsonObject *o = json_object_new();
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);

    set_nonzero(o, "image-end-offset", r->image_end_offset);
    set_nonzero(o, "compressed-clusters", r->compressed_clusters);
    set_nonzero(o, "total-clusters", r->total_clusters);
    set_nonzero(o, "corruptions", r->corruptions);
    json_object_set_int_member(o, "check-errors", r->check_errors);
    set_nonzero(o, "leaks", r->leaks);
    set_nonzero(o, "allocated-clusters", r->allocated_clusters);
    json_object_set_string_member(o, "filename", filename);
    json_object_set_string_member(o, "format", format);
    set_nonzero(o, "fragmented-clusters", r->fragmented_clusters);
    json_node_take_object(node, o);
    img_print_json(node);
}

typedef struct CheckArgs {
    const char *format, *cache, *repair;
    bool json, quiet, image_opts, force_share;
} CheckArgs;

static bool take_repair(const ToolArg *a, void *record, void *field, const char *value)
{
    if (strcmp(value, "leaks") && strcmp(value, "all")) {
        img_usage_error("check", "--repair (-r) expects 'leaks' or 'all' not '%s'", value);
    }
    ((CheckArgs *)record)->repair = value;
    return true;
}

#define FIELD(f) .at = offsetof(CheckArgs, f)
static const ToolArg check_args[] = {
    { "help", 'h', ARG_DO, .what = help_text, .call = img_show_help },
    { "format", 'f', ARG_TEXT, FIELD(format) },
    { "repair", 'r', ARG_TAKE, .call = take_repair },
    { "output", 0, ARG_TAKE, FIELD(json), "check", .call = img_take_output },
    { "object", 0, ARG_TAKE, .call = object_take },
    { "image-opts", 0, ARG_SET, FIELD(image_opts) },
    { "force-share", 'U', ARG_SET, FIELD(force_share) },
    { "cache", 'T', ARG_TEXT, FIELD(cache) },
    { "quiet", 'q', ARG_SET, FIELD(quiet) },
    { NULL }
};
#undef FIELD

static BlockBackend *open_to_check(const char *name, const CheckArgs *a)
{
    int flags = BLK_O_CHECK | (a->repair ? BLK_O_RDWR : 0);
    bool writethrough;
    BlockBackend *blk;

    if (!blk_parse_cache_mode(a->cache, &flags, &writethrough)) {
        img_error("Invalid source cache option: %s", a->cache);
        return NULL;
    }
    if (a->repair && a->force_share) {
        img_error("Could not open '%s': force-share=on can only be used with read-only images",
                  name);
        return NULL;
    }
    blk = img_open(name, a->format, flags, writethrough, a->image_opts, a->force_share);
    if (blk && a->repair && (blk_node_facts(blk_bs(blk)).features & BLK_CAN_CHECK)) {
        img_error("Repairing (-r %s) is not supported yet", a->repair);
        blk_close_reader(blk);
        blk = NULL;
    }
    return blk;
}

static int exit_code(const BlockCheckResult *r)
{
    return r->check_errors ? 1 : r->corruptions ? 2 : r->leaks ? 3 : 0;
}

int img_check(int argc, char **argv)
{
    CheckArgs a = { .cache = "writeback" };
    BlockCheckResult res = { 0 };
    BlockBackend *blk;
    int ret;

    img_take_args("check", check_args, argc, argv, &a);
    img_expect_one_image("check", argc);
    blk = open_to_check(argv[optind], &a);
    if (!blk) {
        return 1;
    }
    ret = blk_check(blk, &res, 0, report_line, NULL);
    if (ret == -ENOTSUP) {
        img_error("This image format does not support checks");
        ret = 63;
    } else if (ret < 0) {
        img_error("Check failed: %s", strerror(-ret));
        ret = 1;
    } else {
        if (a.json && !a.quiet) {
            print_json(&res, argv[optind], blk_driver_name(blk_bs(blk)));
        } else if (!a.quiet) {
            print_human(&res);
        }
        ret = exit_code(&res);
    }
    blk_close_reader(blk); /* nothing is repaired yet */
    return ret;
}
