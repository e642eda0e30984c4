/* SPDX-License-Identifier: MIT */
/*
 * Creating images: the drivers' way (blk_create) and the tool's, which checks the backing file
 * and completes the options first (blk_create_image).
 */
#include "block/block-int.h"

#include <string.h>

static const BlockDriver *protocol_of(const char *filename, GError **errp)
{
    const BlockDriver *drv = bdrv_find_protocol(filename);

    if (!drv) {
        error_set(errp, EINVAL, "Unknown protocol '%.*s'", (int)bdrv_protocol_prefix(filename),
                  filename);
    }
    return drv;
}

/* The name as a protocol driver takes it: its prefix goes once, what then looks like one is none.
 */
static const char *without_prefix(const char *filename)
{
    size_t prefix = bdrv_protocol_prefix(filename);

    return filename + (prefix ? prefix + 1 : 0);
}

int coroutine_fn bdrv_co_create_file(const char *filename, Options *opts, GError **errp)
{
    const BlockDriver *drv = protocol_of(filename, errp);

    if (!drv) {
        return -EINVAL;
    }
    if (!(drv->features & BDRV_CAN_CREATE)) {
        return error_set(errp, ENOTSUP, "Protocol driver '%s' does not support image creation",
                         drv->format_name);
    }
    return drv->co_create(without_prefix(filename), opts, errp);
}

void coroutine_fn bdrv_co_remove_file(const char *filename)
{
    const BlockDriver *drv = protocol_of(filename, NULL);

    if (drv) {
        drv->remove(without_prefix(filename));
    }
}

typedef struct CreateArgs {
    const BlockDriver *drv;
    const char *filename;
    Options *opts;
    GError **errp;
} CreateArgs;

static int coroutine_fn create_fn(void *opaque)
{
    CreateArgs *a = opaque;
    const char *name = a->filename;
    GError *err = NULL;
    int ret;

    if (bdrv_is_protocol_driver(a->drv) && protocol_of(name, NULL) == a->drv) {
        name = without_prefix(name);
    }
    ret = a->drv->co_create(name, a->opts, &err);

    if (ret < 0 && err) {
        g_propagate_error(a->errp, err);
    } else if (ret < 0) {
        error_set_errno(a->errp, ret, "%s: error while creating %s", a->filename,
                        a->drv->format_name);
    }
    return ret < 0 ? ret : 0;
}

static const BlockDriver *creator(const char *format, GError **errp)
{
    const BlockDriver *drv = bdrv_find_driver(format);

    if (!drv) {
        error_set(errp, EINVAL, "Unknown file format '%s'", format);
    } else if (!(drv->features & BDRV_CAN_CREATE)) {
        error_set(errp, ENOTSUP, "Format driver '%s' does not support image creation", format);
        drv = NULL;
    }
    return drv;
}

/* ---- The options that a creation takes ---- */

static const BlockCreateOption *find_option(const BlockCreateOption *list, const char *name)
{
    for (; list->name; list++) {
        if (!strcmp(list->name, name)) {
            return list;
        }
    }
    return NULL;
}

typedef struct NameCheck {
    const BlockDriver *drv, *proto;
    char *unknown; /* the first option that neither takes */
} NameCheck;

static void check_name(const char *key, const char *value, void *opaque)
{
    NameCheck *c = opaque;

    if (!c->unknown && !find_option(c->drv->create_options, key) &&
        !(c->proto && find_option(c->proto->create_options, key))) {
        c->unknown = g_strdup(key);
    }
}

/* A driver takes what it knows and looks no further: a misspelt option would be ignored. */
static bool check_names(const BlockDriver *drv, const char *filename, const Options *opts,
                        GError **errp)
{
    NameCheck c = { drv, bdrv_find_protocol(filename), NULL };
    g_autofree char *unknown = NULL;

    opts_foreach(opts, check_name, &c);
    unknown = c.unknown;
    if (unknown) {
        error_set(errp, EINVAL, "Invalid parameter '%s'", unknown);
    }
    return !unknown;
}

int blk_create(const char *filename, const char *format, Options *opts, GError **errp)
{
    g_autoptr(Options) o = opts ? opts : opts_new();
    const BlockDriver *drv = creator(format, errp);
    const char *backing = opts_peek(o, "backing_fmt");
    CreateArgs a = { drv, filename, o, errp };

    if (!drv || !check_names(drv, filename, o, errp)) {
        return -EINVAL;
    }
    if (backing && !bdrv_find_driver(backing)) {
        return error_set(errp, EINVAL, "Parameter 'backing-fmt' does not accept value '%s'",
                         backing);
    }
    return co_run_sync(create_fn, &a);
}

static void add_options(GArray *all, const BlockCreateOption *from)
{
    for (; from && from->name; from++) {
        bool known = false;

        for (guint i = 0; i < all->len && !known; i++) {
            known = !strcmp(g_array_index(all, BlockCreateOption, i).name, from->name);
        }
        if (!known) {
            g_array_append_vals(all, from, 1);
        }
    }
}

BlockCreateOption *blk_create_options(const char *filename, const char *format, GError **errp)
{
    const BlockDriver *drv = creator(format, errp), *proto = NULL;
    GArray *all;

    if (!drv) {
        return NULL;
    }
    if (filename) {
        proto = protocol_of(filename, errp);
        if (proto && !(proto->features & BDRV_CAN_CREATE)) {
            error_set(errp, ENOTSUP, "Protocol driver '%s' does not support image creation",
                      proto->format_name);
            proto = NULL;
        }
        if (!proto) {
            return NULL;
        }
    }
    all = g_array_new(TRUE, TRUE, sizeof(BlockCreateOption));
    add_options(all, drv->create_options);
    add_options(all, proto ? proto->create_options : NULL);
    return (BlockCreateOption *)g_array_free(all, FALSE);
}

/* One option in its canonical form into @to. */
static bool convert(const BlockCreateOption *d, Options *from, Options *to, GError **errp)
{
    const char *v = opts_peek(from, d->name);
    uint64_t n;
    bool b;

    if (!v && !d->def) {
        return true;
    }
    if (!v) {
        opts_set(from, d->name, d->def);
    }
    switch (d->type) {
    case BLK_OPT_STRING: {
        g_autofree char *s = opts_take_str(from, d->name);

        opts_set(to, d->name, s);
        return true;
    }
    case BLK_OPT_BOOL:
        opts_set(to, d->name, v ? v : d->def); /* as it was written, for "Formatting" */
        return opts_take_bool(from, d->name, false, &b, errp);
    case BLK_OPT_NUMBER:
        if (!opts_take_uint(from, d->name, 0, &n, errp)) {
            return false;
        }
        opts_set_int(to, d->name, (int64_t)n);
        return true;
    case BLK_OPT_SIZE:
        if (!opts_take_size(from, d->name, 0, &n, errp)) {
            return false;
        }
        opts_set_int(to, d->name, (int64_t)n);
        return true;
    }
    return true;
}

/* @opts by the table of @list: unknown ones and bad values refused, defaults filled in. */
static Options *complete(const BlockCreateOption *list, Options *opts, GError **errp)
{
    g_autoptr(Options) done = opts_new();

    for (const char *key; (key = opts_first_key(opts)) && !find_option(list, key);) {
        error_set(errp, EINVAL, "Invalid parameter '%s'", key);
        return NULL;
    }
    for (; list->name; list++) {
        if (!convert(list, opts, done, errp)) {
            return NULL;
        }
    }
    if (opts_first_key(opts)) {
        error_set(errp, EINVAL, "Invalid parameter '%s'", opts_first_key(opts));
        return NULL;
    }
    return g_steal_pointer(&done);
}

bool blk_check_create_options(const char *filename, const char *format, const Options *opts,
                              GError **errp)
{
    g_autofree BlockCreateOption *list = blk_create_options(filename, format, errp);
    g_autoptr(Options) given = opts_copy(opts);
    g_autoptr(Options) done = list ? complete(list, given, errp) : NULL;

    return done != NULL;
}

/* ---- What `create` checks ---- */

static bool override(Options *o, const BlockCreateOption *list, const char *key, const char *value,
                     const char *what, const char *format, GError **errp)
{
    if (!value) {
        return true;
    }
    if (!find_option(list, key)) {
        error_set(errp, EINVAL, "%s not supported for file format '%s'", what, format);
        return false;
    }
    opts_set(o, key, value);
    return true;
}

static int64_t size_of_backing(const char *path, const char *fmt, char **detected, GError **errp)
{
    g_autoptr(Options) o = opts_new();
    g_autoptr(BlockBackend) blk = NULL;
    int64_t len;

    if (fmt) {
        opts_set(o, "driver", fmt);
    }
    /* Only its length is asked for, so it may be in use. */
    blk = blk_open(path, g_steal_pointer(&o), BLK_O_FORCE_SHARE, errp);
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
        len = size_of_backing(path, fmt, &detected, &err);
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
    done = complete(list, given, errp);
    if (!done || !check_backing(p, o, errp)) {
        return NULL;
    }
    if (!opts_has(o, "size")) {
        error_set(errp, EINVAL, "Image creation needs a size parameter");
        return NULL;
    }
    return complete(list, o, errp);
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
