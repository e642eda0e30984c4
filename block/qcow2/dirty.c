/* SPDX-License-Identifier: MIT */
/* The dirty bit: refcounts on disk may be too low or too high, and are rebuilt before a writer
 * starts. */
#include "qcow2.h"
#include "rules.h"

#include <errno.h>

/* The bit alone, or with the place of the refcount table (rebuilt), in one write within a sector.
 * With feature_lock: whoever marks the image corrupt meanwhile comes before or after, and neither
 * bit is lost. */
static int coroutine_fn co_write_bit(Qcow2 *q, bool on, bool rebuilt)
{
    uint64_t old = q->hdr.incompatible;
    int ret;

    if (atomic_load(&q->corrupt)) {
        return -EIO;
    }
    q->hdr.incompatible = on ? old | QCOW2_INCOMPAT_DIRTY : old & ~QCOW2_INCOMPAT_DIRTY;
    ret = qcow2_co_header_write_fields(q->file, &q->hdr,
                                       rebuilt ? QCOW2_FIELD_REFTABLE : QCOW2_FIELD_INCOMPATIBLE,
                                       QCOW2_FIELD_COMPATIBLE);
    ret = ret < 0 ? ret : qcow2_co_sync_file(q);
    if (ret < 0) { /* on disk it may be set: then the next open rebuilds counts that are right */
        q->hdr.incompatible = old;
    }
    return ret;
}

static int coroutine_fn co_set_bit(Qcow2 *q, bool on, bool rebuilt)
{
    int ret;

    /* What the bit speaks of is on disk first. */
    ret = RULE_BROKEN(REBUILT_BEFORE_SWITCH) ? 0 : qcow2_co_sync_file(q);
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&q->feature_lock);
    ret = co_write_bit(q, on, rebuilt);
    co_mutex_unlock(&q->feature_lock);
    return ret;
}

int coroutine_fn qcow2_co_mark_dirty(Qcow2 *q)
{
    return RULE_BROKEN(DIRTY_BEFORE_LAZY) ? 0 : co_set_bit(q, true, false);
}

int coroutine_fn qcow2_co_mark_clean(Qcow2 *q)
{
    return co_set_bit(q, false, false);
}

int coroutine_fn qcow2_co_switch_rebuilt(Qcow2 *q)
{
    return co_set_bit(q, false, true);
}
