/* SPDX-License-Identifier: MIT */
/* The dirty bit: refcounts on disk may be too low or too high, and are rebuilt before a writer starts. */
#include "check.h"
#include "qcow2.h"

#include <errno.h>

static int coroutine_fn co_set_bit(Qcow2 *q, bool on)
{
    uint64_t old = q->hdr.incompatible;
    int ret;

    ret = bdrv_co_flush(q->file->bs); /* what the bit speaks of is on disk first */
    if (ret < 0) {
        return ret;
    }
    q->hdr.incompatible = on ? old | QCOW2_INCOMPAT_DIRTY : old & ~QCOW2_INCOMPAT_DIRTY;
    ret = qcow2_co_header_write(q->file, &q->hdr);
    ret = ret < 0 ? ret : bdrv_co_flush(q->file->bs);
    if (ret < 0) {
        q->hdr.incompatible = old;
    }
    return ret;
}

int coroutine_fn qcow2_co_mark_dirty(Qcow2 *q)
{
    return co_set_bit(q, true);
}

int coroutine_fn qcow2_co_mark_clean(Qcow2 *q)
{
    return co_set_bit(q, false);
}
