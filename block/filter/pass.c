/* SPDX-License-Identifier: MIT */
/*
 * pass: a filter that changes nothing, the example of docs/writing-a-driver.md. What it does not
 * mention (length, resize, status, flush, debug events) the core passes on for any filter.
 */
#include "block/io.h"

#include <errno.h>

static int coroutine_fn pass_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    bs->file = bdrv_co_open_child(NULL, o, "file", bs, flags, BDRV_ROLE_FILE, false, errp);
    if (!bs->file) {
        return -EINVAL;
    }
    bs->supported_write_flags = bs->file->bs->supported_write_flags;
    bs->supported_zero_flags = bs->file->bs->supported_zero_flags;
    bs->supported_truncate_flags = bs->file->bs->supported_truncate_flags;
    return 0;
}

static int coroutine_fn pass_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                       unsigned flags)
{
    return bdrv_co_preadv(bs->file, offset, v, flags);
}

static int coroutine_fn pass_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                        unsigned flags)
{
    return bdrv_co_pwritev(bs->file, offset, v, flags);
}

static int coroutine_fn pass_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              unsigned flags)
{
    return bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int coroutine_fn pass_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return bdrv_co_pdiscard(bs->file, offset, bytes);
}

const BlockDriver bdrv_pass = {
    .format_name = "pass",
    .is_filter = true,
    .co_open = pass_co_open,
    .co_preadv = pass_co_preadv,
    .co_pwritev = pass_co_pwritev,
    .co_pwrite_zeroes = pass_co_pwrite_zeroes,
    .co_pdiscard = pass_co_pdiscard,
};
