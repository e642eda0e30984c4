/* SPDX-License-Identifier: MIT */
/* Changes of an image that are none of its disk, for users. */
#include "block/backend/backend-int.h"

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
