/* SPDX-License-Identifier: MIT */
/*
 * The gate of zero writes: cut at the driver's zero alignment, so that only the ends are partial;
 * a piece that the driver cannot do by flag is written as a buffer of zeroes.
 */
#include "block/request/request.h"

#include <string.h>

#define ZERO_BUFFER (1 * MiB)

/* Bytes of the next piece from @offset: up to an alignment edge, then whole units, then the
 * rest. */
static int64_t piece(const BlockLimits *l, int64_t offset, int64_t bytes)
{
    int64_t align = MAX(l->pwrite_zeroes_alignment, l->request_alignment);
    int64_t max = l->max_pwrite_zeroes ? l->max_pwrite_zeroes : INT64_MAX;
    int64_t off_in = offset % align, n;

    max = MAX(max / align * align, align);
    if (off_in) {
        return MIN(bytes, align - off_in);
    }
    n = MIN(bytes, max);
    return n > align ? n / align * align : n;
}

static int coroutine_fn write_zero_buffer(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                          unsigned flags)
{
    int64_t align = bs->limits.request_alignment;
    int64_t max = bs->limits.max_transfer ? MIN(ZERO_BUFFER, bs->limits.max_transfer) : ZERO_BUFFER;
    size_t size = MIN(bytes, MAX(ALIGN_DOWN(max, align), align)); /* align may exceed the buffer */
    uint8_t *buf = bdrv_try_blockalign(bs, size);
    int ret = 0;

    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, size);
    while (bytes > 0 && ret >= 0) {
        IOVector v;
        int64_t n = MIN(bytes, (int64_t)size);

        iov_init_buf(&v, buf, n);
        ret = bs->drv->co_pwritev(bs, offset, &v, flags & bs->supported_write_flags);
        offset += n;
        bytes -= n;
    }
    mem_align_free(buf);
    return ret < 0 ? ret : 0;
}

/* Aligned to request_alignment. */
static int coroutine_fn zero_aligned(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                     unsigned flags)
{
    int ret = 0;

    if (unlikely(bs->debug_below)) {
        bdrv_co_debug_event_bs(bs, BLKDBG_PWRITEV_ZERO);
    }
    while (bytes > 0 && ret >= 0) {
        int64_t n = piece(&bs->limits, offset, bytes);

        ret = bs->drv->co_pwrite_zeroes(
            bs, offset, n,
            flags & (bs->supported_zero_flags | BLK_REQ_MAY_UNMAP | BLK_REQ_NO_FALLBACK));
        if (ret == -ENOTSUP && !(flags & BLK_REQ_NO_FALLBACK)) {
            ret = write_zero_buffer(bs, offset, n, flags);
        }
        offset += n;
        bytes -= n;
    }
    if (unlikely(bs->debug_below)) {
        bdrv_co_debug_event_bs(bs, BLKDBG_PWRITEV_DONE);
    }
    return ret < 0 ? ret : 0;
}

static int coroutine_fn zero_unaligned(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       unsigned flags)
{
    int64_t align = bs->limits.request_alignment, end = offset + bytes;
    int64_t head_end = MIN(ALIGN_UP(offset, align), end);
    int64_t tail = MAX(ALIGN_DOWN(end, align), head_end);
    TrackedReq t;
    int ret = 0;

    if ((flags & BLK_REQ_NO_FALLBACK) && !IS_ALIGNED(offset | bytes, align)) {
        return -ENOTSUP;
    }
    bdrv_co_track_begin(bs, &t, ALIGN_DOWN(offset, align), ALIGN_UP(end, align),
                        !IS_ALIGNED(offset | bytes, align) || (flags & BLK_REQ_SERIALISING));
    if (head_end > offset) {
        ret = bdrv_co_write_bounce(bs, offset, head_end - offset, NULL, 0);
    }
    if (ret == 0 && tail > head_end) {
        ret = zero_aligned(bs, head_end, tail - head_end, flags);
    }
    if (ret == 0 && end > tail) {
        ret = bdrv_co_write_bounce(bs, tail, end - tail, NULL, 0);
    }
    bdrv_co_write_grew(bs, end, ret); /* INV-TRACK-2 */
    bdrv_track_end(bs, &t);
    return ret;
}

int coroutine_fn bdrv_co_zero_unguarded(BdrvChild *c, int64_t offset, int64_t bytes, unsigned flags)
{
    BlockDriverState *bs = c->bs;
    int ret;

    if (!(bs->open_flags & BLK_O_UNMAP)) {
        flags &= ~BLK_REQ_MAY_UNMAP;
    }
    if (likely(bs->limits.request_alignment <= 1 && !bs->tracked)) {
        ret = zero_aligned(bs, offset, bytes, flags);
    } else {
        ret = zero_unaligned(bs, offset, bytes, flags);
    }
    return bdrv_co_write_done(bs, offset + bytes, ret,
                              (flags & BLK_REQ_FUA) && !(bs->supported_zero_flags &
                                                         bs->supported_write_flags & BLK_REQ_FUA));
}

int coroutine_fn bdrv_co_pwrite_zeroes(BdrvChild *c, int64_t offset, int64_t bytes, unsigned flags)
{
    int ret = bdrv_check_write(c, offset, bytes, flags);
    StartGuard g;

    if (ret < 0 || bytes == 0) {
        return ret;
    }
    if (likely(!c->guard) || offset >= PROBE_BYTES) {
        return bdrv_co_zero_unguarded(c, offset, bytes, flags);
    }
    ret = bdrv_co_guard_begin(c, &g, offset, bytes, NULL);
    if (ret == 0) {
        ret = bdrv_co_zero_unguarded(c, offset, bytes, flags);
        bdrv_co_guard_end(c);
    }
    return ret;
}
