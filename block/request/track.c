/* SPDX-License-Identifier: MIT */
/*
 * Tracking of writes on nodes with an alignment (INV-CORE-3), so that read-modify-write cycles
 * on one block follow each other.
 *
 * INV-TRACK-1  A request waits only for earlier ones: no cycle of waiting.
 * INV-TRACK-2  The node is as long as a write made it before the write is tracked no more: who
 *              reads the block next, to modify it, would take what was just written for the void
 *              past the end.
 */
#include "block/request/request.h"

static bool must_wait(BdrvCore *core, const TrackedReq *r)
{
    for (TrackedReq *o = core->head; o != r; o = o->next) {
        if ((o->serialising || r->serialising) && o->start < r->end && r->start < o->end) {
            return true;
        }
    }
    return false;
}

void coroutine_fn bdrv_co_track_begin(BlockDriverState *bs, TrackedReq *r, int64_t start,
                                      int64_t end, bool serialising)
{
    BdrvCore *core = bs->core;

    r->start = start;
    r->end = end;
    r->serialising = serialising;
    r->next = NULL;
    spin_lock(&core->lock);
    r->prev = core->tail;
    *core->tail = r;
    core->tail = &r->next;
    while (must_wait(core, r)) {
        co_queue_wait_spin(&core->track_queue, &core->lock);
    }
    spin_unlock(&core->lock);
}

void bdrv_track_end(BlockDriverState *bs, TrackedReq *r)
{
    BdrvCore *core = bs->core;

    spin_lock(&core->lock);
    *r->prev = r->next;
    if (r->next) {
        r->next->prev = r->prev;
    } else {
        core->tail = r->prev;
    }
    spin_unlock(&core->lock);
    co_queue_all(&core->track_queue);
}
