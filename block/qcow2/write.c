/* SPDX-License-Identifier: MIT */
/*
 * Guest writes.
 *
 * Overwrites of readable clusters that nobody shares (COPIED) take no lock: pin, look up, check,
 * one write, unpin. Everything else goes run by run: plan (under meta_lock: allocate), run (no
 * lock: copy-on-write and data in one write), finish (under meta_lock: the entries, or the undo).
 *
 * What reaches the disk when: the data is written before the entry changes in memory, and a flush
 * syncs data before it writes entries (INV-W-2); the new clusters' counts are in memory before
 * the entry, and a flush writes counts first (INV-W-1); what the entries referred to before goes to
 * quarantine in the same hold of meta_lock (INV-W-4).
 *
 * INV-WR-3  A request is pinned from before its first lookup to after its last I/O.
 */
#include "write.h"

#include "alloc.h"
#include "callbacks.h"
#include "change.h"
#include "cow.h"
#include "crypt.h"
#include "entry.h"
#include "l2-table.h"
#include "map.h"
#include "raw-file.h"
#include "refcount.h"
#include "room.h"
#include "rules.h"
#include "sharing.h"
#include "track.h"
#include "util/co-pieces.h"

/* ---- Plan ---- */

/* How many entries from the run's first on can be treated like it. */
static int coroutine_fn count_alike(Qcow2 *q, const WriteRun *r, L2Entry e0, bool in_place,
                                    uint64_t max, uint64_t *n)
{
    const Geometry *g = &q->geo;

    for (*n = 1; *n < max; ++*n) {
        L2Entry e = qcow2_l2_load(g, r->slice->data, r->index + *n);
        int ret = qcow2_entry_co_check(q, e, (r->first + *n) << g->cluster_bits);

        if (ret < 0) {
            return ret;
        }
        if (qcow2_entry_in_place(g, e) != in_place ||
            (in_place && qcow2_l2_host(g, e) != qcow2_l2_host(g, e0) + (*n << g->cluster_bits))) {
            break;
        }
    }
    return 0;
}

/* The host cluster that would continue the guest cluster before the run; 0: no wish. */
static uint64_t wanted_host(Qcow2 *q, const WriteRun *r)
{
    L2Entry e;

    if (r->index == 0) {
        return 0;
    }
    e = qcow2_l2_load(&q->geo, r->slice->data, r->index - 1);
    return qcow2_entry_in_place(&q->geo, e) ? qcow2_l2_host(&q->geo, e) + q->geo.cluster_size : 0;
}

/* Is it certain that nothing was ever written at @host or after? INV-COW-1 */
static bool is_beyond_eof(Qcow2 *q, uint64_t host)
{
    if (q->crypt && !RULE_BROKEN(CIPHER_NOT_ZERO)) {
        return false; /* INV-CRYPT-1: zeroes there are none for the guest */
    }
    if (RULE_BROKEN(STALE_NOT_ZERO)) {
        return true;
    }
    return !atomic_load(&q->fresh_unsafe) &&
           (int64_t)host >= atomic_load(&q->data->bs->total_bytes) &&
           bdrv_unwritten_reads_zero(q->data->bs);
}

static int coroutine_fn allocate_run(Qcow2 *q, WriteRun *r) REQUIRES_LOCK(q->alloc.meta_lock)
{
    uint64_t got;
    int ret;

    if (q->geo.external_data) {
        CASE_MET(DATA_FILE_RUN);
        r->host = r->first << q->geo.cluster_bits;
        r->fresh = false;
        r->beyond_eof = is_beyond_eof(q, r->host);
        return 0;
    }
    ret = qcow2_alloc_co_upto(&q->alloc, wanted_host(q, r), r->n, &r->host, &got);
    if (ret < 0) {
        return ret;
    }
    r->n = got;
    r->fresh = true;
    r->beyond_eof = is_beyond_eof(q, r->host);
    return 0;
}

/* Can it be overwritten without a lock by now? As co_find_in_place() sees it. */
static bool is_readable_in_place(const Geometry *g, L2Entry e, uint64_t guest)
{
    return qcow2_entry_in_place(g, e) &&
           qcow2_l2_kind(g, e, geo_sc_index(g, guest), guest) == SC_NORMAL;
}

/* 1: no write of ours is to change it any more, so look again without a lock. */
static int coroutine_fn look_at_entry(Qcow2 *q, uint64_t start, const MetaSlice *s, unsigned index,
                                      uint64_t *unit)
{
    const Geometry *g = &q->geo;
    L2Entry e = qcow2_l2_load(g, s->data, index);
    int ret = qcow2_entry_co_check(q, e, geo_cluster_start(g, start));

    *unit = qcow2_entry_in_place(g, e) ? g->subcluster_size : g->cluster_size;
    return ret == 0 && is_readable_in_place(g, e, start) ? 1 : ret;
}

/* The run's clusters, as far as [start, end) goes and its slice: their host clusters. */
static int coroutine_fn find_clusters(Qcow2 *q, WriteRun *r, L2Entry e0, uint64_t end)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    const Geometry *g = &q->geo;
    uint64_t max = ((end - 1) >> g->cluster_bits) - r->first + 1;
    bool in_place = qcow2_entry_in_place(g, e0);
    const char *what;
    int ret = count_alike(q, r, e0, in_place, MIN(max, qcow2_l2_table_slice_entries(q) - r->index),
                          &r->n);

    if (ret < 0) {
        return ret;
    }
    if (!in_place) {
        return allocate_run(q, r);
    }
    CASE_MET(IN_PLACE);
    if (r->n > 1) {
        CASE_MET(IN_PLACE_LONG);
    }
    r->host = qcow2_l2_host(g, e0);
    what =
        g->external_data ? NULL : qcow2_metadata_at(q->metadata, r->host, r->n << g->cluster_bits);
    if (what) {
        return qcow2_health_co_overlaps(&q->health, what);
    }
    return 0;
}

/* What a planned run is. */
static void check_run(const Qcow2 *q, const WriteRun *r)
{
    uint64_t first = r->first << q->geo.cluster_bits, bytes = r->n << q->geo.cluster_bits;

    g_assert(r->n > 0 && r->start < r->end);
    g_assert(first <= r->cow_start && r->cow_start <= r->start);
    g_assert(r->end <= r->cow_end && r->cow_end <= first + bytes);
    g_assert(geo_in_cluster(&q->geo, r->host) == 0);
    g_assert(r->index + r->n <= qcow2_l2_table_slice_entries(q));
}

/* Fill in @r for a prefix of guest [start, start + bytes). On success the slice is
 * held and the run is in flight; 1: it can be written in place now. */
static int coroutine_fn plan_run(Qcow2 *q, uint64_t start, uint64_t bytes, WriteRun *r)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    const Geometry *g = &q->geo;
    uint64_t unit, end;
    L2Entry e0, e1;
    bool in_place;
    int ret =
        qcow2_inflight_co_get_idle(q, start, start + 1, look_at_entry, &r->slice, &r->index, &end);

    if (ret) {
        return ret;
    }
    e0 = qcow2_l2_load(g, r->slice->data, r->index);
    in_place = qcow2_entry_in_place(g, e0);
    unit = in_place ? g->subcluster_size : g->cluster_size;
    end = MIN(start + bytes,
              ALIGN_DOWN(qcow2_inflight_next(q, ALIGN_DOWN(start, unit) + unit), unit));
    r->first = start >> g->cluster_bits;
    r->fresh = r->beyond_eof = false;
    ret = find_clusters(q, r, e0, end);
    if (ret < 0) {
        qcow2_cache_put(q->l2_cache, r->slice);
        return ret;
    }
    e1 = qcow2_l2_load(g, r->slice->data, r->index + r->n - 1);
    r->start = start;
    r->end = MIN(end, (r->first + r->n) << g->cluster_bits);
    r->cow_start = qcow2_cow_begin(g, e0, in_place, start);
    r->cow_end = qcow2_cow_finish(g, e1, in_place, r->end);
    r->head_zero = qcow2_entry_reads_zero(q, e0, r->cow_start, r->start);
    r->tail_zero = qcow2_entry_reads_zero(q, e1, r->end, r->cow_end);
    check_run(q, r);
    r->merge = r->n == 1 && (e0.desc & L2E_COMPRESSED);
    qcow2_inflight_begin(q, &r->inflight, ALIGN_DOWN(start, unit), ALIGN_UP(r->end, unit));
    return 0;
}

/* ---- Finish ---- */

/* The entry of the run's @i-th cluster after the write, @old before. */
static L2Entry new_entry(const Geometry *g, const WriteRun *r, uint64_t i, L2Entry old)
{
    uint64_t guest = (r->first + i) << g->cluster_bits;
    uint64_t from = MAX(guest, r->cow_start), to = MIN(guest + g->cluster_size, r->cow_end);
    unsigned first = geo_sc_index(g, from), last = geo_sc_index(g, to - 1);
    L2Entry e = old;

    if (!g->extended_l2) {
        return qcow2_l2_make_normal(g, r->host + (i << g->cluster_bits));
    }
    if (!qcow2_entry_in_place(g, old)) {
        e = qcow2_l2_make_host_only(g, r->host + (i << g->cluster_bits));
        e.bitmap = old.desc & L2E_COMPRESSED ? 0 : old.bitmap;
    }
    return qcow2_l2_set_allocated(g, e, first, last - first + 1);
}

/* Store entries [i, i + n) of the run. */
static void store_entries(Qcow2 *q, const WriteRun *r, uint64_t i, uint64_t n)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    const Geometry *g = &q->geo;

    qcow2_cache_modify_begin(q->l2_cache, r->slice);
    for (uint64_t end = i + n; i < end; i++) {
        L2Entry old = qcow2_l2_load(g, r->slice->data, r->index + i);

        qcow2_l2_store(g, r->slice->data, r->index + i, new_entry(g, r, i, old));
    }
    qcow2_cache_modify_end(q->l2_cache, r->slice);
}

/* No yield between an entry's change and its old cluster's quarantine
 * (INV-W-4). */
static void link_run(Qcow2 *q, const WriteRun *r) REQUIRES_LOCK(q->alloc.meta_lock)
{
    const Geometry *g = &q->geo;

    for (uint64_t i = 0, n; i < r->n; i += n) {
        L2Entry old = qcow2_l2_load(g, r->slice->data, r->index + i);

        n = 1;
        if (qcow2_entry_is_replaced(g, old)) {
            CASE_MET(REPLACED);
            store_entries(q, r, i, 1);
            qcow2_entry_free_later(q, old, q->alloc.discard_other);
            continue;
        }
        while (i + n < r->n &&
               !qcow2_entry_is_replaced(g, qcow2_l2_load(g, r->slice->data, r->index + i + n))) {
            n++;
        }
        store_entries(q, r, i, n);
    }
}

/* Publish, or undo what was never published. */
static void coroutine_fn finish_run(Qcow2 *q, WriteRun *r, int ret)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    g_assert(r->slice && r->n > 0);
    if (ret == 0) {
        bdrv_co_debug_event(q->file, BLKDBG_L2_UPDATE);
        link_run(q, r);
    } else {
        atomic_store(&q->fresh_unsafe, true); /* the file may have grown by part of the write */
        if (r->fresh) {
            qcow2_refcount_co_free_unused(&q->alloc, r->host, r->n << q->geo.cluster_bits);
        }
    }
    qcow2_inflight_end(q, &r->inflight);
    qcow2_cache_put(q->l2_cache, r->slice);
}

/* INV-RAW-2: the entries show the file before the guest's data gets there, so that a write that
 * fails in its middle is in both or in none; nothing is left to fill in. */
static int coroutine_fn link_raw(Qcow2 *q, WriteRun *r)
{
    int ret = qcow2_raw_file_co_prepare(q, r);

    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&q->alloc.meta_lock);
    link_run(q, r);
    co_mutex_unlock(&q->alloc.meta_lock);
    r->cow_start = r->start;
    r->cow_end = r->end;
    return 0;
}

/* ---- The request ---- */

/* The run at the head of the range, planned and in flight. 1: others made it readable meanwhile. */
static int coroutine_fn co_plan(Qcow2 *q, uint64_t offset, uint64_t bytes, WriteRun *r)
{
    int ret;

    co_mutex_lock(&q->alloc.meta_lock);
    ret = plan_run(q, offset, bytes, r);
    if (ret == 0 && RULE_BROKEN(LINK_AFTER_WRITE)) {
        link_run(q, r);
    }
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

/* @v is the guest's data; @ret < 0: only the undo. */
static int coroutine_fn co_run_planned(Qcow2 *q, WriteRun *r, IOVector *v, unsigned flags, int ret)
{
    ret = ret == 0 && qcow2_raw_file_is_disk(q) ? link_raw(q, r) : ret;
    ret = ret < 0 ? ret : qcow2_cow_co_write(q, r, v, 0, flags);
    co_mutex_lock(&q->alloc.meta_lock);
    finish_run(q, r, ret);
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

/* Is the prefix readable and ours, so that it may be written in place? Its bytes (0: needs a plan)
 * or -errno. Pinned. */
static int64_t coroutine_fn co_find_in_place(Qcow2 *q, uint64_t offset, uint64_t bytes,
                                             uint64_t *host)
{
    Extent x; /* under one L2 table */
    const char *what;
    int ret;

    if (qcow2_sharing_is_pending(q, geo_l1_index(&q->geo, offset)) &&
        !RULE_BROKEN(PENDING_NOT_IN_PLACE) && !RULE_BROKEN(COUNTED_BEFORE_CHANGED)) {
        return 0; /* INV-SHR-1 */
    }
    ret = qcow2_map_co_find_to_write(q, offset, bytes, &x);
    if (ret < 0) {
        return ret;
    }
    if (x.kind != SC_NORMAL || (!qcow2_l2_copied(x.entry) && !RULE_BROKEN(SHARED_NOT_IN_PLACE))) {
        return 0;
    }
    what = q->geo.external_data ? NULL : qcow2_metadata_at(q->metadata, x.host, x.bytes);
    if (unlikely(what != NULL)) {
        return qcow2_health_co_overlaps(&q->health, what);
    }
    *host = x.host;
    return (int64_t)x.bytes;
}

static int coroutine_fn co_write_in_place(Qcow2 *q, uint64_t host, uint64_t guest, IOVector *v,
                                          unsigned flags)
{
    CASE_MET(OVERWRITE);
    bdrv_co_debug_event(q->data, BLKDBG_WRITE_AIO);
    return qcow2_data_co_write(q, host, guest, v, flags);
}

/* ---- Requests that are no overwrite of one extent ---- */

typedef struct WritePiece {
    Qcow2 *q;
    unsigned pin, flags;
    uint64_t bytes;
    bool planned; /* run; else an overwrite at host */
    uint64_t host, guest;
    WriteRun run;
    IOVector part, *v; /* v: the piece's data */
    int ret;           /* < 0: no memory for it */
} WritePiece;

/* One look at the piece at the head of the range; on success it is pinned. 1: look again. */
static int coroutine_fn co_look_at_piece(Qcow2 *q, uint64_t offset, uint64_t bytes, WritePiece *p)
{
    int64_t n;
    int ret;

    p->pin = qcow2_pin_enter(q->pin); /* INV-WR-3 */
    n = co_find_in_place(q, offset, bytes, &p->host);
    p->planned = n == 0;
    if (n == 0) {
        /* Making room sleeps for others: without our pin, which would hold up the quarantine. */
        qcow2_pin_leave(q->pin, p->pin);
        ret = qcow2_room_co_make(q);
        if (ret < 0) {
            return ret;
        }
        p->pin = qcow2_pin_enter(q->pin);
        ret = co_plan(q, offset, bytes, &p->run);
        n = ret ? -1 : (int64_t)(p->run.end - p->run.start);
    } else {
        ret = (int)MIN(n, 0);
    }
    if (ret) {
        qcow2_pin_leave(q->pin, p->pin);
        return ret;
    }
    p->bytes = n;
    return 0;
}

/* What the piece at the head of the range is; on success it is pinned. */
static int coroutine_fn co_plan_piece(Qcow2 *q, uint64_t offset, uint64_t bytes, WritePiece *p)
{
    int ret;

    do {
        ret = co_look_at_piece(q, offset, bytes, p);
        if (ret > 0) {
            CASE_MET(LOOKED_AGAIN);
        }
    } while (ret > 0);
    return ret;
}

static int coroutine_fn co_write_piece(void *opaque)
{
    WritePiece *p = opaque;
    int ret = p->ret;

    if (p->planned) {
        ret = co_run_planned(p->q, &p->run, p->v, p->flags, ret);
    } else {
        ret = ret < 0 ? ret : co_write_in_place(p->q, p->host, p->guest, p->v, p->flags);
    }
    qcow2_pin_leave(p->q->pin, p->pin);
    if (p->v == &p->part) {
        iov_clear(&p->part);
    }
    return ret;
}

/*
 * Planned one after the other, so that new clusters lie in the order of the disk; written together,
 * the last of them right here. Only the owner waits for allocations (those of other requests, too),
 * and it holds none: a piece in flight needs nobody's turn to end (INV-WR-2).
 */
static int coroutine_fn G_GNUC_NO_INLINE co_write_pieces(Qcow2 *q, uint64_t offset, IOVector *v,
                                                         unsigned flags)
{
    WritePiece slots[CO_PIECES_MAX];
    uint64_t end = offset + v->size;
    CoPieces pieces;
    IovCursor at;
    int ret = 0;

    co_pieces_init(&pieces);
    iov_cursor_init(&at, v);
    while (ret == 0 && offset < end) {
        unsigned slot = co_pieces_slot(&pieces);
        WritePiece *p = &slots[slot];

        ret = pieces.ret < 0 ? pieces.ret : co_plan_piece(q, offset, end - offset, p);
        if (ret < 0) {
            break;
        }
        p->q = q;
        p->guest = offset;
        p->flags = flags;
        p->v = p->bytes == v->size ? v : &p->part;
        p->ret = p->v == v ? 0 : iov_cursor_take(&at, &p->part, p->bytes);
        g_assert(p->bytes > 0 && p->bytes <= end - offset);
        offset += p->bytes;
        if (offset == end) {
            ret = co_write_piece(p);
        } else {
            co_pieces_begin(&pieces, slot, co_write_piece, p);
        }
    }
    return co_pieces_end(&pieces, ret);
}

int coroutine_fn qcow2_write_co_guest(Qcow2 *q, uint64_t offset, IOVector *v, unsigned flags)
{
    unsigned pin = qcow2_pin_enter(q->pin); /* INV-WR-3 */
    uint64_t host;
    int64_t n = co_find_in_place(q, offset, v->size, &host);
    int ret = n < 0 ? (int)n : 0;

    if (likely(n == (int64_t)v->size)) {
        ret = co_write_in_place(q, host, offset, v, flags);
    }
    qcow2_pin_leave(q->pin, pin);
    if (ret < 0 || n == (int64_t)v->size) {
        return ret;
    }
    ret = co_write_pieces(q, offset, v, flags);
    return qcow2_room_co_retry(q, ret) ? co_write_pieces(q, offset, v, flags) : ret;
}

int coroutine_fn qcow2_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v, unsigned flags)
{
    Qcow2 *q = bs->opaque;
    int ret = qcow2_health_may_write(&q->health);

    g_assert(offset >= 0 && v->size > 0);
    ret = ret < 0 ? ret : qcow2_change_co_begin(q, QCOW2_CHANGE_DISK | QCOW2_CHANGE_IMAGE);
    ret = ret < 0 ? ret : qcow2_track_co_begin(q, (uint64_t)offset, v->size);
    flags &= ~(unsigned)BLK_REQ_FUA; /* the core flushes after us, metadata included */
    return ret < 0 ? ret : qcow2_write_co_guest(q, (uint64_t)offset, v, flags);
}
