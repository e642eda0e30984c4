/* SPDX-License-Identifier: MIT */
/* What may be done with an L2 entry, and its change: see entry.h. */
#include "entry.h"

#include "l2-table.h"

int coroutine_fn qcow2_entry_co_check(Qcow2 *q, L2Entry e, uint64_t guest)
{
    const char *defect = qcow2_l2_defect(&q->geo, e, guest);

    return defect ? qcow2_health_co_corrupt(&q->health, "L2 entry", guest, defect) : 0;
}

bool qcow2_entry_is_replaced(const Geometry *g, L2Entry e)
{
    return !qcow2_entry_in_place(g, e) && ((e.desc & L2E_COMPRESSED) || qcow2_l2_has_host(g, e));
}

bool qcow2_entry_reads_zero(Qcow2 *q, L2Entry e, uint64_t start, uint64_t end)
{
    const Geometry *g = &q->geo;
    BlockDriverState *backing = bdrv_backing_bs(q->bs);
    bool defers_to_zero = !backing || (int64_t)start >= atomic_load(&backing->total_bytes);

    g_assert(start <= end);
    g_assert(start == end || geo_cluster_start(g, start) == geo_cluster_start(g, end - 1));
    for (uint64_t at = start; at < end;
         at = ALIGN_DOWN(at, g->subcluster_size) + g->subcluster_size) {
        switch (qcow2_l2_kind(g, e, geo_sc_index(g, at), at)) {
        case SC_ZERO_PLAIN:
        case SC_ZERO_ALLOC:
            break;
        case SC_UNALLOCATED_PLAIN:
        case SC_UNALLOCATED_ALLOC:
            if (!defers_to_zero) {
                return false;
            }
            break;
        case SC_NORMAL:
        case SC_COMPRESSED:
        case SC_INVALID:
            return false;
        }
    }
    return true;
}

void qcow2_entry_free_later(Qcow2 *q, L2Entry e, bool punch)
{
    const Geometry *g = &q->geo;

    if (g->external_data) {
        return; /* data clusters there have no counts; discard.c punches them itself */
    }
    if (e.desc & L2E_COMPRESSED) {
        uint64_t host, bytes;

        qcow2_l2_compressed_range(g, e, &host, &bytes);
        qcow2_quarantine_add_compressed(q->quarantine, host, bytes, punch);
    } else if (qcow2_l2_has_host(g, e)) {
        qcow2_quarantine_add(q->quarantine, qcow2_l2_host(g, e), g->cluster_size, punch);
    }
}

void qcow2_entry_replace(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t guest, L2Entry e,
                         bool punch)
{
    const Geometry *g = &q->geo;
    L2Entry old = qcow2_l2_load(g, s->data, index);

    g_assert(index < qcow2_l2_table_slice_entries(q));
    qcow2_cache_modify_begin(q->l2_cache, s);
    qcow2_l2_store(g, s->data, index, e);
    qcow2_cache_modify_end(q->l2_cache, s);
    if (((old.desc & L2E_COMPRESSED) || (qcow2_l2_has_host(g, old) && !qcow2_l2_has_host(g, e))) &&
        !qcow2_l2_defect(g, old, guest)) {
        qcow2_entry_free_later(q, old, punch);
    }
}
