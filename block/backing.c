/* SPDX-License-Identifier: MIT */
/*
 * Backing chains.
 *
 * INV-CHAIN-1  No file is twice in a chain (device and inode): checked before a layer's driver
 *              reads anything.
 * INV-CHAIN-2  No path in a graph is over BLK_MAX_CHAIN_DEPTH nodes long: requests and opens
 * recurse on it.
 */
#include "block/block-int.h"

#include <string.h>

bool bdrv_check_chain(BlockDriverState *bs, GError **errp)
{
    for (BlockDriverState *up = bs->core->opener; up; up = up->core->opener) {
        if (bs->core->ino && up->core->ino == bs->core->ino && up->core->dev == bs->core->dev) {
            BlockDriverState *file = bs->core->pending_file ? bs->core->pending_file->bs : bs;

            error_set(errp, ELOOP, "Backing file '%s' creates an infinite loop.", file->filename);
            return false;
        }
    }
    return true;
}

const char *bdrv_name_for_paths(BlockDriverState *bs)
{
    BdrvChild *f;

    while ((f = bs->file ? bs->file : bs->core->pending_file)) {
        bs = f->bs;
    }
    return bs->exact_filename && *bs->exact_filename ? bs->exact_filename : NULL;
}

char *bdrv_reference_path(BlockDriverState *bs, const char *reference, GError **errp)
{
    const char *base;

    if (bdrv_protocol_prefix(reference) || reference[0] == '/') {
        return g_strdup(reference);
    }
    base = bdrv_name_for_paths(bs);
    if (!base) {
        error_set(errp, EINVAL, "Cannot generate a base directory for %s nodes",
                  bs->drv->format_name);
        return NULL;
    }
    return blk_path_combine(base, reference);
}

char *blk_backing_path(BlockDriverState *bs, GError **errp)
{
    bs = bdrv_skip_filters(bs);
    if (!bs->backing_file || !*bs->backing_file) {
        return NULL;
    }
    return bdrv_reference_path(bs, bs->backing_file, errp);
}

/* The image's own word for its backing file, as the policy lets it pass. */
static bool coroutine_fn follow_reference(BlockDriverState *bs, OpenRequest *r, const char *path,
                                          GError **errp)
{
    BlockReference ref;

    if (!block_policy_co_resolve(bs->core->policy, bdrv_name_for_paths(bs), bs->backing_file, path,
                                 false, &ref, errp)) {
        return false;
    }
    r->flags |= ref.no_links ? BLK_O_NO_LINKS : 0;
    if (ref.fd >= 0) { /* whatever the name looks like, it is that file */
        r->fd_plus_1 = ref.fd + 1;
        opts_set(r->options, "file.driver", "file");
        opts_set(r->options, "file.filename", bs->backing_file);
    } else {
        r->filename = path;
    }
    return true;
}

static BlockDriverState *coroutine_fn open_layer(BlockDriverState *bs, Options *backing, int flags,
                                                 GError **errp)
{
    g_autofree char *path = NULL;
    OpenRequest r = {
        .flags = bdrv_child_flags(bs, flags, BDRV_ROLE_BACKING),
        .opener = bs,
        .depth = bs->core->depth + 1,
        .layer = bs->core->layer + 1,
        .policy = bs->core->policy,
    };

    if (!opts_has(backing, "file.filename") && !opts_has(backing, "filename") &&
        !opts_has(backing, "file")) {
        GError *err = NULL;

        path = blk_backing_path(bs, &err);
        if (err) {
            g_propagate_error(errp, err);
            return NULL;
        }
    }
    if (bs->backing_format && *bs->backing_format && !opts_has(backing, "driver")) {
        opts_set(backing, "driver", bs->backing_format);
    }
    r.options = opts_copy(backing);
    if (path && !follow_reference(bs, &r, path, errp)) {
        opts_free(r.options);
        return NULL;
    }
    return bdrv_co_open_node(&r, errp);
}

static int fail(GError **errp, GError *err)
{
    int code = err->code ? -err->code : -EINVAL;

    g_propagate_prefixed_error(errp, err, "Could not open backing file: ");
    return code;
}

int coroutine_fn bdrv_co_open_backing(BlockDriverState *bs, Options *backing, const char *reference,
                                      int flags, GError **errp)
{
    bool given = reference || (backing && opts_count(backing) > 0);
    BlockDriverState *layer;
    GError *err = NULL;

    if ((flags & BLK_O_NO_BACKING) || (reference && !*reference)) {
        return 0;
    }
    if (!given && (!bs->backing_file || !*bs->backing_file)) {
        return 0;
    }
    if (!bs->drv->supports_backing) {
        return error_set(errp, EINVAL, "Driver doesn't support backing files");
    }
    bs->core->backing_overridden = given;
    if (reference) {
        layer = bdrv_name_lookup(reference);
        if (!layer) {
            error_set(&err, ENODEV, "Cannot find device='%s' nor node-name='%s'", reference,
                      reference);
        }
    } else {
        layer = open_layer(bs, backing, flags, &err);
    }
    if (!layer) {
        return fail(errp, err);
    }
    if (!bdrv_co_attach(bs, layer, "backing", BDRV_ROLE_BACKING, &err)) {
        return fail(errp, err);
    }
    bdrv_refresh_limits(bs);
    return 0;
}
