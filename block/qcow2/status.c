/* SPDX-License-Identifier: MIT */
/* Block status: what a run's kind means to others, exact to the subcluster. */
#include "qcow2.h"

#include <errno.h>

/* Does the file have much fewer blocks than its length says: clusters that were reserved, never written? */
static bool coroutine_fn co_looks_preallocated(Qcow2 *q)
{
    int64_t length, have;

    if (q->geo.external_data) { /* it is as long as the disk from the first, and says nothing by that */
        return false;
    }
    length = bdrv_co_getlength(q->data->bs);
    have = bdrv_co_get_allocated_size(q->data->bs);
    if (length < 0 || have < 0) {
        return false;
    }
    return have < length - MAX(length / 10, 2 * (int64_t)q->geo.cluster_size);
}

int coroutine_fn qcow2_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                       int64_t bytes, int64_t *pnum, int64_t *map,
                                       BlockDriverState **file)
{
    Qcow2 *q = bs->opaque;
    unsigned pin = qcow2_pin_enter(q);
    int status = 0, ret;
    Extent x;

    ret = qcow2_co_map(q, (uint64_t)offset, (uint64_t)bytes, &x);
    qcow2_pin_leave(q, pin);
    if (ret < 0) {
        return ret;
    }
    *pnum = (int64_t)x.bytes;
    switch (x.kind) {
    case SC_NORMAL:
        status = BLK_DATA | BLK_OFFSET_VALID | BLK_ALLOCATED;
        if (want_zero && co_looks_preallocated(q)) {
            status |= BLK_RECURSE;
        }
        break;
    case SC_ZERO_ALLOC:
        status = BLK_ZERO | BLK_OFFSET_VALID | BLK_ALLOCATED;
        break;
    case SC_ZERO_PLAIN:
        status = BLK_ZERO | BLK_ALLOCATED;
        break;
    case SC_COMPRESSED:
        status = BLK_DATA | BLK_COMPRESSED | BLK_ALLOCATED;
        break;
    case SC_UNALLOCATED_ALLOC:
        status = BLK_OFFSET_VALID;
        break;
    case SC_UNALLOCATED_PLAIN:
        break;
    case SC_INVALID:
        return -EIO;
    }
    if (status & BLK_OFFSET_VALID) {
        *map = (int64_t)x.host;
        *file = q->data->bs;
    }
    return status;
}
