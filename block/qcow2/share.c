/* SPDX-License-Identifier: MIT */
/* Tables that several L1 tables name: see share.h. */
#include "share.h"

#include "entry.h"
#include "l1.h"
#include "l2-table.h"
#include "refcount.h"
#include "refcount-codec.h"
#include "rules.h"

/* ---- What a table refers to ---- */

static int compare_clusters(gconstpointer a, gconstpointer b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void add_clusters(const Geometry *g, GArray *all, L2Entry e)
{
    uint64_t host, bytes = g->cluster_size;

    if (e.desc & L2E_COMPRESSED) {
        qcow2_l2_compressed_range(g, e, &host, &bytes);
    } else if (qcow2_l2_has_host(g, e)) {
        host = qcow2_l2_host(g, e);
    } else {
        return;
    }
    for (uint64_t c = host >> g->cluster_bits; c <= (host + bytes - 1) >> g->cluster_bits; c++) {
        g_array_append_val(all, c);
    }
}

/* The next slice of the table at @table, which entry @at is in; held. */
static int coroutine_fn next_slice(Qcow2 *q, uint64_t l1_index, uint64_t table, uint64_t at,
                                   MetaSlice **s) REQUIRES_LOCK(q->alloc.meta_lock)
{
    if (geo_in_cluster(&q->geo, table)) {
        return qcow2_health_co_corrupt(&q->health, "L1 entry", (int64_t)l1_index,
                                       "L2 table offset is not aligned");
    }
    return qcow2_l2_table_co_load(q, l1_index, table, at, s);
}

static uint64_t guest_of(const Qcow2 *q, uint64_t l1_index, uint64_t entry)
{
    return (l1_index << q->geo.l2_bits | entry) << q->geo.cluster_bits;
}

/* Sorted; a cluster that several compressed ones share is there as often; with the table's own. */
static int coroutine_fn co_collect(Qcow2 *q, uint64_t l1_index, uint64_t table, GArray *all)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    unsigned n = qcow2_l2_table_slice_entries(q);
    uint64_t own = table >> q->geo.cluster_bits;
    int ret = 0;

    for (uint64_t at = 0; at < UINT64_C(1) << q->geo.l2_bits && ret == 0; at += n) {
        MetaSlice *s;

        ret = next_slice(q, l1_index, table, at, &s);
        if (ret < 0) {
            break;
        }
        for (unsigned i = 0; i < n && ret == 0; i++) {
            L2Entry e = qcow2_l2_load(&q->geo, s->data, i);

            if (e.desc || e.bitmap) {
                ret = qcow2_entry_co_check(q, e, guest_of(q, l1_index, at + i));
            }
            if (ret == 0) {
                add_clusters(&q->geo, all, e);
            }
        }
        qcow2_cache_put(q->l2_cache, s);
    }
    g_array_append_val(all, own);
    g_array_sort(all, compare_clusters);
    return ret;
}

static uint64_t cluster_at(const GArray *all, guint i)
{
    return g_array_index(all, uint64_t, i);
}

/* How many from @i on follow each other. */
static guint run_length(const GArray *all, guint i)
{
    guint n = 1;

    while (i + n < all->len && cluster_at(all, i + n) == cluster_at(all, i) + n) {
        n++;
    }
    return n;
}

/* ---- Counts ---- */

/* The first @max of @all; *done of them. */
static int coroutine_fn co_change_counts(Qcow2 *q, const GArray *all, guint max, int delta,
                                         guint *done) REQUIRES_LOCK(q->alloc.meta_lock)
{
    int ret = 0;

    for (*done = 0; *done < max && ret == 0;) {
        guint n = MIN(run_length(all, *done), max - *done);

        ret = qcow2_refcount_co_change(&q->alloc, cluster_at(all, *done), n, delta);
        *done += ret == 0 ? n : 0;
    }
    return ret;
}

/* The counts of clusters that are asked for in their order, as a rule: one look-up a slice. */
typedef struct CountReader {
    Qcow2 *q;
    MetaSlice *slice;
    uint64_t first; /* cluster that the slice begins with */
} CountReader;

static void reader_clear(CountReader *r)
{
    if (r->slice) {
        qcow2_cache_put(r->q->alloc.ref_cache, r->slice);
    }
    r->slice = NULL;
}

static int coroutine_fn reader_co_get(Qcow2 *q, CountReader *r, uint64_t cluster, uint64_t *count)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    uint64_t per = qcow2_refcount_slice_entries(&q->alloc), index;
    int ret;

    if (!r->slice || cluster - r->first >= per) {
        reader_clear(r);
        ret = qcow2_refcount_co_slice(&q->alloc, cluster, &r->slice, &index);
        if (ret < 0 || !r->slice) {
            r->slice = NULL;
            *count = 0;
            return ret;
        }
        r->first = cluster - index;
    }
    *count = qcow2_refcount_codec_get(q->geo.refcount_order, r->slice->data, cluster - r->first);
    return 0;
}

/* ---- COPIED ---- */

/* @reader's count of @cluster. */
static int coroutine_fn co_read_count(Qcow2 *q, uint64_t cluster, uint64_t *count, void *reader)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    return reader_co_get(q, reader, cluster, count);
}

/* What is counted now, others will refer to as well. */
static int coroutine_fn co_count_shared(Qcow2 *q, uint64_t cluster, uint64_t *count, void *opaque)
{
    *count = 2;
    return 0;
}

/* 1: flags changed; 0: none; or -errno. */
static int coroutine_fn co_flag_slice(Qcow2 *q, MetaSlice *s, ShareCount *co_count, void *opaque)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    bool changed = false;
    uint64_t count;
    int ret = 0;

    for (unsigned i = 0; i < qcow2_l2_table_slice_entries(q) && ret == 0; i++) {
        L2Entry e = qcow2_l2_load(&q->geo, s->data, i);

        if ((e.desc & L2E_COMPRESSED) || !qcow2_l2_has_host(&q->geo, e)) {
            continue;
        }
        ret = co_count(q, qcow2_l2_host(&q->geo, e) >> q->geo.cluster_bits, &count, opaque);
        if (ret < 0 || (count == 1) == qcow2_l2_copied(e)) {
            continue;
        }
        e.desc ^= L2E_COPIED;
        qcow2_cache_modify_begin(q->l2_cache, s);
        qcow2_l2_store(&q->geo, s->data, i, e);
        qcow2_cache_modify_end(q->l2_cache, s);
        changed = true;
    }
    return ret < 0 ? ret : changed;
}

static int coroutine_fn co_flag_table(Qcow2 *q, uint64_t l1_index, uint64_t table,
                                      ShareCount *co_count, void *opaque)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    unsigned n = qcow2_l2_table_slice_entries(q);
    bool changed = false;

    for (uint64_t at = 0; at < UINT64_C(1) << q->geo.l2_bits; at += n) {
        MetaSlice *s;
        int ret = next_slice(q, l1_index, table, at, &s);

        if (ret == 0) {
            ret = co_flag_slice(q, s, co_count, opaque);
            qcow2_cache_put(q->l2_cache, s);
        }
        if (ret < 0) {
            return ret;
        }
        changed |= ret > 0;
    }
    return changed;
}

/* The same for callers that do not ask whether any changed. */
static int flags_done(int ret)
{
    if (ret > 0) {
        CASE_MET(FLAGS_CHANGED);
    }
    return MIN(ret, 0);
}

int coroutine_fn qcow2_share_co_mend_by(Qcow2 *q, uint64_t l1_index, ShareCount *co_count,
                                        void *opaque)
{
    uint64_t e = l1_index < q->l1_size ? atomic_load(&q->l1[l1_index]) : 0, count;
    uint64_t table = e & QCOW2_OFFSET_MASK;
    int ret, changed;

    if (!table) {
        return 0;
    }
    changed = co_flag_table(q, l1_index, table, co_count, opaque);
    ret = changed < 0 ? changed : co_count(q, table >> q->geo.cluster_bits, &count, opaque);
    if (ret < 0) {
        return ret;
    }
    if ((count == 1) != ((e & L2E_COPIED) != 0)) {
        qcow2_l1_set(q, (uint32_t)l1_index, e ^ L2E_COPIED);
        changed = 1;
    }
    return changed;
}

int coroutine_fn qcow2_share_co_mend(Qcow2 *q, uint64_t l1_index)
{
    CountReader r = { .q = q };
    int ret = flags_done(qcow2_share_co_mend_by(q, l1_index, co_read_count, &r));

    reader_clear(&r);
    return ret;
}

/* ---- One more, one less ---- */

int coroutine_fn qcow2_share_co_add(Qcow2 *q, uint64_t l1_index, uint64_t table)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    guint done, undone;
    int ret = co_collect(q, l1_index, table, all);

    if (ret < 0) {
        return ret;
    }
    ret = co_change_counts(q, all, all->len, 1, &done);
    if (ret == 0 && !RULE_BROKEN(FLAGS_BEFORE_SNAPSHOT)) {
        /* INV-SH-1 */
        ret = flags_done(co_flag_table(q, l1_index, table, co_count_shared, NULL));
    }
    if (ret < 0) {
        (void)co_change_counts(q, all, done, -1, &undone); /* at worst a leak */
    }
    return ret;
}

/* [@first, @first + @n) was counted once, by what let go of it. */
static void let_go(Qcow2 *q, uint64_t table, uint64_t first, uint64_t n)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    uint64_t at = first << q->geo.cluster_bits;

    if (table >= at && table - at < n << q->geo.cluster_bits) {
        qcow2_cache_drop(q->l2_cache, table, q->geo.cluster_size);
    }
    qcow2_quarantine_add(q->quarantine, at, n << q->geo.cluster_bits, q->discard_snapshot);
}

int coroutine_fn qcow2_share_co_remove(Qcow2 *q, uint64_t l1_index, uint64_t table)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    int ret = co_collect(q, l1_index, table, all);

    for (guint i = 0, n; i < all->len && ret == 0; i += n) {
        CountReader r = { .q = q };
        uint64_t count, other;
        guint max = run_length(all, i);

        ret = reader_co_get(q, &r, cluster_at(all, i), &count);
        for (n = 1; n < max && ret == 0; n++) {
            ret = reader_co_get(q, &r, cluster_at(all, i + n), &other);
            if ((other == 1) != (count == 1)) {
                break;
            }
        }
        reader_clear(&r);
        if (ret == 0 && count == 1) {
            let_go(q, table, cluster_at(all, i), n);
        } else if (ret == 0) {
            ret = qcow2_refcount_co_change(&q->alloc, cluster_at(all, i), n, -1);
        }
    }
    return ret;
}
