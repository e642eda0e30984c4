/* SPDX-License-Identifier: MIT */
/* pass: a filter that changes nothing, the example of docs/writing-a-driver.md. All that it does
 * not mention the core passes on to its file. */
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

const BlockDriver bdrv_pass = {
    BLOCK_DRIVER_TABLE,
    .format_name = "pass",
    .is_filter = true,
    .co_open = pass_co_open,
};
