/* SPDX-License-Identifier: MIT */
/* The gate of checks and repairs. */
#include "block/request/request.h"

int coroutine_fn bdrv_co_check(BlockDriverState *bs, BlockCheckResult *res, unsigned fix,
                               BlockReportFunc *report, void *opaque)
{
    int ret;

    if (fix && bs->read_only) {
        return -EACCES;
    }
    ret = bs->drv->co_check(bs, res, fix, report, opaque);
    return fix ? bdrv_co_write_done(bs, 0, ret, false) : ret;
}
