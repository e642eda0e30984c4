/* SPDX-License-Identifier: MIT */
/* What may be done with an L2 entry, and its change: see entry.h. */
#include "entry.h"

#include "l2-table.h"

#define HEX "%#" G_GINT64_MODIFIER "x"

/* @why, and where the entry is. */
static int coroutine_fn co_corrupt_at(Qcow2 *q, uint64_t guest, const char *why)
{
    uint64_t i = geo_l1_index(&q->geo, guest);
    uint64_t table = i < q->l1_size ? atomic_load(&q->l1[i]) & QCOW2_OFFSET_MASK : 0;

    return qcow2_health_co_corrupt_by(&q->health, "%s (L2 offset: " HEX ", L2 index: " HEX ")", why,
                                      table, geo_l2_index(&q->geo, guest));
}

static int coroutine_fn co_misplaced(Qcow2 *q, L2Entry e, uint64_t guest)
{
    return qcow2_health_co_corrupt_by(
        &q->health,
        "External data file host cluster offset " HEX " does not match guest cluster offset: " HEX
        ", L2 index: " HEX ")",
        qcow2_l2_host(&q->geo, e), geo_cluster_start(&q->geo, guest), geo_l2_index(&q->geo, guest));
}

#define PACKED "Compressed cluster entry found in image with external data file"

int coroutine_fn qcow2_entry_co_unreadable(Qcow2 *q, L2Entry e, uint64_t guest)
{
    g_autofree char *why = NULL;

    switch (qcow2_l2_defect(&q->geo, e, guest)) {
    case L2_UNALIGNED:
        why = g_strdup_printf("Cluster allocation offset " HEX " unaligned",
                              qcow2_l2_host(&q->geo, e));
        return co_corrupt_at(q, guest, why);
    case L2_MISPLACED:
        return co_misplaced(q, e, guest);
    case L2_PACKED:
        return co_corrupt_at(q, guest, PACKED);
    case L2_BITMAP:
        return co_corrupt_at(q, guest, "Invalid cluster entry found ");
    case L2_SOUND:
        break;
    }
    return co_corrupt_at(q, guest, "Zero cluster entry found in pre-v3 image");
}

int coroutine_fn qcow2_entry_co_check(Qcow2 *q, L2Entry e, uint64_t guest)
{
    bool zero = q->geo.version >= 3 && !q->geo.extended_l2 && (e.desc & L2E_ZERO);

    switch (qcow2_l2_defect(&q->geo, e, guest)) {
    case L2_SOUND:
        return 0;
    case L2_UNALIGNED:
        return qcow2_health_co_corrupt_by(
            &q->health, "%s cluster offset " HEX " unaligned (guest offset: " HEX ")",
            zero ? "Preallocated zero" : "Data", qcow2_l2_host(&q->geo, e), guest);
    case L2_MISPLACED:
        return co_misplaced(q, e, guest);
    case L2_PACKED:
        return co_corrupt_at(q, guest, PACKED);
    case L2_BITMAP:
        return co_corrupt_at(q, guest, "Invalid cluster entry found");
    }
    g_assert_not_reached();
}

bool qcow2_entry_is_replaced(const Geometry *g, L2Entry e)
{
    return !qcow2_entry_in_place(g, e) && ((e.desc & L2E_COMPRESSED) || qcow2_l2_has_host(g, e));
}

bool qcow2_entry_reads_zero(Qcow2 *q, L2Entry e, uint64_t start, uint64_t end)
{
    return qcow2_entry_reads_zero_over(q, e, start, end, false);
}

bool qcow2_entry_reads_zero_over(Qcow2 *q, L2Entry e, uint64_t start, uint64_t end, bool below)
{
    const Geometry *g = &q->geo;
    BlockDriverState *backing = bdrv_backing_bs(q->bs);
    bool defers_to_zero =
        below || !backing || (int64_t)start >= atomic_load(&backing->total_bytes);

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
