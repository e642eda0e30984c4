/* SPDX-License-Identifier: MIT */
/* The gate of compacting. */
#include "block/request/request.h"

int coroutine_fn bdrv_co_compact(BlockDriverState *bs, unsigned flags, BlockProgressFunc *progress,
                                 void *opaque, GError **errp)
{
    int ret;

    if (bs->read_only) {
        return error_set(errp, EACCES, "The image is read-only");
    }
    ret = bs->drv->co_compact(bs, flags, progress, opaque, errp);
    return bdrv_co_write_done(bs, 0, ret, false);
}
