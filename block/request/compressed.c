/* SPDX-License-Identifier: MIT */
/* The gate of compressed writes. */
#include "block/request/request.h"

int coroutine_fn bdrv_co_pwritev_compressed(BdrvChild *c, int64_t offset, IOVector *v)
{
    uint8_t detect = c->bs->detect_zeroes;
    TrackedReq t;
    int ret;

    if (!(c->bs->drv->features & BLK_CAN_COMPRESS)) {
        return -ENOTSUP;
    }
    ret = bdrv_check_write(c, offset, (int64_t)v->size, 0);
    if (ret < 0) {
        return ret;
    }
    if (unlikely(detect) && v->size && iov_is_zero(v, 0, v->size)) { /* takes no room at all */
        return bdrv_co_zero_unguarded(c, offset, (int64_t)v->size,
                                      detect == BDRV_DETECT_ZEROES_UNMAP ? BLK_REQ_MAY_UNMAP : 0);
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
