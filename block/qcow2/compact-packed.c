/* SPDX-License-Identifier: MIT */
/*
 * Compressed data, which is packed: a host cluster has parts of several clusters of the guest, and
 * one may lie in two.
 *
 * INV-PACK-1  Pieces that follow one another do so in their new place, as long as clusters that
 *             follow one another are free; else the next one begins a cluster of its own. Its place
 *             within a sector stays the same, so that as many sectors hold it.
 */
#include "compact.h"

#define SECTOR 512

typedef struct Piece {
    CompactRef *ref;
    uint64_t src, bytes;
} Piece;

typedef struct Packing {
    Compact *c;
    uint64_t below;
    uint64_t src, dst, bytes; /* the piece before */
} Packing;

static int by_place(const void *a, const void *b)
{
    const Piece *x = a, *y = b;

    return x->src != y->src ? (x->src < y->src ? -1 : 1)
                            : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Those that touch clusters from @lo on, by their place. */
static GArray *collect(Compact *c, uint64_t lo)
{
    GArray *pieces = g_array_new(FALSE, FALSE, sizeof(Piece));
    const CompactIndex *x = &c->index;

    for (uint64_t i = x->lo; i < x->hi; i++) {
        for (CompactRef *r = qcow2_compact_index_first(x, i); r;
             r = qcow2_compact_index_next(x, r)) {
            Piece p = { .ref = r };

            if (qcow2_compact_table(c, r->table)->kind != CO_L2 || !(r->value & L2E_COMPRESSED)) {
                continue;
            }
            qcow2_l2_compressed_range(&c->q->geo, (L2Entry){ .desc = r->value }, &p.src, &p.bytes);
            if ((p.src + p.bytes - 1) >> c->q->geo.cluster_bits >= lo) {
                g_array_append_val(pieces, p);
            }
        }
    }
    g_array_sort(pieces, by_place);
    return pieces;
}

/* May @bytes, of @refs references, be at @dst? In free clusters, or those of the piece before. */
static bool fits(const Packing *k, uint64_t dst, uint64_t bytes, uint64_t refs)
{
    const Compact *c = k->c;
    const Geometry *g = &c->q->geo;
    uint64_t last = c->packed ? (c->packed - 1) >> g->cluster_bits : 0;
    uint64_t mine = k->bytes ? k->dst >> g->cluster_bits : last;

    for (uint64_t i = dst >> g->cluster_bits; i <= (dst + bytes - 1) >> g->cluster_bits; i++) {
        if (i == 0 || i >= k->below || (c->map.refs[i] && (i < mine || i > last)) ||
            refs > g->refcount_max - MIN(c->map.refs[i], g->refcount_max)) {
            return false;
        }
    }
    return true;
}

/* Where @p goes; 0: there is no place. */
static uint64_t place(Packing *k, const Piece *p, uint64_t refs)
{
    Compact *c = k->c;
    const Geometry *g = &c->q->geo;
    uint64_t in_sector = p->src % SECTOR, dst, end;

    if (k->bytes && p->src - k->src <= k->bytes) {
        dst = k->dst + (p->src - k->src);
        if (fits(k, dst, p->bytes, refs)) {
            end = ALIGN_UP(dst + p->bytes, (uint64_t)SECTOR);
            c->packed = MAX(c->packed, end);
            return dst;
        }
    }
    dst = c->packed + in_sector;
    if (!c->packed || !fits(k, dst, p->bytes, refs)) {
        /* (Where only that saves a cluster, another place within the sector will do.) */
        in_sector =
            in_sector + p->bytes > g->cluster_size && p->bytes <= g->cluster_size ? 0 : in_sector;
        dst = qcow2_compact_map_find(&c->map, 1, geo_clusters(g, in_sector + p->bytes), k->below);
        dst = dst ? (dst << g->cluster_bits) + in_sector : 0;
    }
    c->packed = dst ? ALIGN_UP(dst + p->bytes, (uint64_t)SECTOR) : c->packed;
    return dst;
}

/* Without a place it stays. */
static int coroutine_fn co_pack(Packing *k, CompactBatch *b, const Piece *p)
{
    Compact *c = k->c;
    uint64_t dst = place(k, p, qcow2_compact_table(c, p->ref->table)->refs);
    int ret;

    if (!dst) {
        return 0;
    }
    ret = qcow2_compact_batch_add_packed(c, b, p->ref, dst);
    k->src = p->src;
    k->dst = dst;
    k->bytes = p->bytes;
    return ret == 0 && qcow2_compact_batch_is_full(c, b) ? qcow2_compact_batch_co_run(c, b) : ret;
}

int coroutine_fn qcow2_compact_packed_co_move(Compact *c, uint64_t lo, uint64_t below)
{
    g_autoptr(GArray) pieces = collect(c, lo);
    Packing k = { .c = c, .below = below };
    CompactBatch b;
    int ret = 0;

    qcow2_compact_batch_init(&b);
    for (guint i = 0; i < pieces->len && ret == 0; i++) {
        ret = co_pack(&k, &b, &g_array_index(pieces, Piece, i));
    }
    ret = ret < 0 ? ret : qcow2_compact_batch_co_run(c, &b);
    qcow2_compact_batch_clear(&b);
    return ret;
}
