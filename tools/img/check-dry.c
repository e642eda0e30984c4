/* SPDX-License-Identifier: MIT */
/* check --dry-run: the repair is done, over a node that keeps in memory what is written. */
#include "check.h"

#include "tools/lib/object.h"

#include <stdio.h>
#include <string.h>

typedef struct Finding {
    char *what, *repair;
    int64_t guest, length;
} Finding;

static void finding_free(void *opaque)
{
    Finding *f = opaque;

    g_free(f->what);
    g_free(f->repair);
    g_free(f);
}

static void take_finding(const BlockFinding *f, void *opaque)
{
    Finding *copy = g_new0(Finding, 1);

    copy->what = g_strdup(f->what);
    copy->repair = g_strdup(f->repair);
    copy->guest = f->guest;
    copy->length = f->length;
    g_ptr_array_add(opaque, copy);
}

/* ---- The image over a scratch node ---- */

/* What "file" and "data-file" say goes one node down. */
static void put_scratch(Options *o, const char *child, const char *filename)
{
    g_autofree char *below = g_strconcat(child, ".file", NULL);
    g_autofree char *driver = g_strconcat(child, ".driver", NULL);
    g_autoptr(Options) sub = opts_take_subtree(o, child);

    if (filename) {
        opts_set(sub, "filename", filename);
    }
    opts_put_subtree(o, below, sub);
    opts_set(o, driver, "scratch");
}

/* The data file's name, or NULL. */
static char *data_file_of(BlockBackend *blk, const char *name)
{
    g_autoptr(Options) specific = blk_get_specific_info(blk_bs(blk), NULL);
    g_autofree char *file = specific ? opts_take_str(specific, "data-file") : NULL;

    return file ? blk_path_combine(name, file) : NULL;
}

static BlockBackend *open_scratch(BlockBackend *blk, const char *name, bool image_opts)
{
    g_autoptr(Options) o = opts_new();
    g_autofree char *data_file = data_file_of(blk, name);
    g_autofree char *filename = NULL;
    GError *err = NULL;
    BlockBackend *scratch;

    object_add_secrets(o);
    if (image_opts && !opts_parse(o, name, "file", &err)) {
        img_error_from(err, NULL);
        return NULL;
    }
    opts_set(o, "driver", blk_driver_name(blk_bs(blk)));
    filename = opts_take_str(o, "filename");
    put_scratch(o, "file", image_opts ? filename : name);
    if (data_file) {
        put_scratch(o, "data-file", opts_has_subtree(o, "data-file") ? NULL : data_file);
    }
    scratch =
        blk_open(NULL, g_steal_pointer(&o), BLK_O_RDWR | BLK_O_CHECK | BLK_O_NO_BACKING, &err);
    if (!scratch) {
        img_error_from(err, NULL);
    }
    return scratch;
}

/* ---- */

DryRun *img_check_dry_run(BlockBackend *blk, const char *name, bool image_opts, unsigned fix)
{
    BlockBackend *scratch = open_scratch(blk, name, image_opts);
    DryRun *d = scratch ? g_new0(DryRun, 1) : NULL;
    BlockCheckResult res = { 0 }, after = { 0 };

    if (!d) {
        return NULL;
    }
    d->findings = g_ptr_array_new_with_free_func(finding_free);
    d->ret = blk_check_watched(scratch, &res, fix,
                               &(BlockCheckWatch){ .found = take_finding, .opaque = d->findings });
    if (d->ret == 0) {
        d->ret = blk_check(scratch, &after, 0, NULL, NULL);
    }
    d->left = after.corruptions + after.leaks;
    blk_close_reader(scratch);
    return d;
}

void img_check_dry_run_free(DryRun *d)
{
    if (d) {
        g_ptr_array_unref(d->findings);
        g_free(d);
    }
}

static void print_finding(const Finding *f)
{
    if (f->length) {
        printf("  guest 0x%" G_GINT64_MODIFIER "x+0x%" G_GINT64_MODIFIER "x: ", (uint64_t)f->guest,
               (uint64_t)f->length);
    } else {
        printf("  %s: ", f->what);
    }
    printf("would %s%s", f->repair ? "be " : "not be repaired", f->repair ? f->repair : "");
    if (f->length) {
        printf(": %s", f->what);
    }
    printf("\n");
}

void img_check_print_findings(const DryRun *d)
{
    for (guint i = 0; i < d->findings->len; i++) {
        print_finding(d->findings->pdata[i]);
    }
    if (d->ret < 0) {
        printf("  the repair would fail: %s\n", strerror(-d->ret));
    } else if (d->left) {
        printf("  %" G_GINT64_FORMAT " errors and leaks would be left\n", d->left);
    }
}

void img_check_findings_json(const DryRun *d, JsonObject *into)
{
    JsonArray *a = json_array_new();

    for (guint i = 0; i < d->findings->len; i++) {
        const Finding *f = d->findings->pdata[i];
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "what", f->what);
        if (f->length) {
            json_object_set_int_member(o, "guest", f->guest);
            json_object_set_int_member(o, "length", f->length);
        }
        if (f->repair) {
            json_object_set_string_member(o, "repair", f->repair);
        }
        json_array_add_object_element(a, o);
    }
    json_object_set_array_member(into, "findings", a);
    if (d->ret < 0) {
        json_object_set_string_member(into, "repair-error", strerror(-d->ret));
    } else {
        json_object_set_int_member(into, "errors-left", d->left);
    }
}
