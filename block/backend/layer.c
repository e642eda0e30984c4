/* SPDX-License-Identifier: MIT */
/* The layers of a chain, for those who move data between them. */
#include "block/backend/backend-int.h"
#include "block/graph/graph.h"

typedef struct LayerArgs {
    BlockDriverState *bs;
    BlockBackend *blk;
    GError **errp;
} LayerArgs;

static int coroutine_fn open_layer_fn(void *opaque)
{
    LayerArgs *a = opaque;

    a->blk = blk_on_node(bdrv_ref(a->bs), a->errp);
    return a->blk ? 0 : -EINVAL;
}

BlockBackend *blk_open_layer(BlockDriverState *bs, GError **errp)
{
    LayerArgs a = { .bs = bs, .errp = errp };
    Options *o;

    if (co_run_sync(open_layer_fn, &a) < 0) {
        return NULL;
    }
    o = opts_new();
    opts_set(o, "read-only", "off");
    if (!blk_reopen(a.blk, o, errp)) {
        blk_close_reader(a.blk);
        return NULL;
    }
    return a.blk;
}

int coroutine_fn blk_co_make_empty(BlockBackend *blk)
{
    int ret;

    blk_co_alone_begin(blk);
    ret = bdrv_co_make_empty(blk->root);
    blk_co_alone_end(blk);
    return ret;
}

static int coroutine_fn make_empty_fn(void *opaque)
{
    return blk_co_make_empty(opaque);
}

int blk_make_empty(BlockBackend *blk)
{
    return co_run_sync(make_empty_fn, blk);
}
