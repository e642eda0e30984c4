/* SPDX-License-Identifier: MIT */
/* Reading and changing refcounts: see refcount.h. */
#include "refcount.h"

#include "refcount-codec.h"
#include "table.h"
#include "util/bytes.h"

#define REFTABLE_RESERVED UINT64_C(0x1ff)

/* What holds between any two changes. */
static void check_state(const Allocator *a) REQUIRES_LOCK(a->meta_lock)
{
    g_assert(geo_in_cluster(a->geo, a->reftable_entries * 8) == 0); /* INV-REF-1 */
    g_assert(!a->reftable_dirty || (a->reftable_dirty_first <= a->reftable_dirty_last &&
                                    a->reftable_dirty_last < a->reftable_entries));
    g_assert(a->compress_next == 0 || geo_in_cluster(a->geo, a->compress_next) != 0);
    g_assert(geo_in_cluster(a->geo, a->reftable_new_offset) == 0);
}

static int coroutine_fn register_tables(Allocator *a) REQUIRES_LOCK(a->meta_lock)
{
    const Geometry *g = a->geo;

    qcow2_metadata_add(a->metadata, a->hdr->reftable_offset, a->reftable_entries * 8,
                       "refcount table");
    for (uint64_t i = 0; i < a->reftable_entries; i++) {
        uint64_t e = a->reftable[i];

        if (e && !(e & REFTABLE_RESERVED) && geo_in_cluster(g, e) == 0) {
            qcow2_metadata_add(a->metadata, e, g->cluster_size, "refcount block");
        }
    }
    return 0;
}

int coroutine_fn qcow2_refcount_co_load_table(Allocator *a, GError **errp)
{
    uint64_t bytes = (uint64_t)a->hdr->reftable_clusters << a->geo->cluster_bits;
    g_autofree uint64_t *table = NULL;
    int ret;

    if (bytes > QCOW2_MAX_REFTABLE_BYTES) {
        return error_set(errp, EINVAL, "Image does not contain a reference count table");
    }
    table = g_try_malloc(MAX(bytes, 8));
    if (!table) {
        return error_set(errp, ENOMEM, "Could not initialize refcount handling");
    }
    if (bytes) {
        bdrv_co_debug_event(a->file, BLKDBG_REFTABLE_LOAD);
        ret = qcow2_table_co_read(a->file, a->hdr->reftable_offset, bytes, table);
        if (ret < 0) {
            return error_set_errno(errp, ret, "Could not initialize refcount handling");
        }
    }
    for (uint64_t i = 0; i < bytes / 8; i++) {
        table[i] = ldbe64(&table[i]);
    }
    g_free(a->reftable);
    a->reftable = g_steal_pointer(&table);
    a->reftable_entries = bytes / 8;
    a->reftable_dirty = false;
    a->reftable_new_offset = 0;
    a->free_hint = 0;
    qcow2_full_map_forget(&a->full);
    ORACLE(qcow2_oracle_counts_forget(a->oracle));
    return register_tables(a);
}

int coroutine_fn qcow2_refcount_co_block_offset(Allocator *a, uint64_t cluster, uint64_t *ret)
{
    uint64_t i = cluster >> a->geo->refblock_bits;
    uint64_t e = i < a->reftable_entries ? a->reftable[i] : 0;

    if ((e & REFTABLE_RESERVED) || geo_in_cluster(a->geo, e)) {
        return qcow2_health_co_corrupt_by(a->health,
                                          "Refblock offset %#" G_GINT64_MODIFIER
                                          "x unaligned (reftable index: %#" G_GINT64_MODIFIER "x)",
                                          e, i);
    }
    *ret = e;
    return 0;
}

int coroutine_fn qcow2_refcount_co_slice(Allocator *a, uint64_t cluster, MetaSlice **slice,
                                         uint64_t *index)
{
    uint64_t per = qcow2_refcount_slice_entries(a);
    uint64_t block = 0, in_block;
    int ret = qcow2_refcount_co_block_offset(a, cluster, &block);

    *slice = NULL;
    if (ret < 0 || !block) {
        return ret;
    }
    in_block = cluster & ((UINT64_C(1) << a->geo->refblock_bits) - 1);
    *index = in_block % per;
    return qcow2_cache_co_get(a->ref_cache,
                              block + in_block / per * qcow2_cache_slice_size(a->ref_cache), slice);
}

int coroutine_fn qcow2_refcount_co_get(Allocator *a, uint64_t cluster, uint64_t *ret)
{
    MetaSlice *s;
    uint64_t index;
    int r = qcow2_refcount_co_slice(a, cluster, &s, &index);

    if (r < 0) {
        return r;
    }
    *ret = 0;
    if (s) {
        *ret = qcow2_refcount_codec_get(a->geo->refcount_order, s->data, index);
        qcow2_cache_put(a->ref_cache, s);
    }
    ORACLE(qcow2_oracle_counts_check(a->oracle, cluster, *ret));
    return 0;
}

/* All of entries [index, index + n) can take @delta. */
static int coroutine_fn check_delta(Allocator *a, MetaSlice *s, uint64_t cluster, uint64_t index,
                                    uint64_t n, int delta)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = qcow2_refcount_codec_get(a->geo->refcount_order, s->data, index + i);

        if (delta < 0 && v < (uint64_t)-delta) {
            return qcow2_health_co_corrupt(a->health, "refcount",
                                           (cluster + i) << a->geo->cluster_bits,
                                           "refcount would fall below zero");
        }
        if (delta > 0 && v > a->geo->refcount_max - (uint64_t)delta) {
            return -EINVAL;
        }
    }
    return 0;
}

/* Nobody counts on @cluster any more. */
static void note_freed(Allocator *a, uint64_t cluster) REQUIRES_LOCK(a->meta_lock)
{
    a->freed = true;
    a->free_hint = MIN(a->free_hint, cluster); /* INV-ALLOC-1 */
    qcow2_full_map_clear(&a->full, cluster / qcow2_refcount_slice_entries(a)); /* INV-FULL-1 */
    if (a->compress_next && a->compress_next >> a->geo->cluster_bits == cluster) {
        a->compress_next = 0; /* INV-ALLOC-3 */
    }
}

static void apply_delta(Allocator *a, MetaSlice *s, uint64_t cluster, uint64_t index, uint64_t n,
                        int delta) REQUIRES_LOCK(a->meta_lock)
{
    g_assert(index + n <= qcow2_refcount_slice_entries(a));
    qcow2_cache_modify_begin(a->ref_cache, s);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v =
            qcow2_refcount_codec_get(a->geo->refcount_order, s->data, index + i) + (int64_t)delta;

        qcow2_refcount_codec_set(a->geo->refcount_order, s->data, index + i, v);
        ORACLE(qcow2_oracle_counts_check(a->oracle, cluster + i, v - (uint64_t)(int64_t)delta));
        ORACLE(qcow2_oracle_counts_set(a->oracle, cluster + i, v));
        if (v == 0) {
            note_freed(a, cluster + i);
        }
    }
    qcow2_cache_modify_end(a->ref_cache, s);
    if (delta > 0 && n == qcow2_refcount_slice_entries(a)) {
        qcow2_full_map_set(&a->full, cluster / n);
    }
}

/* Slice by slice; *done counts the clusters changed. */
static int coroutine_fn change_range(Allocator *a, uint64_t first, uint64_t n, int delta,
                                     bool checked, uint64_t *done) REQUIRES_LOCK(a->meta_lock)
{
    uint64_t per = qcow2_refcount_slice_entries(a);
    int ret;

    for (*done = 0; *done < n;) {
        MetaSlice *s;
        uint64_t c = first + *done, index, len;

        ret = qcow2_refcount_co_slice(a, c, &s, &index);
        if (ret < 0) {
            return ret;
        }
        if (!s) {
            return qcow2_health_co_corrupt(a->health, "refcount", c << a->geo->cluster_bits,
                                           "cluster in use has no refcount block");
        }
        len = MIN(n - *done, per - index);
        ret = checked ? 0 : check_delta(a, s, c, index, len, delta);
        if (ret == 0) {
            apply_delta(a, s, c, index, len, delta);
            *done += len;
        }
        qcow2_cache_put(a->ref_cache, s);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

int coroutine_fn qcow2_refcount_co_change(Allocator *a, uint64_t first, uint64_t n, int delta)
{
    uint64_t done, undone;
    int ret;

    g_assert(n > 0 && delta != 0);
    check_state(a);
    ret = change_range(a, first, n, delta, false, &done);
    if (ret < 0 && done) {
        int undo = change_range(a, first, done, -delta, true, &undone);

        g_assert(undo == 0); /* INV-REF-2 */
    }
    check_state(a);
    return ret;
}

int coroutine_fn qcow2_refcount_co_lower(Allocator *a, uint64_t cluster, uint64_t count)
{
    MetaSlice *s;
    uint64_t index, was;
    int ret = qcow2_refcount_co_slice(a, cluster, &s, &index);

    if (ret < 0 || !s) {
        return ret;
    }
    was = qcow2_refcount_codec_get(a->geo->refcount_order, s->data, index);
    g_assert(count <= was);
    if (count < was) {
        qcow2_cache_modify_begin(a->ref_cache, s);
        qcow2_refcount_codec_set(a->geo->refcount_order, s->data, index, count);
        ORACLE(qcow2_oracle_counts_set(a->oracle, cluster, count));
        if (count == 0) {
            note_freed(a, cluster);
        }
        qcow2_cache_modify_end(a->ref_cache, s);
    }
    qcow2_cache_put(a->ref_cache, s);
    return 0;
}

void coroutine_fn qcow2_refcount_co_free_unused(Allocator *a, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> a->geo->cluster_bits;
    uint64_t last = (offset + bytes - 1) >> a->geo->cluster_bits;

    bdrv_co_debug_event(a->file, BLKDBG_CLUSTER_FREE);
    /* On failure the clusters leak; nothing refers to them. */
    (void)qcow2_refcount_co_change(a, first, last - first + 1, -1);
}
