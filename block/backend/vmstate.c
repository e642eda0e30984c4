/* SPDX-License-Identifier: MIT */
/* The state of a virtual machine, for users. */
#include "block/backend/backend-int.h"

int coroutine_fn blk_co_save_vmstate(BlockBackend *blk, int64_t pos, IOVector *v)
{
    int ret;

    (void)blk_co_beside_begin(blk); /* tables may grow: one at a time */
    ret = bdrv_co_save_vmstate(blk->root, pos, v, blk_write_cache(blk) ? 0 : BLK_REQ_FUA);
    blk_co_beside_end(blk);
    return ret;
}

int coroutine_fn blk_co_load_vmstate(BlockBackend *blk, int64_t pos, IOVector *v)
{
    int ret = blk_co_enter(blk);

    if (ret == 0) {
        ret = bdrv_co_load_vmstate(blk->root, pos, v);
        blk_leave(blk);
    }
    return ret;
}
