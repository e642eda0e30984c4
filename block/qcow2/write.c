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
 * INV-WR-1  Between plan and finish the entries of the run change by no other hand: all who change
 *           entries wait for its InflightAlloc.
 * INV-WR-2  Whoever waits for an InflightAlloc holds none. (Several pieces of one request may be in
 *           flight: each is held by a coroutine of its own, which waits for none.)
 * INV-WR-3  A request is pinned from before its first lookup to after its last I/O.
 */
#include "rules.h"
#include "write-int.h"
#include "util/co-pieces.h"

/* ---- In-flight allocations ---- */

void inflight_begin(Qcow2 *q, InflightAlloc *a, uint64_t first, uint64_t last)
{
    a->first = first;
    a->last = last;
    co_queue_init(&a->waiters);
    a->next = q->inflight_allocs;
    a->pprev = &q->inflight_allocs;
    if (a->next) {
        a->next->pprev = &a->next;
    }
    q->inflight_allocs = a;
}

void inflight_end(Qcow2 *q, InflightAlloc *a)
{
    *a->pprev = a->next;
    if (a->next) {
        a->next->pprev = a->pprev;
    }
    co_queue_all(&a->waiters);
}

uint64_t inflight_next(Qcow2 *q, uint64_t cluster)
{
    uint64_t next = UINT64_MAX;

    for (InflightAlloc *a = q->inflight_allocs; a; a = a->next) {
        if (a->first > cluster) {
            next = MIN(next, a->first);
        }
    }
    return next;
}

static InflightAlloc *find_inflight(Qcow2 *q, uint64_t first, uint64_t last)
{
    InflightAlloc *a = q->inflight_allocs;

    while (a && (a->first > last || a->last < first)) {
        a = a->next;
    }
    return a;
}

bool coroutine_fn qcow2_co_wait_allocs(Qcow2 *q, uint64_t guest, uint64_t bytes)
{
    uint64_t first = guest >> q->geo.cluster_bits;
    uint64_t last = (guest + bytes - 1) >> q->geo.cluster_bits;
    bool waited = false;
    InflightAlloc *a;

    while ((a = find_inflight(q, first, last)) && !RULE_BROKEN(ALLOCS_WAIT)) {
        co_queue_wait(&a->waiters, &q->meta_lock);
        waited = true;
    }
    return waited;
}

int coroutine_fn entry_co_check(Qcow2 *q, L2Entry e, uint64_t guest)
{
    const char *defect = l2_defect(&q->geo, e, guest);

    return defect ? qcow2_co_corrupt(q, "L2 entry", guest, defect) : 0;
}

/* ---- Plan ---- */

/* How many entries from the run's first on can be treated like it. */
static int coroutine_fn count_alike(Qcow2 *q, const WriteRun *r, L2Entry e0, bool in_place,
                                    uint64_t max, uint64_t *n)
{
    const Geometry *g = &q->geo;

    for (*n = 1; *n < max; ++*n) {
        L2Entry e = l2_load(g, r->slice->data, r->index + *n);
        int ret = entry_co_check(q, e, (r->first + *n) << g->cluster_bits);

        if (ret < 0) {
            return ret;
        }
        if (entry_in_place(g, e) != in_place ||
            (in_place && l2_host(g, e) != l2_host(g, e0) + (*n << g->cluster_bits))) {
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
    e = l2_load(&q->geo, r->slice->data, r->index - 1);
    return entry_in_place(&q->geo, e) ? l2_host(&q->geo, e) + q->geo.cluster_size : 0;
}

/* Is it certain that nothing was ever written at @host or after? INV-COW-1 */
static bool is_beyond_eof(Qcow2 *q, uint64_t host)
{
    if (RULE_BROKEN(STALE_NOT_ZERO)) {
        return true;
    }
    return !atomic_load(&q->fresh_unsafe) &&
           (int64_t)host >= atomic_load(&q->data->bs->total_bytes) &&
           bdrv_unwritten_reads_zero(q->data->bs);
}

static int coroutine_fn allocate_run(Qcow2 *q, WriteRun *r)
{
    uint64_t got;
    int ret;

    if (q->geo.external_data) {
        r->host = r->first << q->geo.cluster_bits;
        r->fresh = false;
        r->beyond_eof = is_beyond_eof(q, r->host);
        return 0;
    }
    ret = qcow2_co_alloc_upto(q, wanted_host(q, r), r->n, &r->host, &got);
    if (ret < 0) {
        return ret;
    }
    r->n = got;
    r->fresh = true;
    r->beyond_eof = is_beyond_eof(q, r->host);
    return 0;
}

/* Fill in @r for a prefix of guest [start, start + bytes). Under meta_lock. On success the slice is
 * held and the run is in flight. */
static int coroutine_fn plan_run(Qcow2 *q, uint64_t start, uint64_t bytes, WriteRun *r)
{
    const Geometry *g = &q->geo;
    uint64_t max, cluster = start >> g->cluster_bits;
    L2Entry e0, e1;
    bool in_place;
    int ret;

    for (;;) {
        ret = qcow2_co_l2_get_writable(q, start, &r->slice, &r->index);
        if (ret < 0) {
            return ret;
        }
        if (!qcow2_co_wait_allocs(q, start, 1)) { /* INV-WR-2 */
            break;
        }
        meta_cache_put(q->l2_cache, r->slice);
    }
    max = ((start + bytes - 1) >> g->cluster_bits) - cluster + 1;
    max = MIN(max, l2_slice_entries(q) - r->index);
    max = MIN(max, inflight_next(q, cluster) - cluster);
    r->first = cluster;
    r->fresh = r->beyond_eof = false;
    e0 = l2_load(g, r->slice->data, r->index);
    ret = entry_co_check(q, e0, cluster << g->cluster_bits);
    in_place = entry_in_place(g, e0);
    if (ret == 0) {
        ret = count_alike(q, r, e0, in_place, max, &r->n);
    }
    if (ret == 0 && in_place) {
        r->host = l2_host(g, e0);
        if (!g->external_data && qcow2_metadata_at(q, r->host, r->n << g->cluster_bits)) {
            ret = qcow2_co_corrupt(q, "write", r->host, "Preventing invalid write on metadata");
        }
    } else if (ret == 0) {
        ret = allocate_run(q, r);
    }
    if (ret < 0) {
        meta_cache_put(q->l2_cache, r->slice);
        return ret;
    }
    e1 = l2_load(g, r->slice->data, r->index + r->n - 1);
    r->start = start;
    r->end = MIN(start + bytes, (r->first + r->n) << g->cluster_bits);
    r->cow_start = cow_begin(g, e0, in_place, start);
    r->cow_end = cow_finish(g, e1, in_place, r->end);
    r->head_zero = entry_reads_zero(q, e0, r->cow_start, r->start);
    r->tail_zero = entry_reads_zero(q, e1, r->end, r->cow_end);
    r->merge = r->n == 1 && (e0.desc & L2E_COMPRESSED);
    inflight_begin(q, &r->inflight, r->first, r->first + r->n - 1);
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
        return l2_make_normal(g, r->host + (i << g->cluster_bits));
    }
    if (!entry_in_place(g, old)) {
        e = l2_make_host_only(g, r->host + (i << g->cluster_bits));
        e.bitmap = old.desc & L2E_COMPRESSED ? 0 : old.bitmap;
    }
    return l2_set_allocated(g, e, first, last - first + 1);
}

static bool lets_go(const Geometry *g, L2Entry old)
{
    return !entry_in_place(g, old) && ((old.desc & L2E_COMPRESSED) || l2_has_host(g, old));
}

/* Store entries [i, i + n) of the run. */
static void store_entries(Qcow2 *q, const WriteRun *r, uint64_t i, uint64_t n)
{
    const Geometry *g = &q->geo;

    meta_cache_modify_begin(q->l2_cache, r->slice);
    for (uint64_t end = i + n; i < end; i++) {
        L2Entry old = l2_load(g, r->slice->data, r->index + i);

        l2_store(g, r->slice->data, r->index + i, new_entry(g, r, i, old));
    }
    meta_cache_modify_end(q->l2_cache, r->slice);
}

/* Under meta_lock; no yield between an entry's change and its old cluster's quarantine
 * (INV-W-4). */
static void link_run(Qcow2 *q, const WriteRun *r)
{
    const Geometry *g = &q->geo;

    for (uint64_t i = 0, n; i < r->n; i += n) {
        L2Entry old = l2_load(g, r->slice->data, r->index + i);

        n = 1;
        if (lets_go(g, old)) {
            store_entries(q, r, i, 1);
            qcow2_free_entry_later(q, old, q->discard_other);
            continue;
        }
        while (i + n < r->n && !lets_go(g, l2_load(g, r->slice->data, r->index + i + n))) {
            n++;
        }
        store_entries(q, r, i, n);
    }
}

/* Under meta_lock: publish, or undo what was never published. */
static void coroutine_fn finish_run(Qcow2 *q, WriteRun *r, int ret)
{
    if (ret == 0) {
        bdrv_co_debug_event(q->file, BLKDBG_L2_UPDATE);
        link_run(q, r);
    } else {
        atomic_store(&q->fresh_unsafe, true); /* the file may have grown by part of the write */
        if (r->fresh) {
            qcow2_co_free_unused(q, r->host, r->n << q->geo.cluster_bits);
        }
    }
    inflight_end(q, &r->inflight);
    meta_cache_put(q->l2_cache, r->slice);
}

/* INV-RAW-2: the entries show the file before the guest's data gets there, so that a write that
 * fails in its middle is in both or in none; nothing is left to fill in. */
static int coroutine_fn link_raw(Qcow2 *q, WriteRun *r)
{
    int ret = raw_co_prepare(q, r);

    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&q->meta_lock);
    link_run(q, r);
    co_mutex_unlock(&q->meta_lock);
    r->cow_start = r->start;
    r->cow_end = r->end;
    return 0;
}

/* ---- The request ---- */

/* The run at the head of the range, planned and in flight. */
static int coroutine_fn co_plan(Qcow2 *q, uint64_t offset, uint64_t bytes, WriteRun *r)
{
    int ret;

    co_mutex_lock(&q->meta_lock);
    ret = plan_run(q, offset, bytes, r);
    if (ret == 0 && RULE_BROKEN(LINK_AFTER_WRITE)) {
        link_run(q, r);
    }
    co_mutex_unlock(&q->meta_lock);
    return ret;
}

/* @v is the guest's data; @ret < 0: only the undo. */
static int coroutine_fn co_run_planned(Qcow2 *q, WriteRun *r, IOVector *v, unsigned flags, int ret)
{
    ret = ret == 0 && qcow2_file_is_disk(q) ? link_raw(q, r) : ret;
    ret = ret < 0 ? ret : cow_co_write(q, r, v, 0, flags);
    co_mutex_lock(&q->meta_lock);
    finish_run(q, r, ret);
    co_mutex_unlock(&q->meta_lock);
    return ret;
}

/* Is the prefix readable and ours, so that it may be written in place? Its bytes (0: needs a plan)
 * or -errno. Pinned. */
static int64_t coroutine_fn co_find_in_place(Qcow2 *q, uint64_t offset, uint64_t bytes,
                                             uint64_t *host)
{
    Extent x;
    int ret = qcow2_co_map(q, offset, bytes, &x);

    if (ret < 0) {
        return ret;
    }
    if (x.kind != SC_NORMAL || (!l2_copied(x.entry) && !RULE_BROKEN(SHARED_NOT_IN_PLACE))) {
        return 0;
    }
    if (!q->geo.external_data && unlikely(qcow2_metadata_at(q, x.host, x.bytes))) {
        return qcow2_co_corrupt(q, "write", x.host, "Preventing invalid write on metadata");
    }
    *host = x.host;
    return (int64_t)x.bytes;
}

static int coroutine_fn co_write_in_place(Qcow2 *q, uint64_t host, IOVector *v, unsigned flags)
{
    bdrv_co_debug_event(q->data, BLKDBG_WRITE_AIO);
    return bdrv_co_pwritev(q->data, host, v, flags);
}

/* ---- Requests that are no overwrite of one extent ---- */

typedef struct WritePiece {
    Qcow2 *q;
    unsigned pin, flags;
    uint64_t bytes;
    bool planned; /* run; else an overwrite at host */
    uint64_t host;
    WriteRun run;
    IOVector part, *v; /* v: the piece's data */
    int ret;           /* < 0: no memory for it */
} WritePiece;

/* What the piece at the head of the range is; on success it is pinned. */
static int coroutine_fn co_plan_piece(Qcow2 *q, uint64_t offset, uint64_t bytes, WritePiece *p)
{
    int64_t n;

    p->pin = qcow2_pin_enter(q); /* INV-WR-3 */
    n = co_find_in_place(q, offset, bytes, &p->host);
    p->planned = n == 0;
    if (n == 0) {
        /* Relieve sleeps for others: without our pin, which would hold up the quarantine. */
        qcow2_pin_leave(q, p->pin);
        n = qcow2_co_relieve(q);
        if (n < 0) {
            return n;
        }
        p->pin = qcow2_pin_enter(q);
        n = co_plan(q, offset, bytes, &p->run);
        n = n < 0 ? n : (int64_t)(p->run.end - p->run.start);
    }
    if (n < 0) {
        qcow2_pin_leave(q, p->pin);
        return n;
    }
    p->bytes = n;
    return 0;
}

static int coroutine_fn co_write_piece(void *opaque)
{
    WritePiece *p = opaque;
    int ret = p->ret;

    if (p->planned) {
        ret = co_run_planned(p->q, &p->run, p->v, p->flags, ret);
    } else {
        ret = ret < 0 ? ret : co_write_in_place(p->q, p->host, p->v, p->flags);
    }
    qcow2_pin_leave(p->q, p->pin);
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
        p->flags = flags;
        p->v = p->bytes == v->size ? v : &p->part;
        p->ret = p->v == v ? 0 : iov_cursor_take(&at, &p->part, p->bytes);
        offset += p->bytes;
        if (offset == end) {
            ret = co_write_piece(p);
        } else {
            co_pieces_begin(&pieces, slot, co_write_piece, p);
        }
    }
    return co_pieces_end(&pieces, ret);
}

int coroutine_fn qcow2_co_write(Qcow2 *q, uint64_t offset, IOVector *v, unsigned flags)
{
    unsigned pin = qcow2_pin_enter(q); /* INV-WR-3 */
    uint64_t host;
    int64_t n = co_find_in_place(q, offset, v->size, &host);
    int ret = n < 0 ? (int)n : 0;

    if (likely(n == (int64_t)v->size)) {
        ret = co_write_in_place(q, host, v, flags);
    }
    qcow2_pin_leave(q, pin);
    if (ret < 0 || n == (int64_t)v->size) {
        return ret;
    }
    ret = co_write_pieces(q, offset, v, flags);
    return qcow2_co_retry(q, ret) ? co_write_pieces(q, offset, v, flags) : ret;
}

int coroutine_fn qcow2_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v, unsigned flags)
{
    Qcow2 *q = bs->opaque;
    int ret = qcow2_may_write(q);

    ret = ret < 0 ? ret : qcow2_co_begin_change(q, QCOW2_CHANGE_DISK | QCOW2_CHANGE_IMAGE);
    flags &= ~(unsigned)BLK_REQ_FUA; /* the core flushes after us, metadata included */
    return ret < 0 ? ret : qcow2_co_write(q, (uint64_t)offset, v, flags);
}
