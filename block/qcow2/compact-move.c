/* SPDX-License-Identifier: MIT */
/* Clusters that move by themselves, out of a range. */
#include "compact.h"

static bool is_l2_table(Compact *c, uint64_t cluster)
{
    const CompactRef *r = qcow2_compact_index_first(&c->index, cluster);
    CompactKind kind = r ? qcow2_compact_table(c, r->table)->kind : CO_HEADER;

    return kind == CO_L1 || kind == CO_SNAPSHOT_L1;
}

static uint64_t find(Compact *c, uint64_t below, ClusterRange avoid)
{
    uint64_t dst = qcow2_compact_map_find(&c->map, 1, 1, below);

    return avoid.n && cluster_range_has(avoid, dst)
               ? qcow2_compact_map_find(&c->map, avoid.first + avoid.n, 1, below)
               : dst;
}

/* L2 tables, or all others: INV-CMP-2. */
static int coroutine_fn co_move_kind(Compact *c, uint64_t lo, uint64_t hi, const uint8_t *only,
                                     uint64_t below, ClusterRange avoid, bool tables)
{
    CompactBatch b;
    int ret = 0;

    qcow2_compact_batch_init(&b);
    for (uint64_t i = lo; i < hi && ret == 0; i++) {
        uint64_t dst;

        if (!c->map.refs[i] || qcow2_compact_map_bit(c->map.fixed, i) ||
            (only && !qcow2_compact_map_bit(only, i)) || is_l2_table(c, i) != tables) {
            continue;
        }
        dst = find(c, below, avoid);
        if (!dst) {
            break;
        }
        ret = qcow2_compact_batch_add(c, &b, i, dst);
        if (ret == 0 && qcow2_compact_batch_is_full(c, &b)) {
            ret = qcow2_compact_batch_co_run(c, &b);
        }
    }
    ret = ret < 0 ? ret : qcow2_compact_batch_co_run(c, &b);
    qcow2_compact_batch_clear(&b);
    return ret;
}

int coroutine_fn qcow2_compact_move_co_out(Compact *c, uint64_t lo, uint64_t hi,
                                           const uint8_t *only, uint64_t below, ClusterRange avoid)
{
    int ret = co_move_kind(c, lo, hi, only, below, avoid, true);

    return ret < 0 ? ret : co_move_kind(c, lo, hi, only, below, avoid, false);
}
