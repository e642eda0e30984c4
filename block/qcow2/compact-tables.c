/* SPDX-License-Identifier: MIT */
/*
 * Tables of many clusters: L1 tables, the refcount table, the tables of snapshots and of bitmaps,
 * the encryption header.
 *
 * They want as many free clusters in a row; where there are none, a place is made: what moves by
 * itself goes out of the range where the least has to.
 */
#include "compact.h"

/* The range of @n clusters below @end with the fewest in use and none that stay; 0: there is
 * none. */
static uint64_t best_range(const CompactMap *m, uint64_t n, uint64_t end)
{
    uint64_t used = 0, fixed = 0, best = 0, least = UINT64_MAX;

    for (uint64_t c = 1; c < end; c++) {
        used += m->refs[c] != 0;
        fixed += qcow2_compact_map_bit(m->fixed, c);
        if (c > n) {
            used -= m->refs[c - n] != 0;
            fixed -= qcow2_compact_map_bit(m->fixed, c - n);
        }
        if (c >= n && fixed == 0 && used < least) {
            least = used;
            best = c + 1 - n;
        }
    }
    return best;
}

/* *@first: @n free clusters below @end, made so; 0: that is not possible. */
static int coroutine_fn co_make_room(Compact *c, uint64_t n, uint64_t end, uint64_t *first)
{
    uint64_t lo = best_range(&c->map, n, end), hi = lo + n;
    int ret;

    *first = 0;
    if (!lo) {
        return 0;
    }
    ret = qcow2_compact_index_co_make(c, lo, &hi, NULL);
    if (ret == 0 && hi == lo + n) {
        ret = qcow2_compact_move_co_out(c, lo, hi, NULL, end, (ClusterRange){ lo, n });
    }
    qcow2_compact_index_clear(&c->index);
    if (ret == 0 && qcow2_compact_map_find(&c->map, lo, n, lo + n) == lo) {
        *first = lo;
    }
    return ret;
}

static bool is_due(const Compact *c, const CompactTable *t, bool roots, uint64_t end)
{
    const Geometry *g = &c->q->geo;

    switch (t->kind) {
    case CO_L1:
    case CO_SNAPSHOTS:
    case CO_BITMAPS:
    case CO_REFTABLE:
    case CO_CRYPT:
        return roots && (t->offset >> g->cluster_bits) + geo_clusters(g, t->bytes) > end;
    case CO_SNAPSHOT_L1:
    case CO_BITMAP_TABLE:
        return !roots && (t->offset >> g->cluster_bits) + geo_clusters(g, t->bytes) > end;
    case CO_HEADER:
    case CO_L2:
        break;
    }
    return false;
}

static int coroutine_fn co_move_one(Compact *c, CompactBatch *b, uint32_t i, uint64_t end)
{
    uint64_t n = geo_clusters(&c->q->geo, qcow2_compact_table(c, i)->bytes);
    uint64_t dst = qcow2_compact_map_find(&c->map, 1, n, end);
    int ret = 0;

    if (!dst && n > 1) {
        ret = qcow2_compact_batch_co_run(c, b);
        ret = ret < 0 ? ret : co_make_room(c, n, end, &dst);
    }
    if (ret < 0 || !dst) {
        return ret; /* without a place it stays */
    }
    ret = qcow2_compact_batch_add_table(c, b, i, dst);
    return ret == 0 && qcow2_compact_batch_is_full(c, b) ? qcow2_compact_batch_co_run(c, b) : ret;
}

/* Those that the header names, or those that these name: INV-CMP-2. */
static int coroutine_fn co_move_level(Compact *c, uint64_t end, bool roots)
{
    CompactBatch b;
    int ret = 0;

    qcow2_compact_batch_init(&b);
    for (uint32_t i = 0; i < c->tables->len && ret == 0; i++) {
        if (is_due(c, qcow2_compact_table(c, i), roots, end)) {
            ret = co_move_one(c, &b, i, end);
        }
    }
    ret = ret < 0 ? ret : qcow2_compact_batch_co_run(c, &b);
    qcow2_compact_batch_clear(&b);
    return ret;
}

int coroutine_fn qcow2_compact_tables_co_move(Compact *c, uint64_t end)
{
    int ret = co_move_level(c, end, true);

    return ret < 0 ? ret : co_move_level(c, end, false);
}
