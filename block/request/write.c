/* SPDX-License-Identifier: MIT */
/* The gate of writes: tracking, zero detection, the guard of a guessed image's start. */
#include "block/request/request.h"

static int coroutine_fn write_tracked(BlockDriverState *bs, int64_t offset, IOVector *v,
                                      unsigned flags)
{
    const BlockLimits *l = &bs->limits;
    int64_t align = l->request_alignment, bytes = (int64_t)v->size;
    bool rmw = !IS_ALIGNED(offset | bytes, align);
    unsigned drv_flags = flags & bs->supported_write_flags;
    TrackedReq t;
    int ret;

    bdrv_co_track_begin(bs, &t, ALIGN_DOWN(offset, align), ALIGN_UP(offset + bytes, align),
                        rmw || (flags & BLK_REQ_SERIALISING));
    if (rmw || !iov_is_aligned(v, l->min_mem_alignment, l->request_alignment)) {
        ret = bdrv_co_write_bounce(bs, offset, bytes, v, drv_flags);
    } else {
        ret = bdrv_co_write_aligned(bs, offset, v, drv_flags);
    }
    bdrv_co_write_grew(bs, offset + bytes, ret); /* INV-TRACK-2 */
    bdrv_track_end(bs, &t);
    return ret;
}

static int coroutine_fn write_plain(BlockDriverState *bs, int64_t offset, IOVector *v,
                                    unsigned flags)
{
    int ret;

    if (likely(bs->limits.request_alignment <= 1 && !bs->tracked)) {
        ret = bdrv_co_write_aligned(bs, offset, v, flags & bs->supported_write_flags);
    } else {
        ret = write_tracked(bs, offset, v, flags);
    }
    return bdrv_co_write_done(bs, offset + (int64_t)v->size, ret,
                              flags & BLK_REQ_FUA & ~bs->supported_write_flags);
}

static int coroutine_fn write_unguarded(BdrvChild *c, int64_t offset, IOVector *v, unsigned flags)
{
    BlockDriverState *bs = c->bs;

    if (unlikely(bs->detect_zeroes) && iov_is_zero(v, 0, v->size)) {
        if (bs->detect_zeroes == BDRV_DETECT_ZEROES_UNMAP) {
            flags |= BLK_REQ_MAY_UNMAP;
        }
        return bdrv_co_zero_unguarded(c, offset, (int64_t)v->size, flags);
    }
    return write_plain(bs, offset, v, flags);
}

static int coroutine_fn write_guarded(BdrvChild *c, int64_t offset, IOVector *v, unsigned flags)
{
    size_t n = MIN(v->size, (size_t)(PROBE_BYTES - offset));
    StartGuard g;
    IOVector copy;
    int ret = bdrv_co_guard_begin(c, &g, offset, (int64_t)v->size, v);

    if (ret < 0) {
        return ret;
    }
    iov_init(&copy);
    ret = iov_add(&copy, g.head + offset, n); /* INV-GUARD-2 */
    ret = ret < 0 ? ret : iov_add_slice(&copy, v, n, v->size - n);
    ret = ret < 0 ? ret : write_unguarded(c, offset, &copy, flags);
    iov_clear(&copy);
    bdrv_co_guard_end(c);
    return ret;
}

int coroutine_fn bdrv_co_write_gate(BdrvChild *c, int64_t offset, IOVector *v, unsigned flags)
{
    int ret = bdrv_check_write(c, offset, (int64_t)v->size, flags);

    if (unlikely(ret < 0) || unlikely(v->size == 0)) {
        return ret;
    }
    return unlikely(c->guard) && offset < PROBE_BYTES ? write_guarded(c, offset, v, flags)
                                                      : write_unguarded(c, offset, v, flags);
}

int coroutine_fn bdrv_co_pwritev(BdrvChild *c, int64_t offset, IOVector *v, unsigned flags)
{
    return bdrv_co_write_gate(c, offset, v, flags);
}

int coroutine_fn bdrv_co_pwrite(BdrvChild *c, int64_t offset, int64_t bytes, const void *buf,
                                unsigned flags)
{
    IOVector v;

    if (bytes < 0) {
        return -EIO;
    }
    iov_init_buf(&v, (void *)(uintptr_t)buf, bytes);
    return bdrv_co_write_gate(c, offset, &v, flags);
}
