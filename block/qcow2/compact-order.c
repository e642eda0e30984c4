/* SPDX-License-Identifier: MIT */
/*
 * The guest's order: data that only the active disk has comes first in the file, in ascending order
 * of the guest, round metadata and compressed data, which stay where they are.
 *
 * So many clusters at a time as a batch has: what is in their place goes past them, into free
 * clusters, then they go there. What is in place already is only looked at.
 */
#include "compact.h"

#include "table.h"
#include "util/bytes.h"

typedef struct Want {
    CompactRef ref;
    uint64_t dst;
} Want;

typedef struct Order {
    Compact *c;
    uint64_t next;   /* the first cluster that is nobody's place yet */
    GArray *wants;   /* of Want; in order */
    uint8_t *table;  /* an L2 table */
    uint64_t before; /* done before it began */
    uint64_t placed;
} Order;

/* The cluster where data that follows goes. */
static uint64_t next_place(Order *o)
{
    const CompactMap *m = &o->c->map;

    while (o->next < m->clusters &&
           (qcow2_compact_map_bit(m->fixed, o->next) || qcow2_compact_map_bit(m->meta, o->next))) {
        o->next++;
    }
    return o->next++;
}

static uint64_t place_of(const Order *o, const Want *w)
{
    return (w->ref.value & QCOW2_OFFSET_MASK) >> o->c->q->geo.cluster_bits;
}

/* The index has the places of what is wanted. */
static int coroutine_fn co_index(Order *o)
{
    const CompactIndex *x = &o->c->index;
    uint64_t first = g_array_index(o->wants, Want, 0).dst;
    uint64_t last = g_array_index(o->wants, Want, o->wants->len - 1).dst;
    uint64_t hi = o->c->map.clusters;
    int ret;

    if (x->heads && first >= x->lo && last < x->hi) {
        return 0;
    }
    ret = qcow2_compact_index_co_make(o->c, first, &hi, NULL);
    return ret == 0 && last >= hi ? -ENOMEM : ret;
}

/* What is in the place of others goes past all of them. */
static int coroutine_fn co_make_way(Order *o, CompactBatch *b)
{
    Compact *c = o->c;
    int ret = 0;

    for (guint i = 0; i < o->wants->len && ret == 0; i++) {
        const Want *w = &g_array_index(o->wants, Want, i);
        uint64_t to;

        if (place_of(o, w) == w->dst || !c->map.refs[w->dst]) {
            continue;
        }
        to = qcow2_compact_map_find(&c->map, o->next, 1, c->map.clusters);
        ret = to ? qcow2_compact_batch_add(c, b, w->dst, to) : -ENOSPC;
        qcow2_compact_index_rename(&c->index, w->dst, to);
    }
    return ret < 0 ? ret : qcow2_compact_batch_co_run(c, b);
}

/* Where they are now: some were in the way of others. */
static int coroutine_fn co_look_again(Order *o)
{
    Compact *c = o->c;
    uint32_t loaded = 0;
    int ret = 0;

    for (guint i = 0; i < o->wants->len && ret == 0; i++) {
        Want *w = &g_array_index(o->wants, Want, i);

        if (w->ref.table != loaded) {
            ret = qcow2_table_co_read(c->q->file, qcow2_compact_table(c, w->ref.table)->offset,
                                      c->q->geo.cluster_size, o->table);
            loaded = w->ref.table;
        }
        w->ref.value = ldbe64(o->table + w->ref.slot * UINT64_C(8));
    }
    return ret;
}

static int coroutine_fn co_move_in(Order *o, CompactBatch *b)
{
    Compact *c = o->c;
    int ret = 0;

    for (guint i = 0; i < o->wants->len && ret == 0; i++) {
        Want *w = &g_array_index(o->wants, Want, i);
        uint64_t from = place_of(o, w);

        if (from != w->dst) {
            ret = qcow2_compact_batch_add_only(c, b, &w->ref, w->dst);
            qcow2_compact_index_rename(&c->index, from, w->dst);
        }
    }
    return ret < 0 ? ret : qcow2_compact_batch_co_run(c, b);
}

static bool is_in_order(const Order *o)
{
    for (guint i = 0; i < o->wants->len; i++) {
        const Want *w = &g_array_index(o->wants, Want, i);

        if (place_of(o, w) != w->dst) {
            return false;
        }
    }
    return true;
}

/* All that is wanted comes to its place. 1: that needs room past the end. */
static int coroutine_fn co_place(Order *o)
{
    CompactBatch b;
    int ret = 0;

    if (!is_in_order(o)) {
        if (!o->c->slack) {
            return 1;
        }
        qcow2_compact_batch_init(&b);
        ret = co_index(o);
        ret = ret < 0 ? ret : co_make_way(o, &b);
        ret = ret < 0 ? ret : co_look_again(o);
        ret = ret < 0 ? ret : co_move_in(o, &b);
        qcow2_compact_batch_clear(&b);
    }
    o->placed += o->wants->len;
    o->c->done = o->before + 2 * o->placed;
    g_array_set_size(o->wants, 0);
    return ret < 0 ? ret : qcow2_compact_progress(o->c, 0);
}

/* The data of active L2 table @table. */
static int coroutine_fn co_place_table(Order *o, uint32_t table)
{
    Compact *c = o->c;
    const Geometry *g = &c->q->geo;
    guint most = (guint)MAX(c->batch >> g->cluster_bits, 1);
    unsigned step = g->l2_entry_size / 8;
    g_autofree uint8_t *buf = g_try_malloc(g->cluster_size);
    int ret = buf ? qcow2_table_co_read(c->q->file, qcow2_compact_table(c, table)->offset,
                                        g->cluster_size, buf)
                  : -ENOMEM;

    for (uint32_t slot = 0; slot < g->cluster_size / 8 && ret == 0; slot += step) {
        Want w = { .ref = {
                       .value = ldbe64(buf + slot * UINT64_C(8)), .table = table, .slot = slot } };
        uint64_t bytes = 0;

        if ((w.ref.value & L2E_COMPRESSED) ||
            !qcow2_compact_target(c, CO_L2, w.ref.value, &bytes) ||
            place_of(o, &w) >= c->map.clusters || c->map.refs[place_of(o, &w)] != 1) {
            continue;
        }
        w.dst = next_place(o);
        g_array_append_val(o->wants, w);
        if (o->wants->len >= most) {
            ret = co_place(o);
            ret = ret != 0 ? ret
                           : qcow2_table_co_read(c->q->file, qcow2_compact_table(c, table)->offset,
                                                 g->cluster_size, buf);
        }
    }
    return ret;
}

static int coroutine_fn co_place_all(Order *o)
{
    Compact *c = o->c;
    Qcow2 *q = c->q;
    int ret = 0;

    for (uint32_t i = 0; i < q->l1_size && ret == 0; i++) {
        uint64_t at = atomic_load(&q->l1[i]) & QCOW2_OFFSET_MASK;
        gpointer table =
            at ? g_hash_table_lookup(c->at, GSIZE_TO_POINTER(at >> q->geo.cluster_bits)) : NULL;

        if (table && qcow2_compact_table(c, GPOINTER_TO_UINT(table))->refs == 1) {
            ret = co_place_table(o, GPOINTER_TO_UINT(table));
        }
    }
    return ret != 0 || o->wants->len == 0 ? ret : co_place(o);
}

int coroutine_fn qcow2_compact_order_co_make(Compact *c)
{
    Order o = { .c = c, .next = 1, .before = c->done };
    int ret;

    if (c->q->geo.external_data) {
        return 0; /* the guest's order already */
    }
    o.wants = g_array_new(FALSE, FALSE, sizeof(Want));
    o.table = g_try_malloc(c->q->geo.cluster_size);
    c->todo = c->done + 2 * c->map.used;
    ret = o.table ? co_place_all(&o) : -ENOMEM;
    g_array_unref(o.wants);
    g_free(o.table);
    return ret;
}
