/* SPDX-License-Identifier: MIT */
/* Persistent bitmaps, for users. */
#include "block/backend/backend-int.h"
#include "block/bitmap-ops.h"

typedef struct BitmapArgs {
    BlockBackend *blk;
    const BlockBitmapChange *change;
    const char *name;
    BlockBitmapData *data;
    GArray *list;
    GError **errp;
} BitmapArgs;

static int coroutine_fn change_fn(void *opaque)
{
    BitmapArgs *a = opaque;
    int ret;

    blk_co_alone_begin(a->blk);
    ret = bdrv_co_bitmap_change(a->blk->root, a->change, a->errp);
    blk_co_alone_end(a->blk);
    return ret;
}

int blk_bitmap_change(BlockBackend *blk, const BlockBitmapChange *change, GError **errp)
{
    BitmapArgs a = { .blk = blk, .change = change, .errp = errp };

    return co_run_sync(change_fn, &a);
}

static int coroutine_fn read_fn(void *opaque)
{
    BitmapArgs *a = opaque;
    int ret;

    blk_co_alone_begin(a->blk);
    ret = bdrv_co_bitmap_read(a->blk->root, a->name, a->data, a->errp);
    blk_co_alone_end(a->blk);
    return ret;
}

int blk_bitmap_read(BlockBackend *blk, const char *name, BlockBitmapData *data, GError **errp)
{
    BitmapArgs a = { .blk = blk, .name = name, .data = data, .errp = errp };

    return co_run_sync(read_fn, &a);
}

static int coroutine_fn list_fn(void *opaque)
{
    BitmapArgs *a = opaque;
    int ret;

    blk_co_alone_begin(a->blk);
    ret = bdrv_co_bitmap_list(a->blk->root, a->list, a->errp);
    blk_co_alone_end(a->blk);
    return ret;
}

GArray *blk_bitmap_list(BlockBackend *blk, GError **errp)
{
    BitmapArgs a = { .blk = blk, .list = block_bitmap_list_new(), .errp = errp };

    if (co_run_sync(list_fn, &a) < 0) {
        g_array_unref(a.list);
        return NULL;
    }
    return a.list;
}

bool blk_bitmap_can_store(BlockBackend *blk)
{
    return blk->bs->drv->bitmaps->can_store(blk->bs);
}
