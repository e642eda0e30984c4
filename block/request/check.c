/* SPDX-License-Identifier: MIT */
/* The gate of checks and repairs. */
#include "block/request/request.h"

int coroutine_fn bdrv_co_check(BlockDriverState *bs, BlockCheckResult *res, unsigned fix,
                               const BlockCheckWatch *watch)
{
    int ret;

    if (fix && bs->read_only) {
        return -EACCES;
    }
    ret = bs->drv->co_check(bs, res, fix, watch);
    return fix ? bdrv_co_write_done(bs, 0, ret, false) : ret;
}
