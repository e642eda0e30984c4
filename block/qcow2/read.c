/* SPDX-License-Identifier: MIT */
/*
 * Guest reads.  Pinned from before the first look-up to after the last I/O.  A request that is one
 * run of data goes to the file with the caller's own vector: no allocation on that path.
 */
#include "compress.h"

#include <errno.h>

/* The part of @v that @x covers, from @backing, which may be shorter than the image. */
static int coroutine_fn co_read_backing(Qcow2 *q, uint64_t guest, IOVector *v)
{
    BdrvChild *backing = q->bs->backing;
    int64_t length = backing ? atomic_load(&backing->bs->total_bytes) : 0;
    uint64_t have = (int64_t)guest < length ? MIN((uint64_t)length - guest, v->size) : 0;
    IOVector part;
    int ret;

    if (have < v->size) {
        iov_memset(v, have, 0, v->size - have);
    }
    if (have == 0) {
        return 0;
    }
    bdrv_co_debug_event(q->file, BLKDBG_READ_BACKING_AIO);
    if (have == v->size) {
        return bdrv_co_preadv(backing, (int64_t)guest, v, 0);
    }
    ret = iov_init_slice(&part, v, 0, have);
    ret = ret < 0 ? ret : bdrv_co_preadv(backing, (int64_t)guest, &part, 0);
    iov_clear(&part);
    return ret;
}

/* @v is exactly the extent's length. */
static int coroutine_fn co_read_extent(Qcow2 *q, const Extent *x, uint64_t guest, IOVector *v)
{
    switch (x->kind) {
    case SC_NORMAL:
        if (unlikely(!q->data)) { /* BLK_O_NO_IO */
            return -EIO;
        }
        bdrv_co_debug_event(q->file, BLKDBG_READ_AIO);
        return bdrv_co_preadv(q->data, (int64_t)x->host, v, 0);
    case SC_ZERO_PLAIN:
    case SC_ZERO_ALLOC:
        iov_memset(v, 0, 0, v->size);
        return 0;
    case SC_UNALLOCATED_PLAIN:
    case SC_UNALLOCATED_ALLOC:
        return co_read_backing(q, guest, v);
    case SC_COMPRESSED:
        return qcow2_co_read_from_compressed(q, x->entry, geo_in_cluster(&q->geo, guest), v, 0,
                                             v->size);
    case SC_INVALID:
        break;
    }
    return -EIO;
}

int coroutine_fn qcow2_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v, unsigned flags)
{
    Qcow2 *q = bs->opaque;
    unsigned pin = qcow2_pin_enter(q);
    size_t done = 0;
    int ret = 0;

    while (done < v->size && ret == 0) {
        uint64_t guest = (uint64_t)offset + done;
        IOVector part;
        Extent x;

        ret = qcow2_co_map(q, guest, v->size - done, &x);
        if (unlikely(ret < 0)) {
            break;
        }
        if (likely(x.bytes == v->size)) {
            ret = co_read_extent(q, &x, guest, v);
            break;
        }
        ret = iov_init_slice(&part, v, done, x.bytes);
        ret = ret < 0 ? ret : co_read_extent(q, &x, guest, &part);
        iov_clear(&part);
        done += x.bytes;
    }
    qcow2_pin_leave(q, pin);
    return ret;
}
