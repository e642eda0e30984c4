/* SPDX-License-Identifier: MIT */
/* Creating images as the tool does: the backing file is checked and the options completed first. */
#include "block/backend/backend-int.h"
#include "block/open/open.h"

#include <string.h>

static bool override(Options *o, const BlockCreateOption *list, const char *key, const char *value,
                     const char *what, const char *format, GError **errp)
{
    if (!value) {
        return true;
    }
    if (!bdrv_find_create_option(list, key)) {
        error_set(errp, EINVAL, "%s not supported for file format '%s'", what, format);
        return false;
    }
    opts_set(o, key, value);
    return true;
}

static int64_t size_of_backing(const char *path, const char *fmt, Secrets *secrets, char **detected,
                               GError **errp)
{
    g_autoptr(Options) o = opts_new();
    g_autoptr(BlockBackend) blk = NULL;
    int64_t len;

    if (fmt) {
        opts_set(o, "driver", fmt);
    }
    opts_set_secrets(o, secrets);
    /* Only its length is asked for, so it may be in use, and locked. */
    blk = blk_open(path, g_steal_pointer(&o), BLK_O_FORCE_SHARE | BLK_O_NO_IO, errp);
    if (!blk) {
        return -EINVAL;
    }
    len = blk_getlength(blk);
    if (len < 0) {
        return error_set_errno(errp, len, "Could not get size of '%s'", path);
    }
    *detected = g_strdup(blk_driver_name(blk_bs(blk)));
    return len;
}

static bool check_backing(const BlockCreateParams *p, Options *o, GError **errp)
{
    const char *file = opts_peek(o, "backing_file"), *fmt = opts_peek(o, "backing_fmt");
    g_autofree char *path = NULL, *detected = NULL;
    GError *err = NULL;
    int64_t len;

    if (!file) {
        return true;
    }
    if (!p->no_backing_open) {
        path = blk_path_combine(p->filename, file);
        len = size_of_backing(path, fmt, opts_secrets(o), &detected, &err);
        if (len < 0) {
            error_append_hint(&err, "Could not open backing image.");
            g_propagate_error(errp, err);
            return false;
        }
        if (!fmt) {
            error_set(errp, EINVAL, "Backing file specified without backing format");
            error_append_hint(errp, "Detected format of %s.", detected);
            return false;
        }
        if (!opts_has(o, "size")) {
            opts_set_int(o, "size", len);
        }
    } else if (!fmt) {
        error_set(errp, EINVAL, "Backing file specified without backing format");
        return false;
    }
    return true;
}

static bool check_options(const BlockCreateParams *p, const BlockCreateOption *list, Options *o,
                          GError **errp)
{
    const char *file;

    if (p->size >= 0) {
        if (opts_has(o, "size")) {
            error_set(errp, EINVAL, "The image size must be specified only once");
            return false;
        }
        opts_set_int(o, "size", p->size);
    }
    if (!override(o, list, "backing_file", p->base_filename, "Backing file", p->format, errp) ||
        !override(o, list, "backing_fmt", p->base_format, "Backing file format", p->format, errp)) {
        return false;
    }
    file = opts_peek(o, "backing_file");
    if (file && !*file) {
        error_set(errp, EINVAL, "Expected backing file name, got empty string");
        return false;
    }
    if (file && !strcmp(file, p->filename)) {
        error_set(errp, EINVAL,
                  "Error: Trying to create an image with the same filename as the "
                  "backing file");
        return false;
    }
    return true;
}

static Options *prepare(const BlockCreateParams *p, GError **errp)
{
    g_autofree BlockCreateOption *list = blk_create_options(p->filename, p->format, errp);
    g_autoptr(Options) o = opts_copy(p->opts);
    g_autoptr(Options) given = NULL;
    g_autoptr(Options) done = NULL;

    if (!list || !check_options(p, list, o, errp)) {
        return NULL;
    }
    given =
        opts_copy(o); /* completing consumes; bad values come before the backing file's errors */
    done = bdrv_complete_create_options(list, given, errp);
    if (!done || !check_backing(p, o, errp)) {
        return NULL;
    }
    if (!opts_has(o, "size")) {
        error_set(errp, EINVAL, "Image creation needs a size parameter");
        return NULL;
    }
    return bdrv_complete_create_options(list, o, errp);
}

bool blk_create_image(BlockCreateParams *p, Options **ret_opts, GError **errp)
{
    G_GNUC_UNUSED g_autoptr(Options) opts = p->opts; /* freed at the end */
    Options *done = prepare(p, errp);
    GError *err = NULL;
    bool sized;
    int ret;

    p->opts = NULL;
    if (!done) {
        return false;
    }
    if (ret_opts) {
        *ret_opts = opts_copy(done);
    }
    sized = opts_has(done, "cluster_size");
    ret = blk_create(p->filename, p->format, done, &err);
    if (ret == -EFBIG) {
        g_clear_error(&err);
        error_set(&err, EFBIG, "The image size is too large for file format '%s'%s", p->format,
                  sized ? " (try using a larger cluster size)" : "");
    }
    if (ret < 0) {
        g_propagate_error(errp, err);
    }
    return ret == 0;
}
