/* SPDX-License-Identifier: MIT */
/*
 * What a repair makes of an entry of an L1 or L2 table.  Pure.
 *
 * INV-REP-1  What an entry shows that can be read stays as it is.  Only what reads as an error, or
 *            as the zeroes past the end of the file, becomes zeroes (unallocated in version 2).
 */
#include "check.h"

static uint64_t all_zero_bits(L2Entry e)
{
    return ((e.bitmap | e.bitmap >> 32) & UINT32_MAX) << 32;
}

/* Nothing of what @e has in the file can be read. */
static L2Entry as_zero(const Geometry *g, L2Entry e)
{
    if (g->extended_l2) {
        return (L2Entry){ .bitmap = e.desc & L2E_COMPRESSED ? (uint64_t)UINT32_MAX << 32
                                                            : all_zero_bits(e) };
    }
    return (L2Entry){ .desc = g->version >= 3 ? L2E_ZERO : 0 };
}

static L2Entry repair_compressed(const Check *c, L2Entry e)
{
    uint64_t host, bytes;

    qcow2_l2_compressed_range(&c->q->geo, e, &host, &bytes);
    if (c->q->geo.external_data || qcow2_check_is_beyond(c, host, bytes)) {
        return as_zero(&c->q->geo, e);
    }
    e.desc &= ~L2E_COPIED;
    return e;
}

/* Both bits of a subcluster: the one that keeps its data is believed. */
static L2Entry repair_bitmap(const Geometry *g, L2Entry e)
{
    if (qcow2_l2_has_host(g, e)) {
        e.bitmap &= ~((e.bitmap & UINT32_MAX) << 32);
    } else {
        e.bitmap &= (uint64_t)UINT32_MAX << 32;
    }
    return e;
}

static L2Entry repair_unaligned(const Geometry *g, L2Entry e, uint64_t guest, bool align)
{
    if (g->external_data) { /* where the cluster is in the data file, its place is the guest's */
        e.desc = (e.desc & ~QCOW2_OFFSET_MASK) | geo_cluster_start(g, guest);
        return e;
    }
    if (align && !(g->version >= 3 && !g->extended_l2 && (e.desc & L2E_ZERO))) {
        e.desc &= ~(QCOW2_OFFSET_MASK & (g->cluster_size - 1));
        return e;
    }
    return as_zero(g, e);
}

L2Entry qcow2_check_entry_repair(const Check *c, L2Entry e, uint64_t guest, bool align)
{
    const Geometry *g = &c->q->geo;
    uint64_t host;

    if (e.desc & L2E_COMPRESSED) {
        return repair_compressed(c, e);
    }
    e.desc &= ~(g->extended_l2 ? QCOW2_L2_RESERVED_EXT : QCOW2_L2_RESERVED_STD);
    if (qcow2_l2_has_host(g, e)) {
        if (geo_in_cluster(g, qcow2_l2_host(g, e))) {
            e = repair_unaligned(g, e, guest, align);
        }
        host = qcow2_l2_host(g, e);
        if (!g->external_data && host && qcow2_check_is_beyond(c, host, g->cluster_size)) {
            e = as_zero(g, e);
        }
    }
    return g->extended_l2 ? repair_bitmap(g, e) : e;
}

uint64_t qcow2_check_entry_repair_l1(const Check *c, uint64_t e, bool align)
{
    const Geometry *g = &c->q->geo;
    uint64_t table = e & QCOW2_OFFSET_MASK;

    e &= ~QCOW2_L1_RESERVED;
    if (geo_in_cluster(g, table)) {
        e = align ? e & ~(g->cluster_size - 1) : 0;
    }
    return qcow2_check_is_beyond(c, e & QCOW2_OFFSET_MASK, g->cluster_size) ? 0 : e;
}
