/* SPDX-License-Identifier: MIT */
/* The common parts of changes of snapshots: see snapshot-change.h. */
#include "snapshot-change.h"

#include "alloc.h"
#include "change.h"
#include "dirty.h"
#include "flush.h"
#include "header-layout.h"
#include "l2-table.h"
#include "reap.h"
#include "refcount.h"
#include "room.h"
#include "rules.h"
#include "search.h"
#include "share.h"
#include "sharing.h"
#include "util/bytes.h"

#include <errno.h>

/* ---- Begin and end ---- */

static bool is_dirty(const Qcow2 *q) REQUIRES_LOCK(q->flush_lock)
{
    return (q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY) != 0;
}

/* Between flushes of the guest: none takes the bit in memory for what is on the disk. */
static int coroutine_fn co_set_dirty(Qcow2 *q)
{
    int ret = 0;

    co_mutex_lock(&q->flush_lock);
    if (q->geo.version >= 3 && !is_dirty(q)) {
        ret = qcow2_dirty_co_set(q);
    }
    co_mutex_unlock(&q->flush_lock);
    return ret;
}

static int coroutine_fn co_clear_dirty(Qcow2 *q)
{
    int ret = 0;

    co_mutex_lock(&q->flush_lock);
    if (is_dirty(q) && !q->stays_dirty && !q->lazy_refcounts) {
        ret = qcow2_dirty_co_clear(q);
    }
    co_mutex_unlock(&q->flush_lock);
    return ret;
}

int coroutine_fn qcow2_snapshot_change_co_begin(Qcow2 *q, unsigned what)
{
    int ret = qcow2_health_may_write(&q->health);

    ret = ret < 0 ? ret : qcow2_change_co_begin(q, what);
    ret = ret < 0 ? ret : qcow2_flush_co_all(q);
    return ret < 0 ? ret : co_set_dirty(q);
}

int coroutine_fn qcow2_snapshot_change_co_end(Qcow2 *q, int ret)
{
    int end = qcow2_flush_co_all(q);

    end = end < 0 ? end : co_clear_dirty(q);
    if (ret == 0 && end < 0) { /* done, and on the disk; what is left to do the close tries again */
        return qcow2_health_may_write(&q->health);
    }
    return ret;
}

/* ---- Counts ---- */

void coroutine_fn qcow2_snapshot_change_co_look_ahead(Qcow2 *q)
{
    uint64_t c = 0, from;

    do {
        co_reschedule_self();
        co_mutex_lock(&q->alloc.meta_lock);
        from = c;
        qcow2_search_co_look_ahead(&q->alloc, &c);
        co_mutex_unlock(&q->alloc.meta_lock);
    } while (c > from && c < qcow2_search_file_end(&q->alloc));
}

uint64_t *qcow2_snapshot_change_copy_l1(Qcow2 *q)
{
    uint64_t *l1 = g_try_new(uint64_t, MAX(q->l1_size, 1));

    for (uint32_t i = 0; l1 && i < q->l1_size; i++) {
        l1[i] = atomic_load(&q->l1[i]) & QCOW2_OFFSET_MASK;
    }
    return l1;
}

/* L2 tables in their order on the host, so that they are read and written in it. */
typedef struct TableOrder {
    uint64_t *index; /* of L1 entries */
    uint64_t n;
    unsigned unflushed; /* looks for room since the last flush */
} TableOrder;

static int by_place(gconstpointer a, gconstpointer b, gpointer l1)
{
    uint64_t x = ((const uint64_t *)l1)[*(const uint64_t *)a];
    uint64_t y = ((const uint64_t *)l1)[*(const uint64_t *)b];

    return x < y ? -1 : x > y;
}

static int order_tables(TableOrder *o, const uint64_t *l1, uint64_t n)
{
    *o = (TableOrder){ .index = g_try_new(uint64_t, MAX(n, 1)) };
    if (!o->index) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < n; i++) {
        if (l1[i]) {
            o->index[o->n++] = i;
        }
    }
    if (o->n) {
        g_qsort_with_data(o->index, (gint)o->n, sizeof(*o->index), by_place, (gpointer)l1);
    }
    return 0;
}

/* The table is in the cache, most likely, when the lock is taken. Whatever fails does so again. */
static void coroutine_fn co_fetch(Qcow2 *q, uint64_t i, uint64_t table)
{
    unsigned n = qcow2_l2_table_slice_entries(q);
    MetaSlice *s;

    for (uint64_t at = 0; at < UINT64_C(1) << q->geo.l2_bits; at += n) {
        if (geo_in_cluster(&q->geo, table) || qcow2_l2_table_co_load(q, i, table, at, &s) < 0) {
            return;
        }
        qcow2_cache_put(q->l2_cache, s);
    }
}

static bool is_filling(MetaCache *c)
{
    return qcow2_cache_dirty_bytes(c) > qcow2_cache_budget(c) / 4;
}

#define REAP_BY_FLUSH 1024
/* A busy guest makes dirty as fast as we flush: so often, and not each time. */
#define LOOKS_BY_FLUSH 8

/* Before a table is looked at: requests of this loop get their turn, and there is room for what
 * will be dirty. Sooner than requests make some, so that they need not wait for a flush. */
static int coroutine_fn co_make_room(Qcow2 *q, unsigned *unflushed)
{
    int ret = 0;

    co_reschedule_self();
    if (++*unflushed >= LOOKS_BY_FLUSH &&
        (is_filling(q->l2_cache) || is_filling(q->alloc.ref_cache))) {
        ret = qcow2_flush_co_metadata(q, true);
        (void)qcow2_reap_co_some(q, REAP_BY_FLUSH); /* no request is to do that for us */
        *unflushed = 0;
    }
    return ret < 0 ? ret : qcow2_room_co_make(q);
}

/* So many tables are worked on in one hold of meta_lock: 2 ms, with clusters of 64 KiB. A guest
 * waits no longer, and the lock, which is handed on in turn, is not waited for table by table. */
#define BATCH 4

/* Of L1 entry @i of the table in question. */
typedef bool WantsTable(const Qcow2 *q, uint64_t i);

/* The next tables that are wanted, from @o's *@at on, in the cache, and room for what will be
 * dirty: their L1 indices in @batch. How many; or -errno, with *@at and the batch as they are
 * then. */
static int coroutine_fn co_next_batch(Qcow2 *q, TableOrder *o, const uint64_t *l1,
                                      WantsTable *wants, uint64_t *at, uint64_t batch[BATCH],
                                      unsigned *n)
{
    int ret = co_make_room(q, &o->unflushed);

    for (*n = 0; *n < BATCH && *at < o->n; ++*at) {
        uint64_t i = o->index[*at];

        if (wants(q, i)) {
            co_fetch(q, i, l1[i]);
            batch[(*n)++] = i;
        }
    }
    return ret;
}

static int coroutine_fn co_mend(Qcow2 *q, uint64_t i)
{
    int ret;

    co_mutex_lock(&q->alloc.meta_lock);
    ret = qcow2_share_co_mend(q, i);
    co_mutex_unlock(&q->alloc.meta_lock);
    if (ret < 0) {
        q->stays_dirty = true; /* COPIED is missing somewhere: no harm, and the next writer looks */
    }
    return ret;
}

static int coroutine_fn co_remove_batch(Qcow2 *q, const uint64_t *l1, const uint64_t *batch,
                                        unsigned n) REQUIRES_LOCK(q->alloc.meta_lock)
{
    int ret = 0, r;

    for (unsigned k = 0; k < n; k++) {
        r = qcow2_share_co_remove(q, batch[k], l1[batch[k]]);
        ret = ret < 0 ? ret : r;
    }
    for (unsigned k = 0; k < n; k++) {
        r = qcow2_share_co_mend(q, batch[k]);
        ret = ret < 0 ? ret : r;
    }
    return ret;
}

static int coroutine_fn co_remove(Qcow2 *q, const uint64_t *l1, uint64_t n, WantsTable *wants)
{
    g_autofree uint64_t *index = NULL;
    uint64_t at = 0, batch[BATCH];
    TableOrder o;
    int ret = order_tables(&o, l1, n);

    index = o.index;
    while (at < o.n) {
        unsigned got;
        int r;

        /* (Whether there is room or not: dirty slices may exceed the cache.) */
        (void)co_next_batch(q, &o, l1, wants, &at, batch, &got);
        co_mutex_lock(&q->alloc.meta_lock);
        r = co_remove_batch(q, l1, batch, got);
        co_mutex_unlock(&q->alloc.meta_lock);
        ret = ret < 0 ? ret : r;
    }
    if (ret < 0) {
        q->stays_dirty = true;
    }
    return ret;
}

static bool wants_all(const Qcow2 *q, uint64_t i)
{
    return true;
}

int coroutine_fn qcow2_snapshot_change_co_remove(Qcow2 *q, const uint64_t *l1, uint64_t n)
{
    return co_remove(q, l1, n, wants_all);
}

static int coroutine_fn co_add_one(Qcow2 *q, uint64_t i, uint64_t table, unsigned *unflushed)
{
    int ret = co_make_room(q, unflushed);

    co_fetch(q, i, table);
    co_mutex_lock(&q->alloc.meta_lock);
    ret = ret < 0 ? ret : qcow2_share_co_add(q, i, table);
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

int coroutine_fn qcow2_snapshot_change_co_add(Qcow2 *q, const uint64_t *l1, uint64_t n)
{
    unsigned unflushed = 0;
    uint64_t i;
    int ret = 0;

    for (i = 0; i < n && ret == 0; i++) {
        ret = l1[i] ? co_add_one(q, i, l1[i], &unflushed) : 0;
    }
    if (ret < 0) {
        (void)qcow2_snapshot_change_co_remove(q, l1, i - 1);
        (void)co_mend(q, i - 1);
    }
    return ret;
}

int coroutine_fn qcow2_snapshot_change_co_share(Qcow2 *q, const uint64_t *l1, uint32_t n)
{
    g_autofree uint64_t *index = NULL;
    uint64_t at = 0, batch[BATCH];
    TableOrder o;
    int ret = order_tables(&o, l1, n);

    index = o.index;
    while (at < o.n && ret == 0) {
        unsigned got;

        ret = co_next_batch(q, &o, l1, qcow2_sharing_is_pending, &at, batch, &got);
        co_mutex_lock(&q->alloc.meta_lock);
        for (unsigned k = 0; k < got && ret == 0; k++) {
            ret = qcow2_sharing_co_count(q, batch[k]);
        }
        co_mutex_unlock(&q->alloc.meta_lock);
    }
    qcow2_sharing_co_end(q);
    return ret < 0 ? ret : qcow2_sharing_failure(q);
}

/* Where the header may name what is given up, once it does not. */
static int coroutine_fn co_leave_doubt(Qcow2 *q)
{
    bool doubt;

    co_mutex_lock(&q->alloc.meta_lock);
    doubt = q->header_in_doubt;
    co_mutex_unlock(&q->alloc.meta_lock);
    return doubt ? qcow2_flush_co_metadata(q, true) : 0;
}

void coroutine_fn qcow2_snapshot_change_co_unshare(Qcow2 *q, const uint64_t *l1, uint32_t n)
{
    int ret = co_leave_doubt(q);

    qcow2_sharing_co_end(q);
    ret = ret < 0 ? ret : co_remove(q, l1, n, qcow2_sharing_has_counted);
    if (ret == 0 && q->sharing.failed) {
        ret = co_mend(q, q->sharing.failed_at);
    }
    if (ret < 0) {
        q->stays_dirty = true;
    }
}

void coroutine_fn qcow2_snapshot_change_co_undo(Qcow2 *q, const uint64_t *l1, uint64_t n)
{
    if (co_leave_doubt(q) < 0 || qcow2_snapshot_change_co_remove(q, l1, n) < 0) {
        q->stays_dirty = true;
    }
}

/* ---- Tables ---- */

int coroutine_fn qcow2_snapshot_change_co_write_l1(Qcow2 *q, const uint64_t *l1, uint64_t n,
                                                   uint64_t *offset)
{
    uint64_t whole = ALIGN_UP(n * 8, q->geo.cluster_size), place = 0;
    g_autofree uint8_t *buf = NULL;
    int ret;

    *offset = 0;
    if (n == 0) {
        return 0;
    }
    buf = g_try_malloc0(whole);
    if (!buf) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < n; i++) {
        stbe64(buf + i * 8, l1[i]);
    }
    co_mutex_lock(&q->alloc.meta_lock);
    ret = qcow2_alloc_co_clusters(&q->alloc, whole >> q->geo.cluster_bits, &place);
    co_mutex_unlock(&q->alloc.meta_lock);
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_pwrite(q->file, (int64_t)place, (int64_t)whole, buf, 0);
    if (ret < 0) {
        qcow2_snapshot_change_co_drop(q, place, whole);
        return ret;
    }
    *offset = place;
    return 0;
}

void coroutine_fn qcow2_snapshot_change_co_drop(Qcow2 *q, uint64_t offset, uint64_t bytes)
{
    if (offset && bytes) {
        co_mutex_lock(&q->alloc.meta_lock);
        qcow2_quarantine_add(q->quarantine, offset, ALIGN_UP(bytes, q->geo.cluster_size),
                             q->discard_snapshot);
        co_mutex_unlock(&q->alloc.meta_lock);
    }
}

/* The header names the table at @offset. */
static int coroutine_fn co_name_table(Qcow2 *q, Snapshot *list, uint32_t n, uint64_t offset)
{
    Qcow2Header h;
    int ret;

    co_mutex_lock(&q->alloc.meta_lock);
    h = q->hdr;
    h.nb_snapshots = n;
    h.snapshots_offset = offset;
    ret = qcow2_flush_co_header_fields(q, &h, HEADER_AT(nb_snapshots), HEADER_AT(incompatible));
    if (ret == 0) {
        uint64_t old = qcow2_snapshot_table_bytes(q->snapshots, q->hdr.nb_snapshots);

        if (old) {
            qcow2_metadata_remove(q->metadata, q->hdr.snapshots_offset, old);
            qcow2_quarantine_add(q->quarantine, q->hdr.snapshots_offset,
                                 ALIGN_UP(old, q->geo.cluster_size), q->discard_snapshot);
        }
        if (n) {
            qcow2_metadata_add(q->metadata, offset, qcow2_snapshot_table_bytes(list, n),
                               "snapshot table");
        }
        q->hdr.nb_snapshots = n;
        q->hdr.snapshots_offset = offset;
        g_free(q->snapshots); /* what its elements own is in @list, or the caller's */
        q->snapshots = list;
    }
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

int coroutine_fn qcow2_snapshot_change_co_install(Qcow2 *q, Snapshot *list, uint32_t n)
{
    uint64_t offset;
    int ret = qcow2_snapshot_co_write_table(q, list, n, &offset);

    if (ret == 0 && !RULE_BROKEN(COUNTED_BEFORE_SNAPSHOT)) {
        ret = qcow2_flush_co_metadata(q, true);
        ret = ret < 0 ? ret : qcow2_health_co_sync(&q->health, q->file->bs);
    }
    ret = ret < 0 ? ret : co_name_table(q, list, n, offset);
    if (ret < 0) { /* the header may name it where that is in doubt: until a flush has ended well */
        qcow2_snapshot_change_co_drop(q, offset, qcow2_snapshot_table_bytes(list, n));
    }
    return ret;
}
