/* SPDX-License-Identifier: MIT */
/* The slice of an L2 entry, to read or to change; and new L2 tables. */
#ifndef QCOW2_L2_TABLE_H
#define QCOW2_L2_TABLE_H

#include "qcow2.h"

/* l2-load.c: the slice with entry @at of the L2 table at @table, held; refuses a table that lies
 * past the end of the file. */
int coroutine_fn qcow2_l2_table_co_load(Qcow2 *q, uint64_t l1_index, uint64_t table, uint64_t at,
                                        MetaSlice **slice);
/* The slice and index for the entry of @guest; *@slice NULL if there is no L2 table. */
int coroutine_fn qcow2_l2_table_co_get(Qcow2 *q, uint64_t guest, MetaSlice **slice, unsigned *index)
    REQUIRES_LOCK(q->alloc.meta_lock);
/* The same for a change: allocates the table, or copies it when shared (L1 COPIED clear). */
int coroutine_fn qcow2_l2_table_co_get_writable(Qcow2 *q, uint64_t guest, MetaSlice **slice,
                                                unsigned *index) REQUIRES_LOCK(q->alloc.meta_lock);
/* Number of entries in a slice. */
static inline unsigned qcow2_l2_table_slice_entries(const Qcow2 *q)
{
    return (unsigned)(qcow2_cache_slice_size(q->l2_cache) / q->geo.l2_entry_size);
}

#endif
