/* SPDX-License-Identifier: MIT */
/* Points that blkdebug rules and breakpoints name. */
#include "block/request/request.h"

void coroutine_fn bdrv_co_debug_event_bs(BlockDriverState *bs, BlkdebugEvent event)
{
    if (bs->debug_below) {
        bs->drv->co_debug_event(bs, event);
    }
}

void coroutine_fn bdrv_co_debug_event(BdrvChild *c, BlkdebugEvent event)
{
    if (unlikely(c->bs->debug_below)) {
        bdrv_co_debug_event_bs(c->bs, event);
    }
}
