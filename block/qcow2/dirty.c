/* SPDX-License-Identifier: MIT */
/* The dirty bit: see dirty.h. */
#include "dirty.h"

#include "header-layout.h"
#include "rules.h"

#include <errno.h>

/* The bit alone, or with the place of the refcount table (rebuilt), in one write within a sector.
 * Whoever marks the image corrupt meanwhile comes before or after: neither bit is lost. */
static int coroutine_fn co_write_bit(Qcow2 *q, bool on, bool rebuilt) REQUIRES_LOCK(q->header.lock)
{
    uint64_t old = q->hdr.incompatible;
    int ret;

    g_assert(q->hdr.version >= 3 || rebuilt);
    if (atomic_load(&q->health.corrupt)) {
        return -EIO;
    }
    if (q->hdr.version >= 3) { /* (version 2 has other things in its place) */
        q->hdr.incompatible = on ? old | QCOW2_INCOMPAT_DIRTY : old & ~QCOW2_INCOMPAT_DIRTY;
    }
    ret = qcow2_header_co_write_fields_locked(
        &q->header, &q->hdr, rebuilt ? HEADER_AT(reftable_offset) : HEADER_AT(incompatible),
        q->hdr.version >= 3 ? HEADER_AT(compatible) : HEADER_AT(incompatible));
    ret = ret < 0 ? ret : qcow2_health_co_sync(&q->health, q->file->bs);
    if (ret < 0) { /* on disk it may be set: then the next open rebuilds counts that are right */
        q->hdr.incompatible = old;
    }
    return ret;
}

static int coroutine_fn co_set_bit(Qcow2 *q, bool on, bool rebuilt)
{
    int ret;

    /* What the bit speaks of is on disk first. */
    ret = RULE_BROKEN(REBUILT_BEFORE_SWITCH) ? 0 : qcow2_health_co_sync(&q->health, q->file->bs);
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&q->header.lock);
    ret = co_write_bit(q, on, rebuilt);
    co_mutex_unlock(&q->header.lock);
    return ret;
}

int coroutine_fn qcow2_dirty_co_set(Qcow2 *q)
{
    return RULE_BROKEN(DIRTY_BEFORE_LAZY) ? 0 : co_set_bit(q, true, false);
}

int coroutine_fn qcow2_dirty_co_clear(Qcow2 *q)
{
    return co_set_bit(q, false, false);
}

static int coroutine_fn co_write_repaired(Qcow2 *q) REQUIRES_LOCK(q->header.lock)
{
    bool bits = q->hdr.version >= 3;
    uint64_t old = q->hdr.incompatible;
    int ret;

    if (bits) {
        q->hdr.incompatible &= ~QCOW2_INCOMPAT_DIRTY;
    }
    ret =
        qcow2_header_co_write_fields_locked(&q->header, &q->hdr, HEADER_AT(reftable_offset),
                                            bits ? HEADER_AT(compatible) : HEADER_AT(nb_snapshots));
    ret = ret < 0 ? ret : qcow2_health_co_sync(&q->health, q->file->bs);
    if (ret < 0) {
        q->hdr.incompatible = old;
    }
    return ret;
}

int coroutine_fn qcow2_dirty_co_switch_repaired(Qcow2 *q)
{
    int ret =
        RULE_BROKEN(REBUILT_BEFORE_SWITCH) ? 0 : qcow2_health_co_sync(&q->health, q->file->bs);

    if (ret == 0) {
        co_mutex_lock(&q->header.lock);
        ret = co_write_repaired(q);
        co_mutex_unlock(&q->header.lock);
    }
    return ret;
}

int coroutine_fn qcow2_dirty_co_switch_rebuilt(Qcow2 *q)
{
    return co_set_bit(q, false, true);
}
