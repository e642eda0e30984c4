/* SPDX-License-Identifier: MIT */
/* How long nodes are, and how much they take on the host. */
#include "block/request/request.h"

int64_t coroutine_fn bdrv_co_refresh_length(BlockDriverState *bs)
{
    int64_t total = atomic_load(&bs->total_bytes), len;

    do { /* again, if a write has moved the end since the look */
        len = bs->drv->co_getlength(bs);
        if (len < 0) {
            return len;
        }
        len = len > INT64_MAX - LENGTH_UNIT ? ALIGN_DOWN(len, LENGTH_UNIT)
                                            : ALIGN_UP(len, LENGTH_UNIT);
    } while (!atomic_compare_exchange_weak(&bs->total_bytes, &total, len));
    return len;
}

int64_t coroutine_fn bdrv_co_getlength(BlockDriverState *bs)
{
    /* Files may grow under us (another process, a shared disk); formats know their size. */
    if (bs->drv->protocol_name && !bs->drv->is_filter && bs->read_only) {
        return bdrv_co_refresh_length(bs);
    }
    return atomic_load(&bs->total_bytes);
}

int64_t coroutine_fn bdrv_co_get_allocated_size(BlockDriverState *bs)
{
    return bs->drv->co_get_allocated_size(bs);
}
