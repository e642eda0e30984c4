/* SPDX-License-Identifier: MIT */
/* Tables as bytes of the file: see table.h. */
#include "table.h"

#include <string.h>

int coroutine_fn qcow2_table_co_read(BdrvChild *file, uint64_t offset, uint64_t bytes, void *buf)
{
    int64_t end = bdrv_co_getlength(file->bs);
    uint64_t n;

    if (end < 0) {
        return (int)end;
    }
    n = offset < (uint64_t)end ? MIN(bytes, (uint64_t)end - offset) : 0;
    memset((uint8_t *)buf + n, 0, bytes - n);
    return n ? bdrv_co_pread(file, (int64_t)offset, (int64_t)n, buf, 0) : 0;
}

int coroutine_fn qcow2_table_co_secure(BdrvChild *file, uint64_t offset, uint64_t bytes)
{
    g_assert(offset > 0 && bytes > 0);
    return bdrv_co_pwrite_zeroes(file, (int64_t)offset, (int64_t)bytes, 0);
}
