/* SPDX-License-Identifier: MIT */
/* Tables that several L1 tables name: see share.h. */
#include "share.h"

#include "entry.h"
#include "inflight.h"
#include "l1.h"
#include "l2-table.h"
#include "refcount.h"
#include "refcount-codec.h"
#include "rules.h"

/* ---- What a table refers to ---- */

/* Host clusters [first, first + n); once for each reference. */
typedef struct HostRun {
    uint64_t first, n;
    bool packed; /* compressed data lies in them */
} HostRun;

static HostRun *run_at(const GArray *all, guint i)
{
    return &g_array_index(all, HostRun, i);
}

static int compare_runs(gconstpointer a, gconstpointer b)
{
    uint64_t x = ((const HostRun *)a)->first, y = ((const HostRun *)b)->first;

    return x < y ? -1 : x > y;
}

/* @b goes on where @a ends, and takes its place. */
static bool merge(HostRun *a, const HostRun *b)
{
    if (a->first + a->n != b->first || a->packed != b->packed) {
        return false;
    }
    a->n += b->n;
    return true;
}

static void add_run(GArray *all, HostRun r)
{
    if (!all->len || !merge(run_at(all, all->len - 1), &r)) {
        g_array_append_val(all, r);
    }
}

static void add_clusters(const Geometry *g, GArray *all, L2Entry e)
{
    HostRun r = { .n = 1, .packed = e.desc & L2E_COMPRESSED };
    uint64_t host, bytes;

    if (r.packed) {
        qcow2_l2_compressed_range(g, e, &host, &bytes);
        r.first = host >> g->cluster_bits;
        r.n = ((host + bytes - 1) >> g->cluster_bits) - r.first + 1;
    } else if (qcow2_l2_has_host(g, e)) {
        r.first = qcow2_l2_host(g, e) >> g->cluster_bits;
    } else {
        return;
    }
    add_run(all, r);
}

/* In their order on the host, as long as they get. */
static void sort_runs(GArray *all)
{
    guint kept = 0;

    g_array_sort(all, compare_runs);
    for (guint i = 1; i < all->len; i++) {
        if (!merge(run_at(all, kept), run_at(all, i))) {
            *run_at(all, ++kept) = *run_at(all, i);
        }
    }
    g_array_set_size(all, kept + 1);
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

/* Of the table at @table, and its own, sorted; a cluster that several compressed ones share is
 * there as often. */
static int coroutine_fn co_collect(Qcow2 *q, uint64_t l1_index, uint64_t table, GArray *all)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    unsigned n = qcow2_l2_table_slice_entries(q);
    int ret = 0;

    for (uint64_t at = 0; at < UINT64_C(1) << q->geo.l2_bits && ret == 0; at += n) {
        MetaSlice *s;

        ret = next_slice(q, l1_index, table, at, &s);
        if (ret < 0) {
            return ret;
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
    add_run(all, (HostRun){ .first = table >> q->geo.cluster_bits, .n = 1 });
    sort_runs(all);
    return ret;
}

/* ---- Counts ---- */

/* The first @max of @all; *done of them. */
static int coroutine_fn co_change_counts(Qcow2 *q, const GArray *all, guint max, int delta,
                                         guint *done) REQUIRES_LOCK(q->alloc.meta_lock)
{
    int ret = 0;

    for (*done = 0; *done < max && ret == 0;) {
        const HostRun *r = run_at(all, *done);

        ret = qcow2_refcount_co_change(&q->alloc, r->first, r->n, delta);
        *done += ret == 0 ? 1 : 0;
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

typedef struct Flagging {
    ShareCount *co_count;
    void *opaque;
} Flagging;

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

/* Which of entries [@first, @first + @n) of the slice say the wrong thing, as bits. -EAGAIN: one of
 * them is about to be changed by a request, whose end was waited for: look again (INV-SH-3). */
static int coroutine_fn co_find_wrong(Qcow2 *q, MetaSlice *s, unsigned first, unsigned n,
                                      uint64_t guest, const Flagging *f, uint64_t *wrong)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    uint64_t count;

    *wrong = 0;
    for (unsigned i = 0; i < n; i++) {
        L2Entry e = qcow2_l2_load(&q->geo, s->data, first + i);
        int ret;

        if ((e.desc & L2E_COMPRESSED) || !qcow2_l2_has_host(&q->geo, e)) {
            continue;
        }
        ret = f->co_count(q, qcow2_l2_host(&q->geo, e) >> q->geo.cluster_bits, &count, f->opaque);
        if (ret < 0) {
            return ret;
        }
        if ((count == 1) == qcow2_l2_copied(e)) {
            continue;
        }
        if (qcow2_inflight_co_wait(q, guest + ((uint64_t)i << q->geo.cluster_bits))) {
            return -EAGAIN;
        }
        *wrong |= UINT64_C(1) << i;
    }
    return 0;
}

#define CHUNK 64u /* entries that are looked at, then changed, at a time */

/* 1: flags changed; 0: none; or -errno. @guest: of the slice's first entry. */
static int coroutine_fn co_flag_slice(Qcow2 *q, MetaSlice *s, uint64_t guest, const Flagging *f)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    unsigned entries = qcow2_l2_table_slice_entries(q);
    bool changed = false;

    for (unsigned at = 0; at < entries; at += CHUNK) {
        uint64_t wrong;
        int ret = co_find_wrong(q, s, at, MIN(CHUNK, entries - at),
                                guest + ((uint64_t)at << q->geo.cluster_bits), f, &wrong);

        if (ret < 0) {
            return ret;
        }
        if (!wrong) {
            continue;
        }
        changed = true;
        qcow2_cache_modify_begin(q->l2_cache, s);
        for (; wrong; wrong &= wrong - 1) {
            unsigned i = at + (unsigned)__builtin_ctzll(wrong);
            L2Entry e = qcow2_l2_load(&q->geo, s->data, i);

            e.desc ^= L2E_COPIED;
            qcow2_l2_store(&q->geo, s->data, i, e);
        }
        qcow2_cache_modify_end(q->l2_cache, s);
    }
    return changed;
}

static int coroutine_fn co_flag_table(Qcow2 *q, uint64_t l1_index, uint64_t table,
                                      const Flagging *f) REQUIRES_LOCK(q->alloc.meta_lock)
{
    unsigned n = qcow2_l2_table_slice_entries(q);
    bool changed = false;

    for (uint64_t at = 0; at < UINT64_C(1) << q->geo.l2_bits; at += n) {
        MetaSlice *s;
        int ret = next_slice(q, l1_index, table, at, &s);

        if (ret == 0) {
            ret = co_flag_slice(q, s, guest_of(q, l1_index, at), f);
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
    changed = co_flag_table(q, l1_index, table, &(Flagging){ co_count, opaque });
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
    int ret;

    do { /* (others may have put another table there while we waited) */
        CountReader r = { .q = q };

        ret = qcow2_share_co_mend_by(q, l1_index, co_read_count, &r);
        reader_clear(&r);
    } while (ret == -EAGAIN);
    return flags_done(ret);
}

/* ---- One more, one less ---- */

int coroutine_fn qcow2_share_co_add(Qcow2 *q, uint64_t l1_index, uint64_t table)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(HostRun));
    guint done, undone;
    int ret = co_collect(q, l1_index, table, all);

    if (ret < 0) {
        return ret;
    }
    ret = co_change_counts(q, all, all->len, 1, &done);
    if (ret == 0 && !RULE_BROKEN(FLAGS_BEFORE_SNAPSHOT)) {
        /* INV-SH-1 */
        ret = flags_done(
            co_flag_table(q, l1_index, table, &(Flagging){ .co_count = co_count_shared }));
    }
    if (ret < 0) {
        (void)co_change_counts(q, all, done, -1, &undone); /* at worst a leak */
    }
    return ret;
}

/* @r was counted once, by what let go of it. What was unpacked from there is forgotten before it is
 * used again: the quarantine sees to that. */
static void let_go(Qcow2 *q, uint64_t table, const HostRun *r) REQUIRES_LOCK(q->alloc.meta_lock)
{
    uint64_t at = r->first << q->geo.cluster_bits, bytes = r->n << q->geo.cluster_bits;

    if (table >= at && table - at < bytes) {
        qcow2_cache_drop(q->l2_cache, table, q->geo.cluster_size);
    }
    if (r->packed) {
        qcow2_quarantine_add_compressed(q->quarantine, at, bytes, q->discard_snapshot);
    } else {
        qcow2_quarantine_add(q->quarantine, at, bytes, q->discard_snapshot);
    }
}

/* The part of @r, from its beginning, of which all are counted once, or none: its length. */
static int coroutine_fn co_alike(Qcow2 *q, CountReader *reader, const HostRun *r, uint64_t *n,
                                 bool *last) REQUIRES_LOCK(q->alloc.meta_lock)
{
    uint64_t count;
    int ret = reader_co_get(q, reader, r->first, &count);

    *last = count == 1;
    for (*n = 1; *n < r->n && ret == 0; ++*n) {
        ret = reader_co_get(q, reader, r->first + *n, &count);
        if (ret < 0 || (count == 1) != *last) {
            break;
        }
    }
    return ret;
}

static int coroutine_fn co_remove_run(Qcow2 *q, CountReader *reader, uint64_t table, HostRun r)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    int ret = 0;

    while (r.n && ret == 0) {
        HostRun part = r;
        bool last;

        ret = co_alike(q, reader, &r, &part.n, &last);
        if (ret == 0 && last) {
            let_go(q, table, &part);
        } else if (ret == 0) {
            ret = qcow2_refcount_co_change(&q->alloc, part.first, part.n, -1);
        }
        r.first += part.n;
        r.n -= part.n;
    }
    return ret;
}

int coroutine_fn qcow2_share_co_remove(Qcow2 *q, uint64_t l1_index, uint64_t table)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(HostRun));
    CountReader reader = { .q = q };
    int ret = co_collect(q, l1_index, table, all);

    for (guint i = 0; i < all->len && ret == 0; i++) {
        ret = co_remove_run(q, &reader, table, *run_at(all, i));
    }
    reader_clear(&reader);
    return ret;
}
