/* SPDX-License-Identifier: MIT */
/*
 * What a node shows of its backing file becomes its own.
 *
 * INV-COPYUP-1  Between the look for what is unallocated and the write of it no request changes
 *               the range (it is tracked and serialises): what a guest writes meanwhile is not
 *               replaced by what was read before.
 */
#include "block/request/request.h"

#define PIECE (1 * MiB)

typedef struct CopyUp {
    BlockDriverState *bs;
    BlockDriverState *base; /* from here on nothing is taken; NULL: all */
    uint8_t *buf;
} CopyUp;

/* 1: [offset, +*n) is the backing file's, 0: it is not; or -errno. */
static int coroutine_fn co_is_below(const CopyUp *c, int64_t offset, int64_t bytes, int64_t *n)
{
    int64_t map;
    BlockDriverState *file;
    int ret = bdrv_co_is_allocated(c->bs, offset, bytes, n);

    if (ret != 0 || !c->base) {
        return ret < 0 ? ret : !ret;
    }
    ret = bdrv_co_block_status_above(c->bs, c->base, offset, *n, n, &map, &file, NULL);
    return ret < 0 ? ret : !!(ret & BLK_ALLOCATED);
}

static int coroutine_fn co_write_same(const CopyUp *c, int64_t offset, int64_t bytes)
{
    BlockDriverState *bs = c->bs;
    unsigned flags = BLK_REQ_WRITE_UNCHANGED & bs->supported_write_flags;
    int64_t align = bs->limits.request_alignment;
    IOVector v;
    int ret = -ENOTSUP;

    if (buffer_is_zero(c->buf, (size_t)bytes)) {
        ret = bs->drv->co_pwrite_zeroes(bs, offset, bytes, 0);
    }
    if (ret != -ENOTSUP) {
        return ret;
    }
    iov_init_buf(&v, c->buf, (size_t)bytes);
    return IS_ALIGNED(offset | bytes, align) ? bdrv_co_write_aligned(bs, offset, &v, flags)
                                             : bdrv_co_write_bounce(bs, offset, bytes, &v, flags);
}

/* [start, end), which is tracked. */
static int coroutine_fn co_copy_tracked(const CopyUp *c, int64_t start, int64_t end)
{
    int ret = 0;

    for (int64_t at = start, n; at < end && ret >= 0; at += n) {
        IOVector v;

        ret = co_is_below(c, at, MIN(end - at, PIECE), &n);
        if (ret <= 0) {
            continue;
        }
        iov_init_buf(&v, c->buf, (size_t)n);
        ret = bdrv_co_read_untracked(c->bs, at, &v);
        ret = ret < 0 ? ret : co_write_same(c, at, n);
    }
    return ret < 0 ? ret : 0;
}

/* Is anything of it to be copied? */
static int coroutine_fn co_is_any_below(const CopyUp *c, int64_t start, int64_t end)
{
    int ret = 0;

    for (int64_t at = start, n; at < end && ret == 0; at += n) {
        ret = co_is_below(c, at, end - at, &n);
    }
    return ret;
}

static int64_t unit_of(BlockDriverState *bs)
{
    BlockDriverInfo info = { 0 };
    int64_t align = bs->limits.request_alignment;

    if (bs->drv->get_info(bs, &info) < 0) {
        return align;
    }
    return MAX(align, (int64_t)(info.subcluster_size ? info.subcluster_size : info.cluster_size));
}

int coroutine_fn bdrv_co_copy_up_node(BlockDriverState *bs, BlockDriverState *base, int64_t offset,
                                      int64_t bytes)
{
    CopyUp c = { .bs = bs, .base = base };
    int64_t unit = unit_of(bs), total = atomic_load(&bs->total_bytes);
    int64_t start = ALIGN_DOWN(offset, unit), end = MIN(ALIGN_UP(offset + bytes, unit), total);
    TrackedReq t;
    int ret = start < end ? co_is_any_below(&c, start, end) : 0;

    if (ret <= 0 || bs->read_only) {
        return ret < 0 ? ret : 0;
    }
    c.buf = bdrv_try_blockalign(bs, (size_t)MIN(end - start, PIECE));
    if (!c.buf) {
        return -ENOMEM;
    }
    bdrv_co_track_begin(bs, &t, start, ALIGN_UP(end, (int64_t)bs->limits.request_alignment), true);
    ret = co_copy_tracked(&c, start, end);
    bdrv_track_end(bs, &t);
    mem_align_free(c.buf);
    return bdrv_co_write_done(bs, end, ret, false);
}

int coroutine_fn bdrv_co_copy_up(BdrvChild *c, BlockDriverState *base, int64_t offset,
                                 int64_t bytes)
{
    return bdrv_check_range(offset, bytes) < 0 ? -EIO
                                               : bdrv_co_copy_up_node(c->bs, base, offset, bytes);
}
