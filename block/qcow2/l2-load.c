/* SPDX-License-Identifier: MIT */
/* The slices of L2 tables: see l2-table.h. */
#include "l2-table.h"

#include "clean.h"

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
