/* SPDX-License-Identifier: MIT */
/* The gate of compressed writes. */
#include "block/request/request.h"

int coroutine_fn bdrv_co_pwritev_compressed(BdrvChild *c, int64_t offset, IOVector *v)
{
    TrackedReq t;
    int ret;

    if (!(c->bs->drv->features & BLK_CAN_COMPRESS)) {
        return -ENOTSUP;
    }
    ret = bdrv_check_write(c, offset, (int64_t)v->size, 0);
    if (ret < 0) {
        return ret;
    }
    if (unlikely(c->bs->tracked)) {
        bdrv_co_track_begin(c->bs, &t, offset, offset + (int64_t)v->size, false);
    }
    ret = c->bs->drv->co_pwritev_compressed(c->bs, offset, v);
    if (unlikely(c->bs->tracked)) {
        bdrv_track_end(c->bs, &t);
    }
    return bdrv_co_write_done(c->bs, 0, ret, false);
}
