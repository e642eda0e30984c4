/* SPDX-License-Identifier: MIT */
/*
 * dummy: the smallest protocol there can be, a disk of 64 KiB in memory. It is built as a module,
 * which test-driver.c loads: it needs no line anywhere else in the tree.
 */
#include "dummy-driver.h"

#include <string.h>

#define DISK (64 * 1024)

static int coroutine_fn dummy_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    memset(bs->opaque, 0xd5, DISK);
    return 0;
}

static int64_t coroutine_fn dummy_co_getlength(BlockDriverState *bs)
{
    return DISK;
}

static int coroutine_fn dummy_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                        unsigned flags)
{
    iov_from_buf(v, 0, (uint8_t *)bs->opaque + offset, v->size);
    return 0;
}

static int coroutine_fn dummy_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                         unsigned flags)
{
    iov_to_buf(v, 0, (uint8_t *)bs->opaque + offset, v->size);
    return 0;
}

const BlockDriver dummy_driver = {
    BLOCK_DRIVER_TABLE,
    .format_name = "dummy",
    .protocol_name = "dummy",
    .instance_size = DISK,
    .co_open = dummy_co_open,
    .co_preadv = dummy_co_preadv,
    .co_pwritev = dummy_co_pwritev,
    .co_getlength = dummy_co_getlength,
};
