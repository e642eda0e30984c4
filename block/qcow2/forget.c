/* SPDX-License-Identifier: MIT */
#include "forget.h"

#include "flush.h"
#include "l1.h"
#include "reap.h"
#include "reftable-shrink.h"
#include "tail.h"

void coroutine_fn qcow2_forget_co_tables(Qcow2 *q, uint64_t first, uint64_t end)
{
    for (uint64_t i = first; i < end; i++) {
        uint64_t entry = atomic_load(&q->l1[i]), off = entry & QCOW2_OFFSET_MASK;

        if (!off) {
            continue;
        }
        qcow2_l1_set(q, i, 0);
        if (entry & L2E_COPIED) {
            qcow2_cache_drop(q->l2_cache, off, q->geo.cluster_size);
        }
        qcow2_metadata_remove(q->metadata, off, q->geo.cluster_size);
        qcow2_quarantine_add(q->quarantine, off, q->geo.cluster_size, q->discard_passthrough);
    }
}

void coroutine_fn qcow2_forget_co_free(Qcow2 *q)
{
    if (qcow2_flush_co_metadata(q, true) == 0) {
        (void)qcow2_reap_co_ready(q);
    }
}

void coroutine_fn qcow2_forget_co_cut(Qcow2 *q)
{
    uint64_t gone;

    if (qcow2_reftable_shrink_co_run(q, &gone) == 0 && gone) {
        (void)qcow2_flush_co_metadata(q, true);
    }
    (void)qcow2_tail_co_cut(q, 0);
}
