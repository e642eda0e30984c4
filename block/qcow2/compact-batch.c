/* SPDX-License-Identifier: MIT */
/*
 * One step of compacting, in the order of the disk:
 *
 *   1. the new places are counted; synced (INV-W-1)
 *   2. the bytes are copied there; synced (INV-W-2, INV-W-3)
 *   3. the references change to the new places; synced
 *   4. the old places are punched, and their counts fall (INV-W-4), which the next step, or the
 *      flush at the end, writes
 *
 * Power may fail between any two, and within any: INV-CMP-1. What a step has counted and not used,
 * or not given back, is a leak, which the next run gives back.
 */
#include "compact.h"

#include "crypt.h"
#include "flush.h"
#include "refcount.h"
#include "rules.h"

void qcow2_compact_batch_init(CompactBatch *b)
{
    *b = (CompactBatch){ .copies = g_array_new(FALSE, FALSE, sizeof(CompactCopy)),
                         .changes = g_array_new(FALSE, FALSE, sizeof(CompactChange)),
                         .takes = g_array_new(FALSE, FALSE, sizeof(CompactCount)),
                         .drops = g_array_new(FALSE, FALSE, sizeof(CompactCount)) };
}

void qcow2_compact_batch_clear(CompactBatch *b)
{
    g_array_unref(b->copies);
    g_array_unref(b->changes);
    g_array_unref(b->takes);
    g_array_unref(b->drops);
}

static void empty(CompactBatch *b)
{
    g_array_set_size(b->copies, 0);
    g_array_set_size(b->changes, 0);
    g_array_set_size(b->takes, 0);
    g_array_set_size(b->drops, 0);
    b->bytes = b->clusters = 0;
}

/* ---- What it does ---- */

/* @bytes go from @src to @dst; runs become one. */
static void add_copy(CompactBatch *b, uint64_t src, uint64_t dst, uint64_t bytes, bool data)
{
    CompactCopy *last =
        b->copies->len ? &g_array_index(b->copies, CompactCopy, b->copies->len - 1) : NULL;
    CompactCopy m = { src, dst, bytes, data };

    b->bytes += bytes;
    if (last && last->src + last->bytes == src && last->dst + last->bytes == dst &&
        last->data == data &&
        last->bytes + bytes <=
            MIN(last->src > last->dst ? last->src - last->dst : last->dst - last->src,
                UINT64_C(1) * MiB)) {
        last->bytes += bytes;
    } else {
        g_array_append_val(b->copies, m);
    }
}

static bool take(Compact *c, CompactBatch *b, uint64_t cluster, uint64_t n)
{
    CompactCount count = { cluster, n };
    bool fresh = cluster < c->map.clusters && c->map.refs[cluster] == 0;

    if (!qcow2_compact_map_add(&c->map, cluster, n)) {
        return false;
    }
    b->clusters += fresh;
    g_array_append_val(b->takes, count);
    return true;
}

static void drop(CompactBatch *b, uint64_t cluster, uint64_t n)
{
    CompactCount count = { cluster, n };

    g_array_append_val(b->drops, count);
}

/* The slot of @r says @host from now on, where @n refer to it. */
static void add_change(Compact *c, CompactBatch *b, CompactRef *r, uint64_t host, uint64_t n)
{
    const CompactTable *t = qcow2_compact_table(c, r->table);
    CompactChange ch = { r->table, r->slot, r->value, (r->value & ~QCOW2_OFFSET_MASK) | host };

    if (t->active && (t->kind == CO_L1 || t->kind == CO_L2)) {
        ch.is = (ch.is & ~L2E_COPIED) | (n == 1 ? L2E_COPIED : 0); /* INV-CMP-3 */
    }
    g_array_append_val(b->changes, ch);
    r->value = ch.is; /* (whatever fails from here on, the index is not used any more) */
}

static void copy_marks(CompactMap *m, uint64_t src, uint64_t dst)
{
    if (qcow2_compact_map_bit(m->meta, src)) {
        m->meta[dst / 8] |= (uint8_t)(1u << dst % 8);
    }
    if (qcow2_compact_map_bit(m->fixed, src)) {
        m->fixed[dst / 8] |= (uint8_t)(1u << dst % 8);
    }
}

int qcow2_compact_batch_add(Compact *c, CompactBatch *b, uint64_t src, uint64_t dst)
{
    unsigned cb = c->q->geo.cluster_bits;
    uint64_t n, seen = 0;
    bool data = false;

    if (src >= c->map.clusters || dst == 0 || c->map.refs[dst]) {
        return -EIO;
    }
    n = c->map.refs[src];
    for (CompactRef *r = qcow2_compact_index_first(&c->index, src); r;
         r = qcow2_compact_index_next(&c->index, r)) {
        const CompactTable *t = qcow2_compact_table(c, r->table);

        seen += t->refs;
        data = t->kind == CO_L2;
        if (t->kind == CO_L2 && (r->value & L2E_COMPRESSED)) {
            return -EIO;
        }
        add_change(c, b, r, dst << cb, n);
    }
    if (n == 0 || seen != n || !take(c, b, dst, n)) {
        return -EIO; /* others refer to it, too */
    }
    copy_marks(&c->map, src, dst);
    add_copy(b, src << cb, dst << cb, c->q->geo.cluster_size, data);
    drop(b, src, n);
    return 0;
}

int qcow2_compact_batch_add_only(Compact *c, CompactBatch *b, CompactRef *r, uint64_t dst)
{
    unsigned cb = c->q->geo.cluster_bits;
    uint64_t src = (r->value & QCOW2_OFFSET_MASK) >> cb;

    if (src >= c->map.clusters || c->map.refs[src] != 1 || c->map.refs[dst]) {
        return -EIO; /* not what the scan found */
    }
    add_change(c, b, r, dst << cb, 1);
    add_copy(b, src << cb, dst << cb, c->q->geo.cluster_size, true);
    drop(b, src, 1);
    return take(c, b, dst, 1) ? 0 : -EIO;
}

int qcow2_compact_batch_add_table(Compact *c, CompactBatch *b, uint32_t table, uint64_t dst)
{
    const Geometry *g = &c->q->geo;
    const CompactTable *t = qcow2_compact_table(c, table);
    uint64_t src = t->offset >> g->cluster_bits, n = geo_clusters(g, t->bytes);
    CompactRef r = { .value = t->offset, .table = t->parent, .slot = t->slot };

    add_change(c, b, &r, dst << g->cluster_bits, 1);
    add_copy(b, t->offset, dst << g->cluster_bits, n << g->cluster_bits, false);
    for (uint64_t i = 0; i < n; i++) {
        if (!take(c, b, dst + i, 1)) {
            return -EIO;
        }
        copy_marks(&c->map, src + i, dst + i);
        drop(b, src + i, 1);
    }
    return 0;
}

int qcow2_compact_batch_add_packed(Compact *c, CompactBatch *b, const CompactRef *r, uint64_t dst)
{
    const Geometry *g = &c->q->geo;
    uint64_t src, bytes, refs = qcow2_compact_table(c, r->table)->refs;
    CompactChange ch = { r->table, r->slot, r->value, 0 };

    qcow2_l2_compressed_range(g, (L2Entry){ .desc = r->value }, &src, &bytes);
    ch.is = qcow2_l2_make_compressed(g, dst, bytes).desc;
    g_array_append_val(b->changes, ch);
    for (uint64_t i = dst >> g->cluster_bits; i <= (dst + bytes - 1) >> g->cluster_bits; i++) {
        if (!take(c, b, i, refs)) {
            return -EIO;
        }
        c->map.fixed[i / 8] |= (uint8_t)(1u << i % 8);
    }
    for (uint64_t i = src >> g->cluster_bits; i <= (src + bytes - 1) >> g->cluster_bits; i++) {
        drop(b, i, refs);
    }
    add_copy(b, src, dst, bytes, false);
    return 0;
}

/* ---- Counts ---- */

static int by_cluster(const void *a, const void *b)
{
    const CompactCount *x = a, *y = b;

    return (x->cluster > y->cluster) - (x->cluster < y->cluster);
}

/* The first @n of what it takes, runs with one count at once; *@done of them. */
static int coroutine_fn co_count(Compact *c, const GArray *takes, guint n, int sign, guint *done)
    REQUIRES_LOCK(c->q->alloc.meta_lock)
{
    const CompactCount *t = (const CompactCount *)takes->data;
    int ret = 0;

    for (guint i = 0, end; i < n && ret == 0; i = end) {
        for (end = i + 1;
             end < n && t[end].cluster == t[i].cluster + (end - i) && t[end].n == t[i].n; end++) {
        }
        if (t[i].n > INT_MAX) {
            return -EFBIG;
        }
        ret = qcow2_refcount_co_change(&c->q->alloc, t[i].cluster, end - i, sign * (int)t[i].n);
        *done = ret == 0 ? end : *done;
    }
    return ret;
}

/* The new places are as free as they were; nothing on disk refers to them. */
static void coroutine_fn co_forget(Compact *c, CompactBatch *b, guint counted)
{
    guint done;

    co_mutex_lock(&c->q->alloc.meta_lock);
    /* (On failure they leak.) */
    (void)co_count(c, b->takes, counted, -1, &done);
    co_mutex_unlock(&c->q->alloc.meta_lock);
    for (guint i = 0; i < b->takes->len; i++) {
        const CompactCount *t = &g_array_index(b->takes, CompactCount, i);

        (void)qcow2_compact_map_sub(&c->map, t->cluster, t->n);
    }
}

static int coroutine_fn co_take(Compact *c, CompactBatch *b)
{
    guint done = 0;
    int ret;

    g_array_sort(b->takes, by_cluster);
    co_mutex_lock(&c->q->alloc.meta_lock);
    ret = co_count(c, b->takes, b->takes->len, 1, &done);
    co_mutex_unlock(&c->q->alloc.meta_lock);
    if (ret == 0 && !RULE_BROKEN(COMPACT_COUNTED)) {
        ret = qcow2_flush_co_metadata(c->q, true);
    }
    if (ret < 0) {
        co_forget(c, b, done);
    }
    return ret;
}

/* ---- Bytes ---- */

/* Sectors of LUKS are bound to their place in the file: out of the one, into the other. */
static int coroutine_fn co_recrypt(Qcow2 *q, const CompactCopy *m)
{
    size_t size = (size_t)MIN(m->bytes, UINT64_C(1) * MiB);
    uint8_t *buf = bdrv_try_blockalign(q->file->bs, size);
    int ret = buf ? 0 : -ENOMEM;

    for (uint64_t at = 0; at < m->bytes && ret == 0; at += size) {
        IOVector v;

        iov_init_buf(&v, buf, MIN(m->bytes - at, size));
        ret = qcow2_crypt_co_read(q, m->src + at, 0, &v);
        ret = ret < 0 ? ret : qcow2_crypt_co_write(q, m->dst + at, 0, &v, 0);
    }
    if (buf) {
        memset(buf, 0, size);
    }
    mem_align_free(buf);
    return ret;
}

static int coroutine_fn co_copy(Compact *c, CompactBatch *b)
{
    BdrvChild *file = c->q->file;
    int ret = 0;

    for (guint i = 0; i < b->copies->len && ret == 0; i++) {
        const CompactCopy *m = &g_array_index(b->copies, CompactCopy, i);

        ret = m->data && c->q->hdr.crypt_method == QCOW2_CRYPT_LUKS
                  ? co_recrypt(c->q, m)
                  : bdrv_co_copy_range(file, (int64_t)m->src, file, (int64_t)m->dst,
                                       (int64_t)m->bytes, 0);
    }
    if (ret == 0 && !RULE_BROKEN(COMPACT_COPIED)) {
        ret = qcow2_health_co_sync(&c->q->health, file->bs);
    }
    return ret;
}

/* ---- References ---- */

/* Which of them changed is not known: all go back, or the image is not written any more. */
static bool coroutine_fn co_undo(Compact *c, CompactBatch *b)
{
    int none = 0;
    int ret = qcow2_compact_slots_co_write(c, b->changes, true);

    ret = ret < 0 ? ret : qcow2_health_co_sync(&c->q->health, c->q->file->bs);
    if (ret < 0) {
        atomic_compare_exchange_strong(&c->q->health.write_error, &none, ret);
    }
    return ret == 0;
}

static int coroutine_fn co_switch(Compact *c, CompactBatch *b)
{
    int ret = qcow2_compact_slots_co_write(c, b->changes, false);

    if (ret == 0 && !RULE_BROKEN(COMPACT_SWITCHED)) {
        ret = qcow2_health_co_sync(&c->q->health, c->q->file->bs);
    }
    if (ret < 0) {
        if (co_undo(c, b)) {
            co_forget(c, b, b->takes->len);
        }
        return ret;
    }
    co_mutex_lock(&c->q->alloc.meta_lock);
    for (guint i = 0; i < b->changes->len; i++) {
        qcow2_compact_slots_co_note(c, &g_array_index(b->changes, CompactChange, i));
    }
    co_mutex_unlock(&c->q->alloc.meta_lock);
    atomic_fetch_add(&c->q->compressed_gen, 1);
    return 0;
}

/* ---- Old places ---- */

/* Give the file's space back; best effort, still counted. */
static void coroutine_fn co_punch(Compact *c, const GArray *drops)
{
    unsigned cb = c->q->geo.cluster_bits;
    uint64_t first = 0, n = 0;

    for (guint i = 0; i <= drops->len; i++) {
        const CompactCount *d = i < drops->len ? &g_array_index(drops, CompactCount, i) : NULL;

        if (d && (c->map.refs[d->cluster] || (n && d->cluster == first + n - 1))) {
            continue;
        }
        if (d && n && d->cluster == first + n) {
            n++;
            continue;
        }
        if (n) {
            (void)bdrv_co_pdiscard(c->q->file, (int64_t)(first << cb), (int64_t)(n << cb));
        }
        first = d ? d->cluster : 0;
        n = 1;
    }
}

static int coroutine_fn co_drop(Compact *c, CompactBatch *b)
{
    int ret = 0;

    g_array_sort(b->drops, by_cluster);
    for (guint i = 0; i < b->drops->len; i++) {
        const CompactCount *d = &g_array_index(b->drops, CompactCount, i);

        if (!qcow2_compact_map_sub(&c->map, d->cluster, d->n)) {
            return -EIO;
        }
    }
    co_punch(c, b->drops);
    co_mutex_lock(&c->q->alloc.meta_lock);
    for (guint i = 0; i < b->drops->len && ret == 0; i++) {
        uint64_t cluster = g_array_index(b->drops, CompactCount, i).cluster;

        ret = qcow2_refcount_co_lower(&c->q->alloc, cluster, c->map.refs[cluster]);
    }
    co_mutex_unlock(&c->q->alloc.meta_lock);
    return ret;
}

int qcow2_compact_progress(Compact *c, uint64_t clusters)
{
    c->done += clusters;
    c->todo = MAX(c->todo, c->done);
    return !c->progress || c->progress((double)c->done / (double)MAX(c->todo, 1), c->opaque)
               ? 0
               : -ECANCELED;
}

int coroutine_fn qcow2_compact_batch_co_run(Compact *c, CompactBatch *b)
{
    int ret;

    if (b->changes->len == 0) {
        return 0;
    }
    ret = co_take(c, b);
    if (ret == 0) {
        ret = co_copy(c, b);
        if (ret < 0) {
            co_forget(c, b, b->takes->len);
        }
        ret = ret < 0 ? ret : co_switch(c, b);
        ret = ret < 0 ? ret : co_drop(c, b);
    }
    if (ret == 0) {
        c->moved += b->clusters;
        ret = qcow2_compact_progress(c, b->clusters);
    }
    empty(b);
    return ret;
}
