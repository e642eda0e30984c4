/* SPDX-License-Identifier: MIT */
/* Creating an image or a plain file: finds the driver, checks the options against its table, fills
 * in the defaults, and calls it. */
#include "block/backend.h"
#include "block/driver/registry.h"
#include "block/filename.h"
#include "block/open/open.h"

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
    if (!(drv->features & BLK_CAN_CREATE)) {
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
    } else if (!(drv->features & BLK_CAN_CREATE)) {
        error_set(errp, ENOTSUP, "Format driver '%s' does not support image creation", format);
        drv = NULL;
    }
    return drv;
}

/* ---- The options that a creation takes ---- */

const BlockCreateOption *bdrv_find_create_option(const BlockCreateOption *list, const char *name)
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

    if (!c->unknown && !bdrv_find_create_option(c->drv->create_options, key) &&
        !(c->proto && bdrv_find_create_option(c->proto->create_options, key))) {
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
        if (proto && !(proto->features & BLK_CAN_CREATE)) {
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

Options *bdrv_complete_create_options(const BlockCreateOption *list, Options *opts, GError **errp)
{
    g_autoptr(Options) given = opts_new(), none = opts_new(), done = opts_new();

    opts_set_secrets(done, opts_secrets(opts));
    for (const char *key; (key = opts_first_key(opts));) { /* the first that is wrong is told */
        const BlockCreateOption *d = bdrv_find_create_option(list, key);

        if (!d) {
            error_set(errp, EINVAL, "Invalid parameter '%s'", key);
        }
        if (!d || !convert(d, opts, given, errp)) {
            return NULL;
        }
    }
    for (; list->name; list++) {
        if (opts_has(given, list->name)) {
            opts_set(done, list->name, opts_peek(given, list->name));
        } else if (!convert(list, none, done, errp)) {
            return NULL;
        }
    }
    return g_steal_pointer(&done);
}

bool blk_check_create_options(const char *filename, const char *format, const Options *opts,
                              GError **errp)
{
    g_autofree BlockCreateOption *list = blk_create_options(filename, format, errp);
    g_autoptr(Options) given = opts_copy(opts);
    g_autoptr(Options) done = list ? bdrv_complete_create_options(list, given, errp) : NULL;

    return done != NULL;
}
