/* SPDX-License-Identifier: MIT */
/*
 * New refcount blocks, and a refcount table that grows and moves.
 *
 * Nothing here writes under meta_lock: blocks are made in the cache, the table in memory. The
 * flush writes blocks, syncs, then the table (INV-W-3). A grown table moves: it is written whole to
 * its new place, synced, then the header points there and is synced, and only then the old one is
 * freed, through the quarantine (INV-W-4).
 *
 * INV-RB-1  hdr.reftable_offset is what the header on disk says; after a failed switch the header
 *           may say reftable_new_offset, or what that was then. Each of these keeps its count until
 *           a switch has ended well, and names no block that is not on disk whole.
 * INV-RB-2  A block that holds its own refcount has it set before it is reachable from the table.
 */
#include "refcount-int.h"
#include "rules.h"
#include "util/bytes.h"

static void mark_dirty(Qcow2 *q, uint64_t first, uint64_t last)
{
    if (!q->reftable_dirty) {
        q->reftable_dirty_first = first;
        q->reftable_dirty_last = last;
    } else {
        q->reftable_dirty_first = MIN(q->reftable_dirty_first, first);
        q->reftable_dirty_last = MAX(q->reftable_dirty_last, last);
    }
    q->reftable_dirty = true;
}

/* An empty block at cluster @c for table entry @k; with @self its own count is set. */
static int make_block(Qcow2 *q, uint64_t k, uint64_t c, bool self)
{
    size_t ss = meta_cache_slice_size(q->ref_cache);
    uint64_t base = c << q->geo.cluster_bits, per = refcount_slice_entries(q);
    uint64_t in_block = c & ((UINT64_C(1) << q->geo.refblock_bits) - 1);
    int ret = 0;

    for (uint64_t off = 0; off < q->geo.cluster_size && ret == 0; off += ss) {
        MetaSlice *s;

        ret = meta_cache_get_new(q->ref_cache, base + off, &s);
        if (ret < 0) {
            break;
        }
        meta_cache_modify_begin(q->ref_cache, s);
        if (self && in_block / per == off / ss) {
            refcount_entry_set(q->geo.refcount_order, s->data, in_block % per, 1);
        }
        meta_cache_modify_end(q->ref_cache, s);
        meta_cache_put(q->ref_cache, s);
    }
    if (ret < 0) {
        meta_cache_drop(q->ref_cache, base, q->geo.cluster_size);
        return ret;
    }
    qcow2_metadata_add(q, base, q->geo.cluster_size, "refcount block");
    q->reftable[k] = base;
    mark_dirty(q, k, k);
    return 0;
}

static int coroutine_fn set_first_ref(Qcow2 *q, uint64_t c)
{
    MetaSlice *s;
    uint64_t index;
    int ret = refcount_co_slice(q, c, &s, &index);

    if (ret < 0) {
        return ret;
    }
    g_assert(s);
    meta_cache_modify_begin(q->ref_cache, s);
    refcount_entry_set(q->geo.refcount_order, s->data, index, 1);
    meta_cache_modify_end(q->ref_cache, s);
    meta_cache_put(q->ref_cache, s);
    return 0;
}

/* One new block: for entry @k, or, when the only free room has no block either, for that room. */
static int coroutine_fn add_block(Qcow2 *q, uint64_t k, ClusterRange avoid)
{
    uint64_t c, got, own, block;
    int ret = alloc_co_find(q, q->free_hint, 1, false, avoid, &c, &got, NULL);

    if (ret < 0) {
        return ret;
    }
    if (c == 0 || qcow2_metadata_at(q, c << q->geo.cluster_bits, q->geo.cluster_size)) {
        return qcow2_co_corrupt(q, "refcount block", c << q->geo.cluster_bits,
                                "Preventing invalid allocation of refcount block");
    }
    own = c >> q->geo.refblock_bits;
    if (own >= q->reftable_entries) {
        return -EAGAIN; /* the table must grow for it */
    }
    ret = refblock_co_offset(q, c, &block);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_co_secure(q, c << q->geo.cluster_bits, q->geo.cluster_size);
    if (ret < 0) {
        return ret;
    }
    if (!block) {
        return make_block(q, own, c, true); /* INV-RB-2 */
    }
    ret = set_first_ref(q, c);
    if (ret < 0) {
        return ret;
    }
    ret = make_block(q, k, c, false);
    if (ret < 0) {
        qcow2_co_free_unused(q, c << q->geo.cluster_bits, 1);
    }
    return ret;
}

static int coroutine_fn grow_table(Qcow2 *q, uint64_t entries_needed, ClusterRange avoid);

static int coroutine_fn ensure_one(Qcow2 *q, uint64_t k, ClusterRange avoid)
{
    int ret;

    for (;;) {
        if (k >= q->reftable_entries) {
            ret = grow_table(q, k + 1, avoid);
            if (ret < 0) {
                return ret;
            }
        }
        if (q->reftable[k]) {
            return 0;
        }
        bdrv_co_debug_event(q->file, BLKDBG_REFBLOCK_ALLOC);
        ret = add_block(q, k, avoid);
        if (ret == -EAGAIN) {
            ret = grow_table(q, q->reftable_entries + 1, avoid);
        }
        if (ret < 0) {
            return ret;
        }
    }
}

int coroutine_fn refblock_co_ensure(Qcow2 *q, ClusterRange r, ClusterRange avoid)
{
    uint64_t last = (r.first + r.n - 1) >> q->geo.refblock_bits;

    for (uint64_t k = r.first >> q->geo.refblock_bits; k <= last; k++) {
        if (k < q->reftable_entries && q->reftable[k]) {
            continue;
        }
        int ret = ensure_one(q, k, avoid);

        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* Where a table of at least @needed entries goes, behind @avoid, so that it can describe itself. */
static int coroutine_fn place_table(Qcow2 *q, uint64_t needed, ClusterRange avoid,
                                    ClusterRange *ret)
{
    const Geometry *g = &q->geo;
    uint64_t max = QCOW2_MAX_REFTABLE_BYTES >> g->cluster_bits;
    uint64_t want = MAX(needed, q->reftable_entries + q->reftable_entries / 2), got;

    for (;;) {
        uint64_t start = MAX(q->free_hint, avoid.first + avoid.n);
        uint64_t reach;

        ret->n = MIN(geo_clusters(g, want * 8), max);
        if (ret->n * (g->cluster_size / 8) < MAX(needed, q->reftable_entries + 1)) {
            return -EFBIG;
        }
        int r = alloc_co_find(q, start, ret->n, true, avoid, &ret->first, &got, NULL);

        if (r < 0) {
            return r;
        }
        /* Itself, and the blocks that are made on the way, which lie right behind it. */
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
static void coroutine_fn ungrow(Qcow2 *q, uint64_t *old_table, uint64_t old_entries)
{
    g_autofree uint64_t *grown = q->reftable;
    uint64_t entries = q->reftable_entries;

    memcpy(old_table, grown, old_entries * 8);
    q->reftable = old_table;
    q->reftable_entries = old_entries;
    for (uint64_t i = old_entries; i < entries; i++) {
        if (!grown[i]) {
            continue;
        }
        qcow2_metadata_remove(q, grown[i], q->geo.cluster_size);
        meta_cache_drop(q->ref_cache, grown[i], q->geo.cluster_size);
        if (grown[i] >> q->geo.cluster_bits >> q->geo.refblock_bits < old_entries) {
            qcow2_co_free_unused(q, grown[i], 1); /* counted in a block that stays */
        }
    }
    if (q->reftable_dirty) {
        q->reftable_dirty = q->reftable_dirty_first < old_entries;
        q->reftable_dirty_last = MIN(q->reftable_dirty_last, old_entries - 1);
    }
}

static void free_table(Qcow2 *q, uint64_t offset, uint64_t bytes)
{
    qcow2_metadata_remove(q, offset, bytes);
    qcow2_free_later(q, offset, bytes, q->discard_other);
}

/*
 * Replace the table in memory by a bigger one with clusters of its own, and have the flush move it.
 * Everything taken on the way stays out of @avoid, which the caller is about to take.
 */
static int coroutine_fn grow_table(Qcow2 *q, uint64_t needed, ClusterRange avoid)
{
    uint64_t old_entries = q->reftable_entries, entries;
    uint64_t superseded = q->reftable_new_offset;
    uint64_t *old_table = q->reftable;
    uint64_t *table;
    ClusterRange own, hull;
    int ret;

    bdrv_co_debug_event(q->file, BLKDBG_REFTABLE_GROW);
    ret = place_table(q, needed, avoid, &own);
    if (ret == 0) {
        ret = qcow2_co_secure(q, own.first << q->geo.cluster_bits, own.n << q->geo.cluster_bits);
    }
    if (ret < 0) {
        return ret;
    }
    entries = own.n << q->geo.cluster_bits >> 3;
    table = g_try_new0(uint64_t, entries);
    if (!table) {
        return -ENOMEM;
    }
    memcpy(table, old_table, old_entries * 8);
    q->reftable = table;
    q->reftable_entries = entries;
    hull.first = avoid.n ? MIN(avoid.first, own.first) : own.first;
    hull.n = own.first + own.n - hull.first;
    ret = refblock_co_ensure(q, own, hull);
    if (ret == 0) {
        ret = qcow2_co_refcount_add(q, own.first, own.n, 1);
    }
    if (ret < 0) {
        g_assert(q->reftable == table); /* place_table left room: no growth within */
        ungrow(q, old_table, old_entries);
        return ret;
    }
    g_free(old_table);
    q->reftable_new_offset = own.first << q->geo.cluster_bits;
    qcow2_metadata_add(q, q->reftable_new_offset, entries * 8, "refcount table");
    mark_dirty(q, 0, entries - 1);
    if (superseded && superseded != q->reftable_sealed_offset) {
        free_table(q, superseded, old_entries * 8); /* no flush is writing it */
    }
    return 0;
}

/* ---- The way to disk ---- */

int qcow2_reftable_seal(Qcow2 *q, ReftableSeal *s)
{
    *s = (ReftableSeal){ 0 };
    if (!q->reftable_dirty && !q->reftable_new_offset) {
        return 0;
    }
    s->moved = q->reftable_new_offset != 0;
    s->table_offset = s->moved ? q->reftable_new_offset : q->hdr.reftable_offset;
    s->clusters = geo_clusters(&q->geo, q->reftable_entries * 8);
    s->first = s->moved ? 0 : q->reftable_dirty_first;
    s->n = (s->moved ? q->reftable_entries : q->reftable_dirty_last + 1) - s->first;
    s->data = g_try_malloc(s->n * 8);
    if (!s->data) {
        *s = (ReftableSeal){ 0 };
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < s->n; i++) {
        stbe64(s->data + i * 8, q->reftable[s->first + i]);
    }
    q->reftable_dirty = false;
    if (s->moved) {
        q->reftable_sealed_offset = s->table_offset;
    }
    return 0;
}

int coroutine_fn qcow2_co_reftable_write(Qcow2 *q, const ReftableSeal *s)
{
    if (!s->n) {
        return 0;
    }
    bdrv_co_debug_event(q->file, s->moved ? BLKDBG_REFBLOCK_ALLOC_WRITE_TABLE
                                          : BLKDBG_REFBLOCK_ALLOC_HOOKUP);
    bdrv_co_debug_event(q->file, BLKDBG_REFTABLE_UPDATE);
    return bdrv_co_pwrite(q->file, s->table_offset + s->first * 8, s->n * 8, s->data, 0);
}

/* Under meta_lock: the header on disk points to @s's table; let go of the old one. */
static void switched(Qcow2 *q, const ReftableSeal *s)
{
    uint64_t old = q->hdr.reftable_offset;
    uint64_t old_bytes = (uint64_t)q->hdr.reftable_clusters << q->geo.cluster_bits;

    q->hdr.reftable_offset = s->table_offset;
    q->hdr.reftable_clusters = s->clusters;
    if (q->reftable_new_offset == s->table_offset) {
        q->reftable_new_offset = 0;
    }
    q->reftable_sealed_offset = 0;
    if (old_bytes) {
        free_table(q, old, old_bytes);
    }
}

int coroutine_fn qcow2_co_reftable_switch(Qcow2 *q, const ReftableSeal *s)
{
    uint8_t field[12]; /* offset at byte 48, clusters at 56: within one sector */
    int ret;

    if (!s->moved) {
        return 0;
    }
    stbe64(field, s->table_offset);
    stbe32(field + 8, s->clusters);
    bdrv_co_debug_event(q->file, BLKDBG_REFBLOCK_ALLOC_SWITCH_TABLE);
    /* meta_lock: nobody else writes the header meanwhile with the old pointer. */
    co_mutex_lock(&q->meta_lock);
    ret = bdrv_co_pwrite(q->file, 48, sizeof(field), field, 0);
    if (ret == 0) {
        switched(q, s);
    }
    co_mutex_unlock(&q->meta_lock);
    return ret;
}

void coroutine_fn qcow2_co_reftable_seal_clear(Qcow2 *q, ReftableSeal *s, bool failed)
{
    if (s->n && failed) {
        co_mutex_lock(&q->meta_lock);
        mark_dirty(q, s->first, s->first + s->n - 1);
        q->reftable_sealed_offset = 0;
        if (s->moved && q->reftable_new_offset != s->table_offset &&
            q->hdr.reftable_offset != s->table_offset) {
            /* Superseded meanwhile.  The header on disk may name it all the same: quarantine keeps
             * it until a flush has switched to its successor. */
            free_table(q, s->table_offset, (uint64_t)s->clusters << q->geo.cluster_bits);
        }
        co_mutex_unlock(&q->meta_lock);
    }
    g_free(s->data);
    *s = (ReftableSeal){ 0 };
}
