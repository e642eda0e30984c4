/* SPDX-License-Identifier: MIT */
/* The gate of copies from one node to another: the source's driver may know a shorter way than
 * reading and writing. */
#include "block/request/request.h"

#define COPY_BUFFER (1 * MiB)

static int coroutine_fn read_and_write(BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                                       int64_t dst_offset, int64_t bytes, unsigned flags)
{
    size_t size = (size_t)MIN(bytes, COPY_BUFFER);
    uint8_t *buf = bdrv_try_blockalign(src->bs, size);
    int ret = 0;

    if (!buf) {
        return -ENOMEM;
    }
    for (int64_t at = 0; at < bytes && ret >= 0; at += (int64_t)size) {
        int64_t n = MIN(bytes - at, (int64_t)size);

        ret = bdrv_co_pread(src, src_offset + at, n, buf, 0);
        ret = ret < 0 ? ret : bdrv_co_pwrite(dst, dst_offset + at, n, buf, flags);
    }
    mem_align_free(buf);
    return ret < 0 ? ret : 0;
}

int coroutine_fn bdrv_co_copy_range(BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                                    int64_t dst_offset, int64_t bytes, unsigned flags)
{
    int64_t apart = ABS(src_offset - dst_offset);
    int ret = bdrv_check_range(src_offset, bytes);

    ret = ret < 0 ? ret : bdrv_check_write(dst, dst_offset, bytes, flags);
    if (ret < 0 || bytes == 0) {
        return ret;
    }
    if (src_offset + bytes > atomic_load(&src->bs->total_bytes)) {
        return -EIO;
    }
    if (src->bs == dst->bs && apart < bytes) {
        return -EINVAL;
    }
    ret = src->bs->drv->co_copy_range(src->bs, src_offset, dst, dst_offset, bytes, flags);
    return ret == -ENOTSUP ? read_and_write(src, src_offset, dst, dst_offset, bytes, flags) : ret;
}
