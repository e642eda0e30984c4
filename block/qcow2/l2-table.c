/* SPDX-License-Identifier: MIT */
/* The slices of L2 tables, and new tables: see l2-table.h. */
#include "l2-table.h"

#include "alloc.h"
#include "clean.h"
#include "l1.h"
#include "refcount.h"
#include "rules.h"
#include "table.h"

#include <string.h>

/* From this cluster size on, a new L2 table is zeroed on disk and not slice by slice in memory. */
#define ZERO_ON_DISK (64 * KiB)

int coroutine_fn qcow2_l2_table_co_load(Qcow2 *q, uint64_t l1_index, uint64_t table, uint64_t at,
                                        MetaSlice **slice)
{
    bool cached = qcow2_cache_peek_begin(q->l2_cache, table + at * q->geo.l2_entry_size) != NULL;

    g_assert(at < UINT64_C(1) << q->geo.l2_bits);
    if (cached) {
        qcow2_cache_peek_end(q->l2_cache);
    } else {
        qcow2_clean_if_due(q);
    }
    /* A table that the file does not hold would read as zeroes: as data lost in silence. (A new one
     * is in the cache, dirty, until it is written.) */
    if (unlikely(!cached && (int64_t)table >= atomic_load(&q->file->bs->total_bytes) &&
                 (int64_t)table >= bdrv_co_getlength(q->file->bs))) {
        return qcow2_health_co_corrupt(&q->health, "L1 entry", (int64_t)l1_index,
                                       "L2 table is past the end of the file");
    }
    return qcow2_cache_co_get(q->l2_cache, table + at * q->geo.l2_entry_size, slice);
}

int coroutine_fn qcow2_l2_table_co_get(Qcow2 *q, uint64_t guest, MetaSlice **slice, unsigned *index)
{
    const Geometry *g = &q->geo;
    uint64_t l1_index = geo_l1_index(g, guest), at = geo_l2_index(g, guest);
    uint64_t table = l1_index < q->l1_size ? atomic_load(&q->l1[l1_index]) & QCOW2_OFFSET_MASK : 0;

    *slice = NULL;
    *index = (unsigned)(at % qcow2_l2_table_slice_entries(q));
    if (!table) {
        return 0;
    }
    if (geo_in_cluster(g, table)) {
        return qcow2_health_co_corrupt_by(&q->health,
                                          "L2 table offset %#" G_GINT64_MODIFIER
                                          "x unaligned (L1 index: %#" G_GINT64_MODIFIER "x)",
                                          table, (uint64_t)l1_index);
    }
    return qcow2_l2_table_co_load(q, l1_index, table, at, slice);
}

/* Fill the new table at @table: zeroes, or a copy of @old. Its slices are dirty, or on disk; in
 * either case it has its space there: a table that finds none at the next flush would hold up all
 * others. */
static int coroutine_fn co_fill_table(Qcow2 *q, uint64_t table, uint64_t old)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    size_t size = qcow2_cache_slice_size(q->l2_cache);
    int ret;

    g_assert(geo_in_cluster(&q->geo, table | old) == 0);
    bdrv_co_debug_event(q->file, BLKDBG_L2_ALLOC_WRITE);
    qcow2_cache_drop(q->l2_cache, table, q->geo.cluster_size); /* of a table that was here before */
    ret = qcow2_table_co_secure(q->file, table, q->geo.cluster_size);
    if (old) {
        CASE_MET(TABLE_COPIED);
    }
    if (!old && (int64_t)q->geo.cluster_size > ZERO_ON_DISK) {
        CASE_MET(TABLE_ZEROED);
        return ret;
    }
    for (uint64_t at = 0; at < q->geo.cluster_size && ret == 0; at += size) {
        MetaSlice *from = NULL, *to;

        if (old) {
            ret = qcow2_cache_co_get(q->l2_cache, old + at, &from);
            from = ret < 0 ? NULL : from; /* on failure nothing is held */
        }
        ret = ret < 0 ? ret : qcow2_cache_get_new(q->l2_cache, table + at, &to);
        if (ret == 0) {
            qcow2_cache_modify_begin(q->l2_cache, to);
            if (from) {
                memcpy(to->data, from->data, size);
            }
            qcow2_cache_modify_end(q->l2_cache, to);
            qcow2_cache_put(q->l2_cache, to);
        }
        if (from) {
            qcow2_cache_put(q->l2_cache, from);
        }
    }
    return ret;
}

/* A new table for L1 entry @l1_index, whose old table (if any) is shared and let go of. */
static int coroutine_fn co_new_table(Qcow2 *q, uint64_t l1_index, uint64_t old)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    uint64_t table;
    int ret = qcow2_alloc_co_clusters(&q->alloc, 1, &table);

    if (ret < 0) {
        return ret;
    }
    ret = co_fill_table(q, table, old);
    if (ret < 0) {
        qcow2_cache_drop(q->l2_cache, table, q->geo.cluster_size);
        qcow2_refcount_co_free_unused(&q->alloc, table, q->geo.cluster_size);
        return ret;
    }
    bdrv_co_debug_event(q->file, BLKDBG_L1_UPDATE);
    qcow2_metadata_add(q->metadata, table, q->geo.cluster_size, "active L2 table");
    qcow2_l1_set(q, (uint32_t)l1_index, table | L2E_COPIED);
    if (old) {
        qcow2_metadata_remove(q->metadata, old, q->geo.cluster_size);
        qcow2_quarantine_add(q->quarantine, old, q->geo.cluster_size, q->alloc.discard_other);
    }
    return 0;
}

int coroutine_fn qcow2_l2_table_co_get_writable(Qcow2 *q, uint64_t guest, MetaSlice **slice,
                                                unsigned *index)
{
    uint64_t l1_index = geo_l1_index(&q->geo, guest), e;
    int ret;

    if (l1_index >= q->l1_size) {
        return -EFBIG;
    }
    e = atomic_load(&q->l1[l1_index]);
    if (geo_in_cluster(&q->geo, e & QCOW2_OFFSET_MASK)) {
        return qcow2_health_co_corrupt_by(&q->health,
                                          "L2 table offset %#" G_GINT64_MODIFIER
                                          "x unaligned (L1 index: %#" G_GINT64_MODIFIER "x)",
                                          (uint64_t)(e & QCOW2_OFFSET_MASK), (uint64_t)l1_index);
    }
    if (!(e & L2E_COPIED) ||
        !(e & QCOW2_OFFSET_MASK)) { /* shared, or none, whatever its flag says */
        ret = co_new_table(q, l1_index, e & QCOW2_OFFSET_MASK);
        if (ret < 0) {
            return ret;
        }
    }
    return qcow2_l2_table_co_get(q, guest, slice, index);
}
