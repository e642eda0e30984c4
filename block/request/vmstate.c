/* SPDX-License-Identifier: MIT */
/* The gates of a virtual machine's state, saved beside the disk in the image that has a place for
 * it. */
#include "block/request/request.h"

int coroutine_fn bdrv_co_save_vmstate(BdrvChild *c, int64_t pos, IOVector *v, unsigned flags)
{
    int ret = bdrv_check_range(pos, (int64_t)v->size);

    if (ret < 0) {
        return ret;
    }
    if (!(c->perm & BLK_PERM_WRITE)) {
        return -EPERM;
    }
    ret = c->bs->drv->co_vmstate(c->bs, pos, v, true);
    return bdrv_co_write_done(c->bs, 0, ret, flags & BLK_REQ_FUA);
}

int coroutine_fn bdrv_co_load_vmstate(BdrvChild *c, int64_t pos, IOVector *v)
{
    int ret = bdrv_check_range(pos, (int64_t)v->size);

    return ret < 0 ? ret : c->bs->drv->co_vmstate(c->bs, pos, v, false);
}
