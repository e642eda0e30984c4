/* SPDX-License-Identifier: MIT */
/* The state of a virtual machine, saved in and loaded from the image that has a place for one. */
#include "block/block-int.h"

/* The child whose node takes it: filters, and formats that lack it, ask their file. */
static BdrvChild *vmstate_child(BdrvChild *c)
{
    while (c && !c->bs->drv->co_vmstate) {
        c = c->bs->file;
    }
    return c;
}

int coroutine_fn blk_co_save_vmstate(BlockBackend *blk, int64_t pos, IOVector *v)
{
    BdrvChild *c = vmstate_child(blk->root);
    int ret;

    if (!c) {
        return -ENOTSUP;
    }
    if (!(c->perm & BLK_PERM_WRITE)) {
        return -EPERM;
    }
    blk_co_alone_begin(blk); /* tables may grow */
    ret = c->bs->drv->co_vmstate(c->bs, pos, v, true);
    ret = bdrv_co_write_done(c->bs, 0, ret, !blk_write_cache(blk));
    blk_co_alone_end(blk);
    return ret;
}

int coroutine_fn blk_co_load_vmstate(BlockBackend *blk, int64_t pos, IOVector *v)
{
    BdrvChild *c = vmstate_child(blk->root);
    int ret;

    if (!c) {
        return -ENOTSUP;
    }
    ret = blk_co_enter(blk);
    if (ret < 0) {
        return ret;
    }
    ret = c->bs->drv->co_vmstate(c->bs, pos, v, false);
    blk_leave(blk);
    return ret;
}
