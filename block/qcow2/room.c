/* SPDX-License-Identifier: MIT */
/* Making room: see room.h. */
#include "room.h"

#include "flush.h"
#include "reap.h"

/* How much may wait in quarantine for a sync: a share of the file, so that the number of syncs does
 * not grow with the disk; less where the file would otherwise grow. And so many runs, for memory.
 */
#define QUARANTINE_MIN (UINT64_C(64) * MiB)
#define QUARANTINE_PART 4
#define QUARANTINE_MIN_GROWING (UINT64_C(16) * MiB)
#define QUARANTINE_PART_GROWING 16
#define REAP_BY_REQUEST 32
#define QUARANTINE_RUNS (UINT64_C(1) << 16)

/* A sync helps: what waits for requests only is not counted, however long they take. */
static bool quarantine_is_full(Qcow2 *q)
{
    uint64_t file = (uint64_t)atomic_load(&q->file->bs->total_bytes), runs;
    uint64_t bytes = qcow2_quarantine_unsynced(q->quarantine, &runs);

    if (bytes <= QUARANTINE_MIN_GROWING && runs <= QUARANTINE_RUNS) {
        return false;
    }
    if (runs > QUARANTINE_RUNS) {
        return true;
    }
    return atomic_load(&q->alloc.grows)
               ? bytes > MAX(QUARANTINE_MIN_GROWING, file / QUARANTINE_PART_GROWING)
               : bytes > MAX(QUARANTINE_MIN, file / QUARANTINE_PART);
}

static bool coroutine_fn co_reclaim(Qcow2 *q)
{
    uint64_t waiting = qcow2_quarantine_bytes(q->quarantine);

    atomic_store(&q->alloc.was_full, true);
    if (waiting && qcow2_flush_co_metadata(q, true) == 0) {
        (void)qcow2_reap_co_ready(q);
    }
    return atomic_exchange(&q->alloc.wished_past, false) ||
           qcow2_quarantine_bytes(q->quarantine) < waiting;
}

bool coroutine_fn qcow2_room_co_retry(Qcow2 *q, int64_t ret)
{
    return unlikely(qcow2_room_is_out(ret)) && co_reclaim(q);
}

int coroutine_fn qcow2_room_co_make(Qcow2 *q)
{
    uint64_t entries = geo_clusters(&q->geo, atomic_load(&q->bs->total_bytes));
    bool crowded = qcow2_flush_is_crowded(q->l2_cache, entries * q->geo.l2_entry_size) ||
                   qcow2_flush_counts_need_room(q);
    int ret;

    g_assert(!q->bs->read_only);
    if (likely(!crowded && !quarantine_is_full(q))) {
        return 0;
    }
    ret = qcow2_flush_co_metadata(q, true);
    if (ret == 0) { /* what fails stays in quarantine: no reason to fail a write */
        (void)qcow2_reap_co_some(q, REAP_BY_REQUEST);
    }
    return ret < 0 && !crowded ? qcow2_health_may_write(&q->health)
                               : ret; /* it needs the cache's room, no more */
}
