/* SPDX-License-Identifier: MIT */
/* Changes of an image that are none of its disk, for users. */
#include "block/backend/backend-int.h"
#include "block/driver/registry.h"
#include "block/graph/graph.h"
#include "block/open/open.h"

#include <errno.h>
#include <string.h>

int coroutine_fn blk_co_change_backing_file(BlockBackend *blk, const char *file, const char *format,
                                            GError **errp)
{
    int ret;

    blk_co_alone_begin(blk); /* names that others read are freed */
    ret = bdrv_co_change_backing_file(blk->root, file, format, errp);
    blk_co_alone_end(blk);
    return ret;
}

typedef struct BackingArgs {
    BlockBackend *blk;
    const char *file, *format;
    GError **errp;
} BackingArgs;

static int coroutine_fn backing_fn(void *opaque)
{
    BackingArgs *a = opaque;

    return blk_co_change_backing_file(a->blk, a->file, a->format, a->errp);
}

int blk_change_backing_file(BlockBackend *blk, const char *file, const char *format, GError **errp)
{
    BackingArgs a = { blk, file, format, errp };

    return co_run_sync(backing_fn, &a);
}

/* ---- Amend ---- */

static const BlockCreateOption *find(const BlockCreateOption *list, const char *name)
{
    for (; list->name && strcmp(list->name, name); list++) {
    }
    return list->name ? list : NULL;
}

const BlockCreateOption *blk_amend_options(const char *format, GError **errp)
{
    const BlockDriver *drv = bdrv_find_driver(format);

    if (!drv) {
        error_set(errp, EINVAL, "Unknown file format '%s'", format);
        return NULL;
    }
    if (!(drv->features & BLK_CAN_AMEND)) {
        error_set(errp, ENOTSUP, "Format driver '%s' does not support option amendment", format);
        return NULL;
    }
    return drv->amend_options;
}

typedef struct NameCheck {
    const BlockDriver *drv;
    GError **errp;
    bool bad;
} NameCheck;

static void check_name(const char *key, const char *value, void *opaque)
{
    NameCheck *c = opaque;

    if (c->bad || find(c->drv->amend_options, key)) {
        return;
    }
    c->bad = true;
    error_set(c->errp, EINVAL, "Invalid parameter '%s'%s", key,
              find(c->drv->create_options, key)
                  ? "\nThis option is only supported for image creation"
                  : "");
}

/* With the right to resize, as a size may be among the options. */
static int coroutine_fn co_amend_alone(BlockBackend *blk, Options *opts, const BlockAmend *how,
                                       GError **errp)
{
    unsigned perm = blk->root->perm, shared = blk->root->shared;
    bool may = perm & BLK_PERM_RESIZE;
    int ret;

    if (!may && !bdrv_child_set_perm(blk->root, perm | BLK_PERM_RESIZE, shared, errp)) {
        return -EPERM;
    }
    ret = bdrv_co_amend(blk->root, opts, how, errp);
    bdrv_refresh_limits(blk->root->bs);
    if (!may) {
        (void)bdrv_child_set_perm(blk->root, perm, shared, NULL);
    }
    return ret;
}

int coroutine_fn blk_co_amend(BlockBackend *blk, Options *opts, const BlockAmend *how,
                              GError **errp)
{
    g_autoptr(Options) o = opts;
    NameCheck names = { blk->bs->drv, errp, false };
    int ret;

    if (!(blk->bs->drv->features & BLK_CAN_AMEND)) {
        (void)blk_amend_options(blk->bs->drv->format_name, errp);
        return -ENOTSUP;
    }
    opts_foreach(o, check_name, &names);
    if (names.bad) {
        return -EINVAL;
    }
    blk_co_alone_begin(blk);
    ret = co_amend_alone(blk, o, how, errp);
    blk_co_alone_end(blk);
    return ret;
}

typedef struct AmendArgs {
    BlockBackend *blk;
    Options *opts;
    const BlockAmend *how;
    GError **errp;
} AmendArgs;

static int coroutine_fn amend_fn(void *opaque)
{
    AmendArgs *a = opaque;

    return blk_co_amend(a->blk, a->opts, a->how, a->errp);
}

int blk_amend(BlockBackend *blk, Options *opts, const BlockAmend *how, GError **errp)
{
    AmendArgs a = { blk, opts, how, errp };

    return co_run_sync(amend_fn, &a);
}
