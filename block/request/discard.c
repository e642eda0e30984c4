/* SPDX-License-Identifier: MIT */
/* The gate of discards: a hint, so what is not aligned or not supported is left as it is. */
#include "block/request/request.h"

static int coroutine_fn discard_range(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    const BlockLimits *l = &bs->limits;
    int64_t unit = MAX(MAX(l->pdiscard_alignment, l->request_alignment), 1);
    int64_t max = l->max_pdiscard ? MAX(l->max_pdiscard / unit * unit, unit) : INT64_MAX;
    int ret = 0;

    while (bytes > 0 && ret >= 0) {
        int64_t n = MIN(bytes, max);

        if (offset % unit) { /* the next pieces begin at an edge */
            n = MIN(n, unit - offset % unit);
        }
        ret = bs->drv->co_pdiscard(bs, offset, n);
        ret = ret == -ENOTSUP ? 0 : ret;
        offset += n;
        bytes -= n;
    }
    return ret < 0 ? ret : 0;
}

/* [offset, end) is within the node. */
static int coroutine_fn discard_unguarded(BlockDriverState *bs, int64_t offset, int64_t end)
{
    int64_t align = bs->limits.request_alignment;
    TrackedReq t;
    int ret;

    if (align <= 1 && !bs->tracked) {
        return bdrv_co_write_done(bs, 0, discard_range(bs, offset, end - offset), false);
    }
    offset = ALIGN_UP(offset, align);
    end = end == atomic_load(&bs->total_bytes) ? end : ALIGN_DOWN(end, align);
    if (offset >= end) {
        return 0;
    }
    bdrv_co_track_begin(bs, &t, offset, end, false);
    ret = discard_range(bs, offset, end - offset);
    bdrv_track_end(bs, &t);
    return bdrv_co_write_done(bs, 0, ret, false);
}

int coroutine_fn bdrv_co_pdiscard(BdrvChild *c, int64_t offset, int64_t bytes)
{
    BlockDriverState *bs = c->bs;
    int64_t total = atomic_load(&bs->total_bytes), end;
    int ret = bdrv_check_range(offset, bytes);
    StartGuard g;

    if (ret < 0) {
        return ret;
    }
    if (!(c->perm & BLK_PERM_WRITE)) {
        return -EPERM;
    }
    if (!(bs->open_flags & BLK_O_UNMAP) || bytes == 0 || offset >= total) {
        return 0;
    }
    end = MIN(offset + bytes, total);
    if (likely(!c->guard) || offset >= PROBE_BYTES) {
        return discard_unguarded(bs, offset, end);
    }
    ret = bdrv_co_guard_begin(c, &g, offset, end - offset, NULL); /* or it stays as it is */
    if (ret == 0) {
        ret = discard_unguarded(bs, offset, end);
        bdrv_co_guard_end(c);
    }
    return ret;
}
