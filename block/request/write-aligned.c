/* SPDX-License-Identifier: MIT */
/* What all that changes a node goes through: permission and end of node, alignment by
 * read-modify-write, the limits, FUA by flush. */
#include "block/request/request.h"

#include <string.h>

#define BOUNCE_BYTES (1 * MiB)

int bdrv_check_write(BdrvChild *c, int64_t offset, int64_t bytes, unsigned flags)
{
    if (unlikely(bdrv_check_range(offset, bytes) < 0)) {
        return -EIO;
    }
    if (unlikely(!(c->perm & BLK_PERM_WRITE)) &&
        !((flags & BLK_REQ_WRITE_UNCHANGED) && (c->perm & BLK_PERM_WRITE_UNCHANGED))) {
        return -EPERM;
    }
    if (unlikely(offset + bytes >
                 atomic_load_explicit(&c->bs->total_bytes, memory_order_acquire)) &&
        !(c->perm & BLK_PERM_RESIZE)) {
        return -EIO;
    }
    return 0;
}

/* The node is at least that long; lengths of concurrent writes win. */
static void grow_to(BlockDriverState *bs, int64_t end)
{
    int64_t total = atomic_load(&bs->total_bytes);

    end = ALIGN_UP(end, LENGTH_UNIT);
    while (unlikely(end > total) && !atomic_compare_exchange_weak(&bs->total_bytes, &total, end)) {
    }
}

/* A write that failed may have written a part past the old end: that must not come to light only
 * when a later write moves the end. */
static void coroutine_fn grew_by_failure(BlockDriverState *bs, int64_t end)
{
    int64_t len;

    if (end <= atomic_load(&bs->total_bytes)) {
        return;
    }
    len = bs->drv->co_getlength(bs);
    grow_to(bs, len < 0 ? end : len);
}

void coroutine_fn bdrv_co_write_grew(BlockDriverState *bs, int64_t end, int ret)
{
    if (unlikely(ret < 0)) {
        grew_by_failure(bs, end);
    } else {
        grow_to(bs, end);
    }
}

int coroutine_fn bdrv_co_write_done(BlockDriverState *bs, int64_t end, int ret, bool fua)
{
    if (!atomic_load(&bs->unsynced)) {
        atomic_store(&bs->unsynced, true);
    }
    bdrv_co_write_grew(bs, end, ret);
    return ret < 0 ? ret : fua ? bdrv_co_flush(bs) : 0;
}

/* Aligned, in pieces of the limits. */
static int coroutine_fn write_split(BlockDriverState *bs, int64_t offset, IOVector *v,
                                    unsigned flags)
{
    const BlockLimits *l = &bs->limits;
    size_t max = l->max_transfer ? l->max_transfer : SIZE_MAX;
    size_t pos = 0;
    int ret = 0;

    if (v->size <= max && v->niov <= l->max_iov) {
        return bs->drv->co_pwritev(bs, offset, v, flags);
    }
    while (pos < v->size && ret >= 0) {
        IOVector part;
        size_t n = MIN(v->size - pos, max);

        ret = iov_init_slice(&part, v, pos, n);
        if (ret == 0 && part.niov > l->max_iov) {
            iov_clear(&part);
            max = MAX(ALIGN_DOWN(n / 2, (size_t)l->request_alignment), l->request_alignment);
            continue;
        }
        ret = ret < 0 ? ret : bs->drv->co_pwritev(bs, offset + pos, &part, flags);
        iov_clear(&part);
        pos += n;
    }
    return ret < 0 ? ret : 0;
}

int coroutine_fn bdrv_co_write_aligned(BlockDriverState *bs, int64_t offset, IOVector *v,
                                       unsigned flags)
{
    int ret;

    if (likely(!bs->debug_below)) {
        return write_split(bs, offset, v, flags);
    }
    bdrv_co_debug_event_bs(bs, BLKDBG_PWRITEV);
    ret = write_split(bs, offset, v, flags);
    bdrv_co_debug_event_bs(bs, BLKDBG_PWRITEV_DONE);
    return ret;
}

/* Fill @buf (the aligned block at @start) with what is there, zeroes past the end. */
static int coroutine_fn rmw_read(BlockDriverState *bs, int64_t start, uint8_t *buf, size_t len,
                                 BlkdebugEvent before, BlkdebugEvent after)
{
    IOVector v;
    int ret;

    bdrv_co_debug_event_bs(bs, before);
    iov_init_buf(&v, buf, len);
    ret = bdrv_co_read_untracked(bs, start, &v);
    if (ret == 0) {
        bdrv_co_debug_event_bs(bs, after);
    }
    return ret;
}

/* Where the write of a block that holds @end stops: at its edge, or at the end of the node where
 * that need not move to the edge. */
static int64_t stop_of(BlockDriverState *bs, int64_t end)
{
    int64_t edge = ALIGN_UP(end, (int64_t)bs->limits.request_alignment);

    return bs->limits.partial_end ? MIN(edge, MAX(end, atomic_load(&bs->total_bytes))) : edge;
}

/* One piece [offset, offset + n) of @v at @pos (NULL: zeroes) through @buf. */
static int coroutine_fn write_piece(BlockDriverState *bs, int64_t offset, size_t n,
                                    const IOVector *v, size_t pos, uint8_t *buf, unsigned flags)
{
    int64_t align = bs->limits.request_alignment;
    int64_t start = ALIGN_DOWN(offset, align), stop = stop_of(bs, offset + (int64_t)n);
    int64_t last = ALIGN_DOWN(stop - 1, align); /* its last block */
    bool head = offset > start, tail = offset + (int64_t)n < stop;
    IOVector b;
    int ret = 0;

    if (head) {
        ret =
            rmw_read(bs, start, buf, align, BLKDBG_PWRITEV_RMW_HEAD, BLKDBG_PWRITEV_RMW_AFTER_HEAD);
    }
    if (ret == 0 && tail && head && last == start) { /* read already */
        bdrv_co_debug_event_bs(bs, BLKDBG_PWRITEV_RMW_TAIL);
        bdrv_co_debug_event_bs(bs, BLKDBG_PWRITEV_RMW_AFTER_TAIL);
    } else if (ret == 0 && tail) {
        ret = rmw_read(bs, last, buf + (last - start), align, BLKDBG_PWRITEV_RMW_TAIL,
                       BLKDBG_PWRITEV_RMW_AFTER_TAIL);
    }
    if (ret < 0) {
        return ret;
    }
    if (v) {
        iov_to_buf(v, pos, buf + (offset - start), n);
    } else {
        memset(buf + (offset - start), 0, n);
    }
    iov_init_buf(&b, buf, stop - start);
    return bdrv_co_write_aligned(bs, start, &b, flags);
}

int coroutine_fn bdrv_co_write_bounce(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      const IOVector *v, unsigned flags)
{
    int64_t align = bs->limits.request_alignment, end = offset + bytes;
    size_t size = MIN(ALIGN_UP(end, align) - ALIGN_DOWN(offset, align), MAX(BOUNCE_BYTES, align));
    uint8_t *buf = bdrv_try_blockalign(bs, size);
    size_t pos = 0;
    int ret = 0;

    if (!buf) {
        return -ENOMEM;
    }
    while (offset < end && ret >= 0) {
        int64_t stop = ALIGN_DOWN(offset, align) + (int64_t)size;
        size_t n = MIN(end, stop) - offset;

        ret = write_piece(bs, offset, n, v, pos, buf, flags);
        pos += n;
        offset += n;
    }
    mem_align_free(buf);
    return ret < 0 ? ret : 0;
}
