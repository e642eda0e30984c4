/* SPDX-License-Identifier: MIT */
/* The gate of emptying an image. */
#include "block/request/request.h"

int coroutine_fn bdrv_co_make_empty(BdrvChild *c)
{
    BlockDriverState *bs = c->bs;
    int ret = 0;

    if (bs->read_only) {
        return -EACCES;
    }
    if (bs->backing) { /* what it is to show is on the disk before what showed it goes */
        ret = bdrv_co_flush(bs->backing->bs);
    }
    return bdrv_co_write_done(bs, 0, ret < 0 ? ret : bs->drv->co_make_empty(bs), false);
}
