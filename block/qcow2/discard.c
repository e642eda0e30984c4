/* SPDX-License-Identifier: MIT */
/*
 * Discard.
 *
 * What is discarded reads zero afterwards (version 3: by flag, so that neither a backing file nor
 * old content comes back); version 2 has no such flag, so there a discard over a backing file is
 * left undone. Clusters go to quarantine in the same hold of meta_lock as their entry's change
 * (INV-W-4): they are punched and reused only after the change is on disk and every request that
 * could still reach them has ended. An overwrite that runs at the same time may win or lose.
 *
 * Where the host cluster stays with its guest cluster (external data file, discard-no-unref), it is
 * punched at once, while an InflightAlloc keeps writers of new data away; nobody reads it meanwhile
 * but requests that began before.
 */
#include "discard.h"

#include "callbacks.h"
#include "change.h"
#include "entry.h"
#include "inflight.h"
#include "map.h"
#include "raw-file.h"
#include "rules.h"
#include "track.h"
#include "walk.h"

typedef struct DiscardOp {
    bool full;  /* truncate: the entry becomes 0, or zero by flag where a backing file would show */
    bool empty; /* full, and a backing file shows */
    bool keep; /* the host cluster stays reserved (discard-no-unref) */
    bool punch;
} DiscardOp;

/* A part of @old, which has subclusters: those that read zero anyway stay as they are, and with the
 * last that holds data the host cluster goes. */
static L2Entry discarded_part(Qcow2 *q, L2Entry old, unsigned first, unsigned n,
                              const DiscardOp *op)
{
    L2Entry e = qcow2_l2_set_zero(&q->geo, old, first, n);
    uint64_t none = ~(old.bitmap | old.bitmap << 32); /* neither data nor zero by flag */

    if (!bdrv_backing_bs(q->bs)) {
        e.bitmap &= ~(none & UINT64_C(0xffffffff00000000));
    }
    if (!(e.bitmap & UINT32_MAX) && !op->keep && e.bitmap != old.bitmap) {
        CASE_MET(LAST_SUBCLUSTER);
        e.desc = 0;
    }
    return e;
}

/* What @old becomes with subclusters [first, first + n) discarded. False: nothing to do. */
static bool discarded_entry(Qcow2 *q, L2Entry old, unsigned first, unsigned n, const DiscardOp *op,
                            L2Entry *e)
{
    const Geometry *g = &q->geo;
    bool whole = n == g->subclusters, compressed = old.desc & L2E_COMPRESSED;

    if (op->full && !op->empty && g->version >= 3 && bdrv_backing_bs(q->bs)) {
        *e = old.desc || old.bitmap ? qcow2_l2_set_zero(g, (L2Entry){ 0, 0 }, 0, g->subclusters)
                                    : old;
        return !qcow2_entry_is_same(*e, old);
    }
    if (op->full || g->version < 3) {
        *e = (L2Entry){ 0, 0 };
        return whole && (old.desc || old.bitmap);
    }
    if (!old.desc && !old.bitmap && !bdrv_backing_bs(q->bs)) {
        return false; /* reads zero already */
    }
    if (whole && (compressed || !op->keep || !qcow2_entry_in_place(g, old))) {
        *e = qcow2_l2_set_zero(g, (L2Entry){ 0, 0 }, 0, g->subclusters);
    } else if (compressed) {
        return false;
    } else {
        *e = discarded_part(q, old, first, n, op);
    }
    return !qcow2_entry_is_same(*e, old);
}

static int coroutine_fn discard_cluster(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t start,
                                        uint64_t end, void *opaque)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    const DiscardOp *op = opaque;
    const Geometry *g = &q->geo;
    L2Entry old = qcow2_l2_load(g, s->data, index), e;
    unsigned first = geo_sc_index(g, start), n = geo_sc_index(g, end - 1) - first + 1;
    int ret = op->full ? 0 : qcow2_entry_co_check(q, old, geo_cluster_start(g, start));

    g_assert(geo_cluster_start(g, start) == geo_cluster_start(g, end - 1));
    if (ret < 0 || !discarded_entry(q, old, first, n, op, &e)) {
        return ret;
    }
    qcow2_entry_replace(q, s, index, geo_cluster_start(g, start), e, op->punch);
    return 0;
}

/*
 * Give back the space of what keeps its place. By zeroes and not by a discard, which may leave
 * anything there: requests that looked it up before still read it, and so does whoever opens the
 * image after a power loss, if the entry did not reach the disk.
 */
static int coroutine_fn punch_in_place(Qcow2 *q, uint64_t host, uint64_t bytes)
{
    uint64_t size = atomic_load(&q->data->bs->total_bytes);

    if (!(q->data->bs->open_flags & BLK_O_UNMAP) || host >= size) {
        return 0;
    }
    CASE_MET(PUNCHED_IN_PLACE);
    return bdrv_co_pwrite_zeroes(q->data, host, MIN(bytes, size - host),
                                 BLK_REQ_MAY_UNMAP | BLK_REQ_NO_FALLBACK);
}

/* Punch or zero [guest, +bytes) of an external data file, whose clusters the caller's InflightAlloc
 * guards. */
static int coroutine_fn drop_data(Qcow2 *q, uint64_t guest, uint64_t bytes)
{
    uint64_t size = atomic_load(&q->data->bs->total_bytes);
    int ret = 0;

    if (guest >= size) {
        return 0;
    }
    bytes = MIN(bytes, size - guest);
    if (q->geo.data_raw) {
        return bdrv_co_pwrite_zeroes(q->data, guest, bytes, BLK_REQ_MAY_UNMAP);
    }
    if (q->discard_passthrough) {
        ret = punch_in_place(q, guest, bytes);
    }
    return ret == -ENOTSUP ? 0 : ret;
}

/* Punch clusters that stay in place, of guest [start, end), whose entries read zero now. No lock
 * held. */
static void coroutine_fn punch_kept(Qcow2 *q, uint64_t start, uint64_t end)
{
    const Geometry *g = &q->geo;

    while (start < end) {
        Extent x;

        if (qcow2_map_co_find(q, start, end - start, &x) < 0) {
            return;
        }
        if (x.kind == SC_ZERO_ALLOC && qcow2_l2_copied(x.entry) &&
            IS_ALIGNED(x.host | x.bytes, g->subcluster_size)) {
            (void)punch_in_place(q, x.host, x.bytes); /* best effort */
        }
        start += x.bytes;
    }
}

/* What is not done under the lock, of guest [start, end), with its entries kept as they are. */
static int coroutine_fn punch_unlocked(Qcow2 *q, uint64_t start, uint64_t end)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    const Geometry *g = &q->geo;
    InflightAlloc a;
    int ret = 0;

    g_assert(start < end);
    qcow2_inflight_begin(q, &a, geo_cluster_start(g, start), ALIGN_UP(end, g->cluster_size));
    co_mutex_unlock(&q->alloc.meta_lock);
    if (g->external_data) {
        ret = drop_data(q, start, end - start);
    } else {
        punch_kept(q, start, end);
    }
    co_mutex_lock(&q->alloc.meta_lock);
    qcow2_inflight_end(q, &a);
    return ret;
}

void coroutine_fn qcow2_discard_co_punch_kept(Qcow2 *q, uint64_t start, uint64_t end)
{
    unsigned pin = qcow2_pin_enter(q->pin);

    g_assert(!q->geo.external_data);
    (void)punch_unlocked(q, start, end);
    qcow2_pin_leave(q->pin, pin);
}

/* As much of [start, end) as one L2 slice describes. */
static int64_t coroutine_fn discard_slice(Qcow2 *q, uint64_t start, uint64_t end, DiscardOp *op)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    bool raw = qcow2_raw_file_is_disk(q);
    bool in_place = (q->geo.external_data && !raw) || (op->keep && op->punch && !op->full);
    uint64_t room, at = start;
    unsigned index;
    MetaSlice *s;
    int ret = qcow2_inflight_co_get_idle(q, start, end, NULL, &s, &index, &room);

    if (ret < 0) {
        return ret;
    }
    if (raw) { /* INV-RAW-2: the file before its entries */
        ret = punch_unlocked(q, start, room);
    }
    if (ret == 0) {
        ret = qcow2_walk_co_entries(q, s, index, start, room, discard_cluster, op, &at);
    }
    qcow2_cache_put(q->l2_cache, s);
    if (in_place && at > start) {
        int r = punch_unlocked(q, start, at);

        ret = ret < 0 ? ret : r;
    }
    return ret < 0 ? ret : (int64_t)(at - start);
}

/* Nothing below @start's L2 table: skip to where the next one begins. 0: there is a table. */
static uint64_t without_table(Qcow2 *q, uint64_t start)
{
    uint64_t i = geo_l1_index(&q->geo, start);

    if (i < q->l1_size && atomic_load(&q->l1[i])) {
        return 0;
    }
    return geo_l1_start(&q->geo, i + 1);
}

static int64_t coroutine_fn discard_part(Qcow2 *q, uint64_t start, uint64_t end, void *opaque)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    DiscardOp *op = opaque;
    bool table_needed = !op->full && q->geo.version >= 3 && bdrv_backing_bs(q->bs);
    uint64_t skip = table_needed ? 0 : without_table(q, start);
    unsigned pin;
    int64_t n;

    if (skip) {
        return (int64_t)(MIN(skip, end) - start);
    }
    pin = qcow2_pin_enter(q->pin);
    n = discard_slice(q, start, end, op);
    qcow2_pin_leave(q->pin, pin);
    return n;
}

int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    Qcow2 *q = bs->opaque;
    uint64_t sub = q->geo.subcluster_size, end = offset + bytes;
    uint64_t start = ALIGN_UP((uint64_t)offset, sub);
    DiscardOp op = { .keep = q->discard_no_unref, .punch = q->discard_passthrough };
    int ret = qcow2_health_may_write(&q->health);

    g_assert(offset >= 0 && bytes > 0);
    if (ret < 0) {
        return ret;
    }
    end = end == atomic_load(&bs->total_bytes) ? ALIGN_UP(end, sub) : ALIGN_DOWN(end, sub);
    if (start >= end || (q->geo.version < 3 && bs->backing)) {
        return -ENOTSUP;
    }
    ret = qcow2_change_co_begin(q, QCOW2_CHANGE_DISK | QCOW2_CHANGE_IMAGE);
    ret = ret < 0 ? ret : qcow2_track_co_begin(q, start, end - start);
    if (ret < 0) {
        return ret;
    }
    if (qcow2_raw_file_is_disk(q)) {
        return qcow2_raw_file_co_zero(q, start, end, BLK_REQ_MAY_UNMAP);
    }
    return qcow2_walk_co_parts(q, start, end, discard_part, &op);
}

/* For truncate: forget guest [start, end), cluster aligned. */
int coroutine_fn qcow2_discard_co_forget(Qcow2 *q, uint64_t start, uint64_t end)
{
    DiscardOp op = { .full = true, .punch = q->discard_passthrough };

    return qcow2_walk_co_parts(q, start, end, discard_part, &op);
}

int coroutine_fn qcow2_discard_co_empty(Qcow2 *q, uint64_t start, uint64_t end)
{
    DiscardOp op = { .full = true, .empty = true, .punch = q->discard_passthrough };

    return qcow2_walk_co_parts(q, start, end, discard_part, &op);
}
