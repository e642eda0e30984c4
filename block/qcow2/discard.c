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
#include "rules.h"
#include "write-int.h"

typedef struct DiscardOp {
    bool full; /* truncate: the entry becomes 0, or zero by flag where a backing file would show */
    bool keep; /* the host cluster stays reserved (discard-no-unref) */
    bool punch;
} DiscardOp;

/* What @old becomes with subclusters [first, first + n) discarded. False: nothing to do. */
static bool discarded_entry(Qcow2 *q, L2Entry old, unsigned first, unsigned n, const DiscardOp *op,
                            L2Entry *e)
{
    const Geometry *g = &q->geo;
    bool whole = n == g->subclusters, compressed = old.desc & L2E_COMPRESSED;
    uint64_t alloc_bits;

    if (op->full && g->version >= 3 && bdrv_backing_bs(q->bs)) {
        *e = old.desc || old.bitmap ? l2_set_zero(g, (L2Entry){ 0, 0 }, 0, g->subclusters) : old;
        return e->desc != old.desc || e->bitmap != old.bitmap;
    }
    if (op->full || g->version < 3) {
        *e = (L2Entry){ 0, 0 };
        return whole && (old.desc || old.bitmap);
    }
    if (!old.desc && !old.bitmap && !bdrv_backing_bs(q->bs)) {
        return false; /* reads zero already */
    }
    if (whole && (compressed || !op->keep || !entry_in_place(g, old))) {
        *e = l2_set_zero(g, (L2Entry){ 0, 0 }, 0, g->subclusters);
    } else if (compressed) {
        return false;
    } else {
        *e = l2_set_zero(g, old, first, n);
        alloc_bits = e->bitmap & 0xffffffff;
        if (!whole && alloc_bits == 0 &&
            e->bitmap == l2_set_zero(g, *e, 0, g->subclusters).bitmap && !op->keep) {
            CASE_MET(LAST_SUBCLUSTER);
            *e = l2_set_zero(g, (L2Entry){ 0, 0 }, 0, g->subclusters); /* the last of it went */
        }
    }
    return e->desc != old.desc || e->bitmap != old.bitmap;
}

/* The part of one cluster; under meta_lock. */
static int coroutine_fn discard_cluster(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t start,
                                        uint64_t end, const DiscardOp *op)
{
    const Geometry *g = &q->geo;
    L2Entry old = l2_load(g, s->data, index), e;
    unsigned first = geo_sc_index(g, start), n = geo_sc_index(g, end - 1) - first + 1;
    int ret = op->full ? 0 : entry_co_check(q, old, geo_cluster_start(g, start));

    if (ret < 0 || !discarded_entry(q, old, first, n, op, &e)) {
        return ret;
    }
    entry_replace(q, s, index, geo_cluster_start(g, start), e, op->punch);
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

int coroutine_fn data_file_co_drop(Qcow2 *q, uint64_t guest, uint64_t bytes)
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

        if (qcow2_co_map(q, start, end - start, &x) < 0) {
            return;
        }
        if (x.kind == SC_ZERO_ALLOC && l2_copied(x.entry) &&
            IS_ALIGNED(x.host | x.bytes, g->subcluster_size)) {
            (void)punch_in_place(q, x.host, x.bytes); /* best effort */
        }
        start += x.bytes;
    }
}

/* As much of [start, end) as one L2 slice describes; bytes done or -errno. */
static int64_t coroutine_fn discard_slice(Qcow2 *q, uint64_t start, uint64_t end,
                                          const DiscardOp *op)
{
    const Geometry *g = &q->geo;
    bool in_place =
        (g->external_data && !qcow2_file_is_disk(q)) || (op->keep && op->punch && !op->full);
    uint64_t cluster = start >> g->cluster_bits, room, at = start;
    InflightAlloc a;
    unsigned index;
    MetaSlice *s;
    int ret;

    ret = entries_co_get_idle(q, start, end, &s, &index, &room);
    if (ret < 0) {
        return ret;
    }
    if (qcow2_file_is_disk(q)) { /* INV-RAW-2: the file before its entries */
        inflight_begin(q, &a, cluster, (room - 1) >> g->cluster_bits);
        co_mutex_unlock(&q->meta_lock);
        ret = data_file_co_drop(q, start, room - start);
        co_mutex_lock(&q->meta_lock);
        inflight_end(q, &a);
    }
    bdrv_co_debug_event(q->file, BLKDBG_L2_UPDATE);
    while (at < room && ret == 0) {
        uint64_t to = MIN(geo_cluster_start(g, at) + g->cluster_size, room);

        ret = discard_cluster(q, s, index++, at, to, op);
        at = ret == 0 ? to : at;
    }
    meta_cache_put(q->l2_cache, s);
    if (in_place && at > start) {
        inflight_begin(q, &a, cluster, (at - 1) >> g->cluster_bits);
        co_mutex_unlock(&q->meta_lock);
        if (g->external_data) {
            int r = data_file_co_drop(q, start, at - start);

            ret = ret < 0 ? ret : r;
        } else {
            punch_kept(q, start, at);
        }
        co_mutex_lock(&q->meta_lock);
        inflight_end(q, &a);
    }
    return ret < 0 ? ret : (int64_t)(at - start);
}

/* Nothing below @start's L2 table: skip to where the next one begins. 0: there is a table. */
static uint64_t without_table(Qcow2 *q, uint64_t start)
{
    uint64_t i = geo_l1_index(&q->geo, start);
    unsigned shift = q->geo.l2_bits + q->geo.cluster_bits;

    if (i < q->l1_size && atomic_load(&q->l1[i])) {
        return 0;
    }
    return (i + 1) << shift;
}

static int coroutine_fn discard_range(Qcow2 *q, uint64_t start, uint64_t end, const DiscardOp *op)
{
    bool table_needed = !op->full && q->geo.version >= 3 && bdrv_backing_bs(q->bs);
    bool reclaimed = false;
    int64_t n = 0;

    while (start < end && n >= 0) {
        uint64_t skip;

        n = qcow2_co_relieve(q);
        if (n < 0) {
            break;
        }
        co_mutex_lock(&q->meta_lock);
        skip = table_needed ? 0 : without_table(q, start);
        if (skip) {
            n = MIN(skip, end) - start;
        } else {
            unsigned pin = qcow2_pin_enter(q);

            n = discard_slice(q, start, end, op);
            qcow2_pin_leave(q, pin);
        }
        co_mutex_unlock(&q->meta_lock);
        if (!reclaimed && qcow2_co_retry(q, n)) {
            reclaimed = true;
            n = 0;
        }
        start += MAX(n, 0);
    }
    return n < 0 ? n : 0;
}

int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    Qcow2 *q = bs->opaque;
    uint64_t sub = q->geo.subcluster_size, end = offset + bytes;
    uint64_t start = ALIGN_UP((uint64_t)offset, sub);
    DiscardOp op = { .keep = q->discard_no_unref, .punch = q->discard_passthrough };
    int ret = qcow2_may_write(q);

    if (ret < 0) {
        return ret;
    }
    end = end == atomic_load(&bs->total_bytes) ? ALIGN_UP(end, sub) : ALIGN_DOWN(end, sub);
    if (start >= end || (q->geo.version < 3 && bs->backing)) {
        return -ENOTSUP;
    }
    ret = qcow2_co_begin_change(q, QCOW2_CHANGE_DISK | QCOW2_CHANGE_IMAGE);
    if (ret < 0) {
        return ret;
    }
    if (qcow2_file_is_disk(q)) {
        return raw_co_zero(q, start, end, BLK_REQ_MAY_UNMAP);
    }
    return discard_range(q, start, end, &op);
}

/* For truncate: forget guest [start, end), cluster aligned. */
int coroutine_fn discard_co_forget(Qcow2 *q, uint64_t start, uint64_t end)
{
    DiscardOp op = { .full = true, .punch = q->discard_passthrough };

    return discard_range(q, start, end, &op);
}
