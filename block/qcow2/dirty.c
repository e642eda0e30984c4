/* SPDX-License-Identifier: MIT */
/* The dirty bit: see dirty.h. */
#include "dirty.h"

#include "header-layout.h"
#include "rules.h"

#include <errno.h>

typedef enum DirtyChange {
    DIRTY_SET,
    DIRTY_CLEAR,
    DIRTY_REBUILT,  /* cleared, with the place of the refcount table */
    DIRTY_REPAIRED, /* the same, of an image that may be marked as corrupt, or of version 2 */
} DirtyChange;

/* In one write within a sector. Whoever marks the image corrupt meanwhile comes before or after:
 * neither bit is lost. */
static int coroutine_fn co_write_bit(Qcow2 *q, DirtyChange what) REQUIRES_LOCK(q->header.lock)
{
    bool has_bits = q->hdr.version >= 3; /* (version 2 has other things in their place) */
    bool moved = what == DIRTY_REBUILT || what == DIRTY_REPAIRED;
    uint64_t old = q->hdr.incompatible;
    int ret;

    g_assert(has_bits || what == DIRTY_REPAIRED);
    if (what != DIRTY_REPAIRED && atomic_load(&q->health.corrupt)) {
        return -EIO;
    }
    if (has_bits) {
        q->hdr.incompatible =
            what == DIRTY_SET ? old | QCOW2_INCOMPAT_DIRTY : old & ~QCOW2_INCOMPAT_DIRTY;
    }
    ret = qcow2_header_co_write_fields_locked(
        &q->header, &q->hdr, moved ? HEADER_AT(reftable_offset) : HEADER_AT(incompatible),
        has_bits ? HEADER_AT(compatible) : HEADER_AT(nb_snapshots));
    ret = ret < 0 ? ret : qcow2_health_co_sync(&q->health, q->file->bs);
    if (ret < 0) { /* on disk it may be set: then the next open rebuilds counts that are right */
        q->hdr.incompatible = old;
    }
    return ret;
}

static int coroutine_fn co_change(Qcow2 *q, DirtyChange what)
{
    int ret;

    /* What the bit speaks of is on disk first. */
    ret = RULE_BROKEN(REBUILT_BEFORE_SWITCH) ? 0 : qcow2_health_co_sync(&q->health, q->file->bs);
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&q->header.lock);
    ret = co_write_bit(q, what);
    co_mutex_unlock(&q->header.lock);
    return ret;
}

int coroutine_fn qcow2_dirty_co_set(Qcow2 *q)
{
    return RULE_BROKEN(DIRTY_BEFORE_LAZY) ? 0 : co_change(q, DIRTY_SET);
}

int coroutine_fn qcow2_dirty_co_clear(Qcow2 *q)
{
    return co_change(q, DIRTY_CLEAR);
}

int coroutine_fn qcow2_dirty_co_switch_rebuilt(Qcow2 *q)
{
    return co_change(q, DIRTY_REBUILT);
}

int coroutine_fn qcow2_dirty_co_switch_repaired(Qcow2 *q)
{
    return co_change(q, DIRTY_REPAIRED);
}
