/* SPDX-License-Identifier: MIT */
/* The gate of reads.  What needs nothing (aligned, within the node and its limits) goes straight
 * to the driver. */
#include "block/request/request.h"

static int coroutine_fn read_tracked(BlockDriverState *bs, int64_t offset, IOVector *v,
                                     unsigned flags)
{
    int64_t align = bs->limits.request_alignment;
    TrackedReq t;
    int ret;

    if (atomic_load(&bs->core->copies_up)) {
        ret = bdrv_co_copy_up_node(bs, NULL, offset, (int64_t)v->size);
        if (ret < 0) {
            return ret;
        }
    }
    bdrv_co_track_begin(bs, &t, ALIGN_DOWN(offset, align),
                        ALIGN_UP(offset + (int64_t)v->size, align), flags & BLK_REQ_SERIALISING);
    ret = bdrv_co_read_untracked(bs, offset, v);
    bdrv_track_end(bs, &t);
    return ret;
}

int coroutine_fn bdrv_co_read_gate(BlockDriverState *bs, int64_t offset, IOVector *v,
                                   unsigned flags)
{
    const BlockLimits *l = &bs->limits;
    int64_t bytes = (int64_t)v->size;

    if (unlikely(bdrv_check_range(offset, bytes) < 0)) {
        return -EIO;
    }
    if (likely(l->request_alignment <= 1 && !bs->tracked && !l->max_transfer &&
               v->niov <= l->max_iov && bytes > 0 &&
               offset + bytes <= atomic_load_explicit(&bs->total_bytes, memory_order_acquire))) {
        return bs->drv->co_preadv(bs, offset, v, flags);
    }
    return !bytes        ? 0
           : bs->tracked ? read_tracked(bs, offset, v, flags)
                         : bdrv_co_read_untracked(bs, offset, v);
}

int coroutine_fn bdrv_co_preadv(BdrvChild *c, int64_t offset, IOVector *v, unsigned flags)
{
    return bdrv_co_read_gate(c->bs, offset, v, flags);
}

int coroutine_fn bdrv_co_pread(BdrvChild *c, int64_t offset, int64_t bytes, void *buf,
                               unsigned flags)
{
    IOVector v;

    if (bytes < 0) {
        return -EIO;
    }
    iov_init_buf(&v, buf, bytes);
    return bdrv_co_read_gate(c->bs, offset, &v, flags);
}
