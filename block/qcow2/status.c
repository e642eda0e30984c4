/* SPDX-License-Identifier: MIT */
/* Block status: what a run's kind means to others, exact to the subcluster. */
#include "callbacks.h"
#include "entry.h"
#include "map.h"
#include "raw-file.h"
#include "refcount.h"
#include "refcount-codec.h"

#include <errno.h>

/* Clusters in use of [*c, end), as far as one slice of refcounts tells; moves *c. */
static int64_t coroutine_fn co_count_used(Qcow2 *q, uint64_t *c, uint64_t end)
{
    uint64_t per = qcow2_refcount_slice_entries(&q->alloc), index = *c % per,
             n = MIN(per - index, end - *c);
    int64_t used = 0;
    MetaSlice *s;
    int ret;

    co_mutex_lock(&q->alloc.meta_lock);
    ret = qcow2_refcount_co_slice(&q->alloc, *c, &s, &index);
    if (ret == 0 && s) {
        for (uint64_t i = 0; i < n; i++) {
            used += qcow2_refcount_codec_get(q->geo.refcount_order, s->data, index + i) != 0;
        }
        qcow2_cache_put(q->alloc.ref_cache, s);
    }
    co_mutex_unlock(&q->alloc.meta_lock);
    *c += n;
    return ret < 0 ? ret : used;
}

/* Are clearly more clusters in use than the host gave the file space for: reserved, never
 * written? */
static bool coroutine_fn co_is_preallocated(Qcow2 *q)
{
    int64_t length = bdrv_co_getlength(q->file->bs);
    int64_t have = bdrv_co_get_allocated_size(q->file->bs), used = 0, n;
    uint64_t end, many;

    if (length < 0 || have < 0) {
        return false;
    }
    end = geo_clusters(&q->geo, (uint64_t)length);
    have >>= q->geo.cluster_bits;
    many = (uint64_t)MAX(have + have / 9, have + 2);
    if (end < many) {
        return false;
    }
    for (uint64_t c = 0; c < end && (uint64_t)used < many; used += n) {
        n = co_count_used(q, &c, end);
        if (n < 0) {
            return false;
        }
    }
    return (uint64_t)used >= many;
}

/* Looked for once: either answer is right for any image, they differ in cost and in detail. */
static bool coroutine_fn co_looks_preallocated(Qcow2 *q)
{
    int known = atomic_load_explicit(&q->preallocated, memory_order_relaxed);

    if (known == 0) {
        known = co_is_preallocated(q) ? 1 : -1;
        atomic_store_explicit(&q->preallocated, known, memory_order_relaxed);
    }
    return known > 0;
}

int coroutine_fn qcow2_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                       int64_t bytes, int64_t *pnum, int64_t *map,
                                       BlockDriverState **file)
{
    Qcow2 *q = bs->opaque;
    unsigned pin = qcow2_pin_enter(q->pin);
    int status = 0, ret;
    Extent x;

    ret = qcow2_map_co_find(q, (uint64_t)offset, (uint64_t)bytes, &x);
    qcow2_pin_leave(q->pin, pin);
    if (ret < 0) {
        return ret;
    }
    g_assert(x.bytes > 0 && x.bytes <= (uint64_t)bytes);
    *pnum = (int64_t)x.bytes;
    switch (x.kind) {
    case SC_NORMAL: /* a data file that is the disk knows its zeroes; no entry says them */
        status = BLK_DATA | BLK_OFFSET_VALID | BLK_ALLOCATED;
        if (want_zero && (qcow2_raw_file_is_disk(q) || co_looks_preallocated(q))) {
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
        return qcow2_entry_co_unreadable(q, x.entry, (uint64_t)offset);
    }
    if (!q->data || bs->encrypted) {
        status &= ~(BLK_OFFSET_VALID | BLK_RECURSE);
    }
    if (status & BLK_OFFSET_VALID) {
        *map = (int64_t)x.host;
        *file = q->data->bs;
    }
    return status;
}
