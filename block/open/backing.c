/* SPDX-License-Identifier: MIT */
/*
 * Backing chains.
 *
 * INV-CHAIN-1  No file is twice in a chain (device and inode): checked before a layer's driver
 *              reads anything.
 * INV-CHAIN-2  No path in a graph is over BLK_MAX_CHAIN_DEPTH nodes long: requests and opens
 *              recurse on it.
 */
#include "block/backend.h"
#include "block/filename.h"
#include "block/open/open.h"

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
