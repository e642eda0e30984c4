/* SPDX-License-Identifier: MIT */
/*
 * The state of a virtual machine: bytes past the disk, from the first L1 entry on that the disk
 * has no use for. They are written and read as the guest's are.
 */
#include "callbacks.h"
#include "change.h"
#include "l1.h"
#include "write.h"

#include <errno.h>

/* Encrypted images are read and written by whole sectors: those that @v from byte @at on
 * touches. */
static int coroutine_fn co_sectors(Qcow2 *q, uint64_t at, IOVector *v, bool save)
{
    uint64_t start = ALIGN_DOWN(at, (uint64_t)CRYPT_VOLUME_SECTOR);
    uint64_t end = ALIGN_UP(at + v->size, (uint64_t)CRYPT_VOLUME_SECTOR);
    g_autofree uint8_t *buf = g_try_malloc(end - start);
    IOVector whole;
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    iov_init_buf(&whole, buf, end - start);
    ret = qcow2_co_preadv(q->bs, (int64_t)start, &whole, 0);
    if (ret < 0) {
        return ret;
    }
    if (!save) {
        iov_from_buf(v, 0, buf + (at - start), v->size);
        return 0;
    }
    iov_to_buf(v, 0, buf + (at - start), v->size);
    return qcow2_write_co_guest(q, start, &whole, 0);
}

static bool is_apart(const Qcow2 *q, uint64_t at, size_t bytes)
{
    return q->crypt && !IS_ALIGNED(at | bytes, (uint64_t)CRYPT_VOLUME_SECTOR);
}

int coroutine_fn qcow2_co_vmstate(BlockDriverState *bs, int64_t pos, IOVector *v, bool save)
{
    Qcow2 *q = bs->opaque;
    uint64_t start = geo_state_start(&q->geo, q->hdr.size), end;
    int ret;

    g_assert(pos >= 0 && v->size <= INT64_MAX); /* the gate has looked */
    if (q->geo.external_data) {
        return -ENOTSUP; /* the disk's file ends where the disk does */
    }
    if ((uint64_t)pos > INT64_MAX - start || v->size > INT64_MAX - start - (uint64_t)pos) {
        return -EIO;
    }
    end = start + (uint64_t)pos + v->size;
    if (!save) {
        bdrv_co_debug_event(q->file, BLKDBG_VMSTATE_LOAD);
        return is_apart(q, start + (uint64_t)pos, v->size)
                   ? co_sectors(q, start + (uint64_t)pos, v, false)
                   : qcow2_co_preadv(bs, (int64_t)(start + (uint64_t)pos), v, 0);
    }
    ret = qcow2_health_may_write(&q->health);
    bdrv_co_debug_event(q->file, BLKDBG_VMSTATE_SAVE);
    ret = ret < 0 ? ret : qcow2_change_co_begin(q, QCOW2_CHANGE_IMAGE); /* not of the disk */
    ret = ret < 0 ? ret : qcow2_l1_co_grow(q, geo_l1_entries(&q->geo, end));
    if (ret < 0) {
        return ret;
    }
    return is_apart(q, start + (uint64_t)pos, v->size)
               ? co_sectors(q, start + (uint64_t)pos, v, true)
               : qcow2_write_co_guest(q, start + (uint64_t)pos, v, 0);
}
