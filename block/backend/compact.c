/* SPDX-License-Identifier: MIT */
/* Compacting an image; its users wait. */
#include "block/backend/backend-int.h"

typedef struct CompactArgs {
    BlockBackend *blk;
    unsigned flags;
    BlockProgressFunc *progress;
    void *opaque;
    GError **errp;
} CompactArgs;

int coroutine_fn blk_co_compact(BlockBackend *blk, unsigned flags, BlockProgressFunc *progress,
                                void *opaque, GError **errp)
{
    int ret;

    blk_co_alone_begin(blk);
    ret = bdrv_co_compact(blk->bs, flags, progress, opaque, errp);
    blk_co_alone_end(blk);
    return ret;
}

static int coroutine_fn compact_fn(void *opaque)
{
    CompactArgs *a = opaque;

    return blk_co_compact(a->blk, a->flags, a->progress, a->opaque, a->errp);
}

int blk_compact(BlockBackend *blk, unsigned flags, BlockProgressFunc *progress, void *opaque,
                GError **errp)
{
    CompactArgs a = { blk, flags, progress, opaque, errp };

    return co_run_sync(compact_fn, &a);
}
