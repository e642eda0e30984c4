/* SPDX-License-Identifier: MIT */
/* New L2 tables, and slices to change: see l2-table.h. */
#include "l2-table.h"

#include "alloc.h"
#include "l1.h"
#include "refcount.h"
#include "rules.h"
#include "sharing.h"
#include "table.h"

#include <string.h>

/* From this cluster size on, a new L2 table is zeroed on disk and not slice by slice in memory. */
#define ZERO_ON_DISK (64 * KiB)

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
    qcow2_sharing_co_settle(q, l1_index); /* INV-SHR-1 */
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
    } else if (unlikely(qcow2_metadata_is_inactive_l2(q->metadata, e & QCOW2_OFFSET_MASK))) {
        return qcow2_health_co_overlaps(&q->health, "inactive L2 table");
    }
    return qcow2_l2_table_co_get(q, guest, slice, index);
}
