/* SPDX-License-Identifier: MIT */
/* The gates of persistent bitmaps. */
#include "block/request/request.h"

#include "block/bitmap-ops.h"

static void clear_info(void *p)
{
    g_free(((BlockBitmapInfo *)p)->name);
}

GArray *block_bitmap_list_new(void)
{
    GArray *a = g_array_new(FALSE, FALSE, sizeof(BlockBitmapInfo));

    g_array_set_clear_func(a, clear_info);
    return a;
}

int coroutine_fn bdrv_co_bitmap_change(BdrvChild *c, const BlockBitmapChange *change, GError **errp)
{
    int ret;

    if (c->bs->read_only) {
        return error_set(errp, EACCES, "Image is read-only");
    }
    if (!(c->perm & BLK_PERM_WRITE)) {
        return error_set(errp, EPERM, "Permission to write is missing");
    }
    ret = c->bs->drv->bitmaps->co_change(c->bs, change, errp);
    return bdrv_co_write_done(c->bs, 0, ret, false);
}

int coroutine_fn bdrv_co_bitmap_read(BdrvChild *c, const char *name, BlockBitmapData *data,
                                     GError **errp)
{
    return c->bs->drv->bitmaps->co_read(c->bs, name, data, errp);
}

int coroutine_fn bdrv_co_bitmap_list(BdrvChild *c, GArray *list, GError **errp)
{
    return c->bs->drv->bitmaps->co_list(c->bs, list, errp);
}
