/* SPDX-License-Identifier: MIT */
/*
 * Reference counts: load the table, read and change counts.
 *
 * All changes are in memory; flush.c brings them to disk before the tables that rely on
 * them (INV-W-1). Decrements come only from alloc.c's undo and from pin.c, after the last reference
 * has left the disk (INV-W-4).
 *
 * INV-REF-1  The table in memory has reftable_entries entries, which fill whole clusters.
 * INV-REF-2  A change of a range happens whole or not at all: slices changed so far are dirty, so
 *            they stay in the cache until the flusher seals them, which needs meta_lock; the undo
 *            therefore cannot fail.
 */
#include "refcount-int.h"
#include "util/bytes.h"

#define REFTABLE_RESERVED UINT64_C(0x1ff)

static int coroutine_fn register_tables(Qcow2 *q)
{
    const Geometry *g = &q->geo;

    qcow2_metadata_add(q, q->hdr.reftable_offset, q->reftable_entries * 8, "refcount table");
    for (uint64_t i = 0; i < q->reftable_entries; i++) {
        uint64_t e = q->reftable[i];

        if (e && !(e & REFTABLE_RESERVED) && geo_in_cluster(g, e) == 0) {
            qcow2_metadata_add(q, e, g->cluster_size, "refcount block");
        }
    }
    return 0;
}

int coroutine_fn qcow2_co_read_table(Qcow2 *q, uint64_t offset, uint64_t bytes, void *buf)
{
    int64_t end = bdrv_co_getlength(q->file->bs);
    uint64_t n;

    if (end < 0) {
        return (int)end;
    }
    n = offset < (uint64_t)end ? MIN(bytes, (uint64_t)end - offset) : 0;
    memset((uint8_t *)buf + n, 0, bytes - n);
    return n ? bdrv_co_pread(q->file, (int64_t)offset, (int64_t)n, buf, 0) : 0;
}

int coroutine_fn qcow2_refcount_co_load_table(Qcow2 *q, GError **errp)
{
    uint64_t bytes = (uint64_t)q->hdr.reftable_clusters << q->geo.cluster_bits;
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
        bdrv_co_debug_event(q->file, BLKDBG_REFTABLE_LOAD);
        ret = qcow2_co_read_table(q, q->hdr.reftable_offset, bytes, table);
        if (ret < 0) {
            return error_set_errno(errp, ret, "Could not initialize refcount handling");
        }
    }
    for (uint64_t i = 0; i < bytes / 8; i++) {
        table[i] = ldbe64(&table[i]);
    }
    g_free(q->reftable);
    q->reftable = g_steal_pointer(&table);
    q->reftable_entries = bytes / 8;
    q->reftable_dirty = false;
    q->reftable_new_offset = 0;
    q->free_hint = 0;
    return register_tables(q);
}

int coroutine_fn refblock_co_offset(Qcow2 *q, uint64_t cluster, uint64_t *ret)
{
    uint64_t i = cluster >> q->geo.refblock_bits;
    uint64_t e = i < q->reftable_entries ? q->reftable[i] : 0;

    if ((e & REFTABLE_RESERVED) || geo_in_cluster(&q->geo, e)) {
        return qcow2_co_corrupt(q, "refcount table", i * 8, "unaligned refcount block offset");
    }
    *ret = e;
    return 0;
}

int coroutine_fn refcount_co_slice(Qcow2 *q, uint64_t cluster, MetaSlice **slice, uint64_t *index)
{
    uint64_t per = refcount_slice_entries(q);
    uint64_t block = 0, in_block;
    int ret = refblock_co_offset(q, cluster, &block);

    *slice = NULL;
    if (ret < 0 || !block) {
        return ret;
    }
    in_block = cluster & ((UINT64_C(1) << q->geo.refblock_bits) - 1);
    *index = in_block % per;
    return meta_cache_co_get(q->ref_cache,
                             block + in_block / per * meta_cache_slice_size(q->ref_cache), slice);
}

int coroutine_fn qcow2_co_refcount_get(Qcow2 *q, uint64_t cluster, uint64_t *ret)
{
    MetaSlice *s;
    uint64_t index;
    int r = refcount_co_slice(q, cluster, &s, &index);

    if (r < 0) {
        return r;
    }
    *ret = 0;
    if (s) {
        *ret = refcount_entry_get(q->geo.refcount_order, s->data, index);
        meta_cache_put(q->ref_cache, s);
    }
    return 0;
}

/* All of entries [index, index + n) can take @delta. */
static int coroutine_fn check_delta(Qcow2 *q, MetaSlice *s, uint64_t cluster, uint64_t index,
                                    uint64_t n, int delta)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = refcount_entry_get(q->geo.refcount_order, s->data, index + i);

        if (delta < 0 && v < (uint64_t)-delta) {
            return qcow2_co_corrupt(q, "refcount", (cluster + i) << q->geo.cluster_bits,
                                    "refcount would fall below zero");
        }
        if (delta > 0 && v > q->geo.refcount_max - (uint64_t)delta) {
            return -EINVAL;
        }
    }
    return 0;
}

static void apply_delta(Qcow2 *q, MetaSlice *s, uint64_t cluster, uint64_t index, uint64_t n,
                        int delta)
{
    meta_cache_modify_begin(q->ref_cache, s);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = refcount_entry_get(q->geo.refcount_order, s->data, index + i) + (int64_t)delta;

        refcount_entry_set(q->geo.refcount_order, s->data, index + i, v);
        if (v == 0) {
            alloc_cluster_freed(q, cluster + i);
        }
    }
    meta_cache_modify_end(q->ref_cache, s);
}

/* Slice by slice; *done counts the clusters changed. */
static int coroutine_fn add_range(Qcow2 *q, uint64_t first, uint64_t n, int delta, bool checked,
                                  uint64_t *done)
{
    uint64_t per = refcount_slice_entries(q);
    int ret;

    for (*done = 0; *done < n;) {
        MetaSlice *s;
        uint64_t c = first + *done, index, len;

        ret = refcount_co_slice(q, c, &s, &index);
        if (ret < 0) {
            return ret;
        }
        if (!s) {
            return qcow2_co_corrupt(q, "refcount", c << q->geo.cluster_bits,
                                    "cluster in use has no refcount block");
        }
        len = MIN(n - *done, per - index);
        ret = checked ? 0 : check_delta(q, s, c, index, len, delta);
        if (ret == 0) {
            apply_delta(q, s, c, index, len, delta);
            *done += len;
        }
        meta_cache_put(q->ref_cache, s);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

int coroutine_fn qcow2_co_refcount_add(Qcow2 *q, uint64_t first, uint64_t n, int delta)
{
    uint64_t done, undone;
    int ret;

    g_assert(n > 0 && delta != 0);
    if (delta > 0) {
        ret = refblock_co_ensure(q, (ClusterRange){ first, n }, (ClusterRange){ first, n });
        if (ret < 0) {
            return ret;
        }
    }
    ret = add_range(q, first, n, delta, false, &done);
    if (ret < 0 && done) {
        int undo = add_range(q, first, done, -delta, true, &undone);

        g_assert(undo == 0); /* INV-REF-2 */
    }
    return ret;
}
