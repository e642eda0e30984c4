/* SPDX-License-Identifier: MIT */
/* New refcount blocks, and a larger refcount table: see refblock.h. */
#include "refblock.h"

#include "refcount.h"
#include "refcount-codec.h"
#include "reftable.h"
#include "search.h"
#include "table.h"

/* An empty block at cluster @c for table entry @k; with @self its own count is set. */
static int make_block(Allocator *a, uint64_t k, uint64_t c, bool self) REQUIRES_LOCK(a->meta_lock)
{
    size_t ss = qcow2_cache_slice_size(a->ref_cache);
    uint64_t base = c << a->geo->cluster_bits, per = qcow2_refcount_slice_entries(a);
    uint64_t in_block = c & ((UINT64_C(1) << a->geo->refblock_bits) - 1);
    int ret = 0;

    g_assert(k < a->reftable_entries && !a->reftable[k] && c > 0);
    for (uint64_t off = 0; off < a->geo->cluster_size && ret == 0; off += ss) {
        MetaSlice *s;

        ret = qcow2_cache_get_new(a->ref_cache, base + off, &s);
        if (ret < 0) {
            break;
        }
        qcow2_cache_modify_begin(a->ref_cache, s);
        if (self && in_block / per == off / ss) {
            qcow2_refcount_codec_set(a->geo->refcount_order, s->data, in_block % per, 1);
            ORACLE(qcow2_oracle_counts_set(a->oracle, c, 1));
        }
        qcow2_cache_modify_end(a->ref_cache, s);
        qcow2_cache_put(a->ref_cache, s);
    }
    if (ret < 0) {
        qcow2_cache_drop(a->ref_cache, base, a->geo->cluster_size);
        return ret;
    }
    qcow2_metadata_add(a->metadata, base, a->geo->cluster_size, "refcount block");
    a->reftable[k] = base;
    qcow2_reftable_mark_dirty(a, k, k);
    return 0;
}

static int coroutine_fn set_first_ref(Allocator *a, uint64_t c) REQUIRES_LOCK(a->meta_lock)
{
    MetaSlice *s;
    uint64_t index;
    int ret = qcow2_refcount_co_slice(a, c, &s, &index);

    if (ret < 0) {
        return ret;
    }
    g_assert(s);
    qcow2_cache_modify_begin(a->ref_cache, s);
    qcow2_refcount_codec_set(a->geo->refcount_order, s->data, index, 1);
    ORACLE(qcow2_oracle_counts_set(a->oracle, c, 1));
    qcow2_cache_modify_end(a->ref_cache, s);
    qcow2_cache_put(a->ref_cache, s);
    return 0;
}

/* One new block: for entry @k, or, when the only free room has no block either, for that room. */
static int coroutine_fn add_block(Allocator *a, uint64_t k, ClusterRange avoid)
    REQUIRES_LOCK(a->meta_lock)
{
    uint64_t c, got, own, block;
    int ret = qcow2_search_co_free(a, a->free_hint, 1, false, avoid, &c, &got, NULL);

    if (ret < 0) {
        return ret;
    }
    if (c == 0 || qcow2_metadata_at(a->metadata, c << a->geo->cluster_bits, a->geo->cluster_size)) {
        return qcow2_health_co_corrupt(a->health, "refcount block", c << a->geo->cluster_bits,
                                       "Preventing invalid allocation of refcount block");
    }
    own = c >> a->geo->refblock_bits;
    if (own >= a->reftable_entries) {
        return -EAGAIN; /* the table must grow for it */
    }
    ret = qcow2_refcount_co_block_offset(a, c, &block);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_table_co_secure(a->file, c << a->geo->cluster_bits, a->geo->cluster_size);
    if (ret < 0) {
        return ret;
    }
    if (!block) {
        return make_block(a, own, c, true); /* INV-RB-2 */
    }
    ret = set_first_ref(a, c);
    if (ret < 0) {
        return ret;
    }
    ret = make_block(a, k, c, false);
    if (ret < 0) {
        qcow2_refcount_co_free_unused(a, c << a->geo->cluster_bits, 1);
    }
    return ret;
}

static int coroutine_fn grow_table(Allocator *a, uint64_t needed, ClusterRange avoid)
    REQUIRES_LOCK(a->meta_lock);

static int coroutine_fn ensure_one(Allocator *a, uint64_t k, ClusterRange avoid)
    REQUIRES_LOCK(a->meta_lock)
{
    int ret;

    for (;;) {
        if (k >= a->reftable_entries) {
            ret = grow_table(a, k + 1, avoid);
            if (ret < 0) {
                return ret;
            }
        }
        if (a->reftable[k]) {
            return 0;
        }
        bdrv_co_debug_event(a->file, BLKDBG_REFBLOCK_ALLOC);
        ret = add_block(a, k, avoid);
        if (ret == -EAGAIN) {
            ret = grow_table(a, a->reftable_entries + 1, avoid);
        }
        if (ret < 0) {
            return ret;
        }
    }
}

int coroutine_fn qcow2_refblock_co_ensure(Allocator *a, ClusterRange r, ClusterRange avoid)
{
    uint64_t last = (r.first + r.n - 1) >> a->geo->refblock_bits;

    g_assert(r.n > 0);
    for (uint64_t k = r.first >> a->geo->refblock_bits; k <= last; k++) {
        if (k < a->reftable_entries && a->reftable[k]) {
            continue;
        }
        int ret = ensure_one(a, k, avoid);

        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* Where a table of at least @needed entries goes, after @avoid, so that it can describe itself. */
static int coroutine_fn place_table(Allocator *a, uint64_t needed, ClusterRange avoid,
                                    ClusterRange *ret) REQUIRES_LOCK(a->meta_lock)
{
    const Geometry *g = a->geo;
    uint64_t max = QCOW2_MAX_REFTABLE_BYTES >> g->cluster_bits;
    uint64_t want = MAX(needed, a->reftable_entries + a->reftable_entries / 2), got;

    for (;;) {
        uint64_t start = MAX(a->free_hint, avoid.first + avoid.n);
        uint64_t reach;

        ret->n = MIN(geo_clusters(g, want * 8), max);
        if (ret->n * (g->cluster_size / 8) < MAX(needed, a->reftable_entries + 1)) {
            return -EFBIG;
        }
        int r = qcow2_search_co_free(a, start, ret->n, true, avoid, &ret->first, &got, NULL);

        if (r < 0) {
            return r;
        }
        /* Itself, and the blocks that are made on the way, which lie right after it. */
        reach = ((ret->first + 2 * ret->n + 64) >> g->refblock_bits) + 1;
        if (reach <= ret->n * (g->cluster_size / 8)) {
            return 0;
        }
        if (ret->n == max) {
            return -EFBIG;
        }
        want = needed = MAX(reach + reach / 8, want + 1);
    }
}

/* Back to the old table: blocks that only the new one has go, as if they had never been. */
static void coroutine_fn ungrow(Allocator *a, uint64_t *old_table, uint64_t old_entries)
    REQUIRES_LOCK(a->meta_lock)
{
    g_autofree uint64_t *grown = a->reftable;
    uint64_t entries = a->reftable_entries;

    g_assert(old_entries <= entries);
    ORACLE(qcow2_oracle_counts_forget(a->oracle));
    memcpy(old_table, grown, old_entries * 8);
    a->reftable = old_table;
    a->reftable_entries = old_entries;
    for (uint64_t i = old_entries; i < entries; i++) {
        if (!grown[i]) {
            continue;
        }
        qcow2_metadata_remove(a->metadata, grown[i], a->geo->cluster_size);
        qcow2_cache_drop(a->ref_cache, grown[i], a->geo->cluster_size);
        if (grown[i] >> a->geo->cluster_bits >> a->geo->refblock_bits < old_entries) {
            qcow2_refcount_co_free_unused(a, grown[i], 1); /* counted in a block that stays */
        }
    }
    if (a->reftable_dirty) {
        a->reftable_dirty = a->reftable_dirty_first < old_entries;
        a->reftable_dirty_last = MIN(a->reftable_dirty_last, old_entries - 1);
    }
}

/*
 * Replace the table in memory by a bigger one with clusters of its own, and have the flush move it.
 * Everything taken on the way stays out of @avoid, which the caller is about to take.
 */
static int coroutine_fn grow_table(Allocator *a, uint64_t needed, ClusterRange avoid)
{
    uint64_t old_entries = a->reftable_entries, entries;
    uint64_t superseded = a->reftable_new_offset;
    uint64_t *old_table = a->reftable;
    uint64_t *table;
    ClusterRange own, hull;
    int ret;

    bdrv_co_debug_event(a->file, BLKDBG_REFTABLE_GROW);
    ret = place_table(a, needed, avoid, &own);
    if (ret == 0) {
        ret = qcow2_table_co_secure(a->file, own.first << a->geo->cluster_bits,
                                    own.n << a->geo->cluster_bits);
    }
    if (ret < 0) {
        return ret;
    }
    entries = own.n << a->geo->cluster_bits >> 3;
    g_assert(entries > old_entries && entries >= needed);
    table = g_try_new0(uint64_t, entries);
    if (!table) {
        return -ENOMEM;
    }
    memcpy(table, old_table, old_entries * 8);
    a->reftable = table;
    a->reftable_entries = entries;
    hull.first = avoid.n ? MIN(avoid.first, own.first) : own.first;
    hull.n = own.first + own.n - hull.first;
    ret = qcow2_refblock_co_ensure(a, own, hull);
    if (ret == 0) {
        ret = qcow2_refcount_co_change(a, own.first, own.n, 1);
    }
    if (ret < 0) {
        g_assert(a->reftable == table); /* place_table left room: no growth within */
        ungrow(a, old_table, old_entries);
        return ret;
    }
    g_free(old_table);
    a->reftable_new_offset = own.first << a->geo->cluster_bits;
    qcow2_metadata_add(a->metadata, a->reftable_new_offset, entries * 8, "refcount table");
    qcow2_reftable_mark_dirty(a, 0, entries - 1);
    if (superseded && superseded != a->reftable_sealed_offset) {
        qcow2_reftable_free_later(a, superseded, old_entries * 8); /* no flush is writing it */
    }
    return 0;
}
