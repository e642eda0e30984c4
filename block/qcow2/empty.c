/* SPDX-License-Identifier: MIT */
/*
 * Emptying an image after its content went to its backing file: all shows that one.
 *
 * INV-EMPTY-1  Every entry is the old one or 0, and both show the same: whatever part of them is
 *              on the disk when power fails, the guest's content is. Clusters go to quarantine
 *              with their entries, and tables with theirs in the L1 table (INV-W-4), so nothing is
 *              reused before the tables on the disk have let go of it.
 *
 * A table that is dropped need not be written before: its entries' zeroes never reach the disk,
 * its clusters wait for that of the L1 table.
 */
#include "callbacks.h"
#include "change.h"
#include "discard.h"
#include "flush.h"
#include "forget.h"

int coroutine_fn qcow2_co_make_empty(BlockDriverState *bs)
{
    Qcow2 *q = bs->opaque;
    uint64_t tables = geo_l1_entries(&q->geo, (uint64_t)atomic_load(&bs->total_bytes));
    int ret = qcow2_health_may_write(&q->health);

    if (ret < 0 || !bs->backing || q->geo.data_raw) {
        return ret < 0 ? ret : -ENOTSUP;
    }
    ret = qcow2_change_co_begin(q, QCOW2_CHANGE_IMAGE);
    ret = ret < 0 ? ret : qcow2_discard_co_empty(q, 0, geo_l1_start(&q->geo, tables));
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&q->alloc.meta_lock);
    qcow2_forget_co_tables(q, 0, tables);
    co_mutex_unlock(&q->alloc.meta_lock);
    ret = qcow2_flush_co_metadata(q, true);
    if (ret == 0) {
        qcow2_forget_co_free(q);
        qcow2_forget_co_cut(q);
    }
    return ret;
}
