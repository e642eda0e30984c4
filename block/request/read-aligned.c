/* SPDX-License-Identifier: MIT */
/* Reads as a node takes them: split to its limits, padded at its end, or bounced to its
 * alignment. */
#include "block/request/request.h"

#define BOUNCE_BYTES (1 * MiB)

int bdrv_check_range(int64_t offset, int64_t bytes)
{
    return offset < 0 || bytes < 0 || offset > INT64_MAX - LENGTH_UNIT - bytes ? -EIO : 0;
}

/* [offset, offset + bytes) of v at @pos, aligned: in pieces of the limits. */
static int coroutine_fn read_split(BlockDriverState *bs, int64_t offset, IOVector *v, size_t pos,
                                   size_t bytes)
{
    const BlockLimits *l = &bs->limits;
    size_t max = l->max_transfer ? l->max_transfer : SIZE_MAX;
    int ret = 0;

    if (pos == 0 && bytes == v->size && bytes <= max && v->niov <= l->max_iov) {
        return bs->drv->co_preadv(bs, offset, v, 0);
    }
    while (bytes > 0 && ret >= 0) {
        IOVector part;
        size_t n = MIN(bytes, max);

        ret = iov_init_slice(&part, v, pos, n);
        if (ret == 0 && part.niov > l->max_iov) {
            iov_clear(&part);
            n = MAX(ALIGN_DOWN(n / 2, (size_t)l->request_alignment), l->request_alignment);
            max = n;
            continue;
        }
        ret = ret < 0 ? ret : bs->drv->co_preadv(bs, offset, &part, 0);
        iov_clear(&part);
        offset += n;
        pos += n;
        bytes -= n;
    }
    return ret < 0 ? ret : 0;
}

/* Through a buffer: the range or the memory is not aligned. */
static int coroutine_fn read_bounce(BlockDriverState *bs, int64_t offset, IOVector *v, size_t bytes)
{
    uint32_t align = bs->limits.request_alignment;
    int64_t end = offset + bytes;
    size_t size = MIN(ALIGN_UP(end, (int64_t)align) - ALIGN_DOWN(offset, (int64_t)align),
                      MAX(BOUNCE_BYTES, (int64_t)align));
    uint8_t *buf = bdrv_try_blockalign(bs, size);
    size_t pos = 0;
    int ret = 0;

    if (!buf) {
        return -ENOMEM;
    }
    while (offset < end && ret >= 0) {
        int64_t start = ALIGN_DOWN(offset, (int64_t)align);
        int64_t stop = MIN(ALIGN_UP(end, (int64_t)align), start + (int64_t)size);
        size_t n = MIN(end, stop) - offset;
        IOVector b;

        iov_init_buf(&b, buf, stop - start);
        ret = read_split(bs, start, &b, 0, b.size);
        if (ret >= 0) {
            iov_from_buf(v, pos, buf + (offset - start), n);
        }
        pos += n;
        offset += n;
    }
    mem_align_free(buf);
    return ret < 0 ? ret : 0;
}

int coroutine_fn bdrv_co_read_untracked(BlockDriverState *bs, int64_t offset, IOVector *v)
{
    const BlockLimits *l = &bs->limits;
    int64_t total = atomic_load(&bs->total_bytes);
    size_t have = offset >= total ? 0 : MIN((int64_t)v->size, total - offset);
    int ret = 0;

    if (have == 0) {
        ret = 0;
    } else if (l->request_alignment > 1 &&
               (!IS_ALIGNED(offset | (int64_t)have, (int64_t)l->request_alignment) ||
                !iov_is_aligned(v, l->min_mem_alignment, l->request_alignment))) {
        ret = read_bounce(bs, offset, v, have);
    } else {
        ret = read_split(bs, offset, v, 0, have);
    }
    if (ret == 0 && have < v->size) {
        iov_memset(v, have, 0, v->size - have);
    }
    return ret;
}
