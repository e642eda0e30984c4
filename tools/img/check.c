/* SPDX-License-Identifier: MIT */
/* check: exit 0 sound, 1 the check failed, 2 corruptions, 3 leaks, 63 the format has no check.  A
 * repair is followed by a second check, which decides. */
#include "check.h"

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
    "  -r, --repair leaks|all        repair leaked clusters, or all that is found\n"
    "  --dry-run                     change nothing; say what of the disk each finding touches,\n"
    "                                and what the repair (all) would do with it\n"
    "  -p, --progress                show progress\n"
    "  -T, --cache MODE              cache mode (writeback)\n"
    "  --output human|json           how it is printed (human)\n"
    "  -U, --force-share             the image may be in use, by a writer too; not with -r; what\n"
    "                                looks like an error is looked at again\n"
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

static void print_json(const BlockCheckResult *r, const char *filename, const char *format,
                       const DryRun *dry)
{
    JsonObject *o = json_object_new();
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);

    set_nonzero(o, "image-end-offset", r->image_end_offset);
    set_nonzero(o, "compressed-clusters", r->compressed_clusters);
    set_nonzero(o, "total-clusters", r->total_clusters);
    set_nonzero(o, "corruptions", r->corruptions);
    set_nonzero(o, "corruptions-fixed", r->corruptions_fixed);
    json_object_set_int_member(o, "check-errors", r->check_errors);
    set_nonzero(o, "leaks-fixed", r->leaks_fixed);
    set_nonzero(o, "leaks", r->leaks);
    set_nonzero(o, "allocated-clusters", r->allocated_clusters);
    json_object_set_string_member(o, "filename", filename);
    json_object_set_string_member(o, "format", format);
    set_nonzero(o, "fragmented-clusters", r->fragmented_clusters);
    if (dry) {
        img_check_findings_json(dry, o);
    }
    json_node_take_object(node, o);
    img_print_json(node);
}

typedef struct CheckArgs {
    const char *format, *cache, *repair;
    bool json, quiet, image_opts, force_share, dry_run, progress;
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
    { "dry-run", 0, ARG_SET, FIELD(dry_run) },
    { "progress", 'p', ARG_SET, FIELD(progress) },
    { NULL }
};
#undef FIELD

static BlockBackend *open_to_check(const char *name, const CheckArgs *a)
{
    int flags = BLK_O_CHECK | (a->repair && !a->dry_run ? BLK_O_RDWR : 0);
    bool writethrough;
    BlockBackend *blk;

    if (!blk_parse_cache_mode(a->cache, &flags, &writethrough)) {
        img_error("Invalid source cache option: %s", a->cache);
        return NULL;
    }
    if ((a->repair || a->dry_run) && a->force_share) {
        img_error("Could not open '%s': force-share=on can only be used with read-only images",
                  name);
        return NULL;
    }
    blk = img_open(name, a->format, flags, writethrough, a->image_opts, a->force_share);
    return blk;
}

static int exit_code(const BlockCheckResult *r)
{
    return r->check_errors ? 1 : r->corruptions ? 2 : r->leaks ? 3 : 0;
}

static void print_repaired(const BlockCheckResult *r)
{
    printf("The following inconsistencies were found and repaired:\n\n"
           "    %" G_GINT64_FORMAT " leaked clusters\n"
           "    %" G_GINT64_FORMAT " corruptions\n\n"
           "Double checking the fixed image now...\n",
           r->leaks_fixed, r->corruptions_fixed);
    fflush(stdout);
}

static unsigned fix_of(const CheckArgs *a)
{
    if (!a->repair) {
        return a->dry_run ? BLK_FIX_LEAKS | BLK_FIX_ERRORS : 0;
    }
    return !strcmp(a->repair, "all") ? BLK_FIX_LEAKS | BLK_FIX_ERRORS : BLK_FIX_LEAKS;
}

static bool show_progress(double done, void *opaque)
{
    progress_set(done * 100);
    return true;
}

/* The check; where something was repaired, it is what the check after it finds that counts. */
static int run_check(BlockBackend *blk, const CheckArgs *a, BlockCheckResult *res)
{
    BlockCheckWatch watch = { .report = report_line, .progress = show_progress };
    BlockCheckResult again = { 0 };
    int ret;

    progress_set(0);
    ret = blk_check_watched(blk, res, a->dry_run ? 0 : fix_of(a), &watch);
    progress_set(100);
    progress_end();
    if (ret < 0 || !(res->leaks_fixed || res->corruptions_fixed)) {
        return ret;
    }
    if (!a->json && !a->quiet) {
        print_repaired(res);
    }
    again.leaks_fixed = res->leaks_fixed;
    again.corruptions_fixed = res->corruptions_fixed;
    *res = again;
    return blk_check(blk, res, 0, report_line, NULL);
}

/* ---- Beside a writer (-U) ---- */

#define LOOKS 4
#define LOOK_AGAIN_US 50000

/* What one look found; @lines as a set, too. */
typedef struct Look {
    BlockCheckResult res;
    GPtrArray *lines;
    GHashTable *set;
} Look;

static Look look_new(void)
{
    Look l = { .lines = g_ptr_array_new_with_free_func(g_free) };

    l.set = g_hash_table_new(g_str_hash, g_str_equal);
    return l;
}

static void look_clear(Look *l)
{
    g_hash_table_unref(l->set);
    g_ptr_array_unref(l->lines);
}

static void take_line(const char *line, void *opaque)
{
    Look *l = opaque;
    char *copy = g_strdup(line);

    g_ptr_array_add(l->lines, copy);
    g_hash_table_add(l->set, copy);
}

/* Only what the look before has found, too, in the same words, is an error. */
static void drop_what_was_in_flux(Look *l, const Look *before)
{
    for (guint i = 0; i < l->lines->len;) {
        const char *line = l->lines->pdata[i];

        if (g_str_has_prefix(line, "ERROR") && !g_hash_table_contains(before->set, line)) {
            l->res.corruptions = MAX(l->res.corruptions - 1, 0);
            g_hash_table_remove(l->set, line);
            g_ptr_array_remove_index(l->lines, i);
        } else {
            i++;
        }
    }
}

/* An image that another process writes changes while it is looked at: so what looks like an error
 * is looked at again, in an image that is opened anew. */
static int check_shared(BlockBackend **blk, const char *name, const CheckArgs *a,
                        BlockCheckResult *res)
{
    Look last = look_new();
    int ret = blk_check(*blk, &last.res, 0, take_line, &last);

    for (unsigned i = 1; i < LOOKS && ret == 0 && last.res.corruptions; i++) {
        Look again = look_new();

        g_usleep(LOOK_AGAIN_US);
        blk_close_reader(*blk);
        *blk = open_to_check(name, a);
        ret = *blk ? blk_check(*blk, &again.res, 0, take_line, &again) : -EIO;
        drop_what_was_in_flux(&again, &last);
        look_clear(&last);
        last = again;
    }
    for (guint i = 0; i < last.lines->len; i++) {
        report_line(last.lines->pdata[i], NULL);
    }
    *res = last.res;
    look_clear(&last);
    return ret;
}

/* What is printed of it; the exit code. */
static int print_result(const CheckArgs *a, const BlockCheckResult *res, const char *name,
                        BlockBackend *blk)
{
    g_autoptr(DryRun) dry = NULL;

    if (a->dry_run) {
        dry = img_check_dry_run(blk, name, a->image_opts, fix_of(a));
        if (!dry) {
            return 1;
        }
    }
    if (a->json && !a->quiet) {
        print_json(res, name, blk_driver_name(blk_bs(blk)), dry);
    } else if (!a->quiet) {
        if (dry) {
            img_check_print_findings(dry);
        }
        print_human(res);
    }
    return exit_code(res);
}

int img_check(int argc, char **argv)
{
    CheckArgs a = { .cache = "writeback" };
    BlockCheckResult res = { 0 };
    BlockBackend *blk;
    int ret, closed;

    img_take_args("check", check_args, argc, argv, &a);
    img_expect_one_image("check", argc);
    progress_init(a.progress && !a.quiet && !a.json, 1.0);
    blk = open_to_check(argv[optind], &a);
    if (!blk) {
        return 1;
    }
    ret = a.force_share ? check_shared(&blk, argv[optind], &a, &res) : run_check(blk, &a, &res);
    if (!blk) {
        return 1;
    }
    if (ret == -ENOTSUP) {
        img_error("This image format does not support checks");
        ret = 63;
    } else if (ret < 0) {
        img_error("Check failed: %s", strerror(-ret));
        ret = 1;
    } else {
        ret = print_result(&a, &res, argv[optind], blk);
    }
    if (!a.repair || a.dry_run) {
        blk_close_reader(blk);
        return ret;
    }
    closed = blk_close(blk);
    if (closed < 0) {
        img_error("Could not close '%s': %s", argv[optind], strerror(-closed));
        return 1;
    }
    return ret;
}
