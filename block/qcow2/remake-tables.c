/* SPDX-License-Identifier: MIT */
/*
 * The new L2 tables of an image that is being remade, in the order of the disk and then of its
 * snapshots; then the L1 tables and the snapshot table.
 *
 * The clusters of one table that need data of their own are under way together. COPIED is set as
 * far as is known when an entry is made; where a later one raised a count, the disk's tables are
 * gone through once more.
 */
#include "remake-int.h"

#include "compress.h"
#include "table.h"
#include "util/bytes.h"
#include "util/co-pieces.h"

#include <errno.h>
#include <string.h>

#define WINDOW (UINT64_C(64) * KiB) /* of old tables, where several fit */

#define PROGRESS_EVERY 256 /* clusters: some are copied, or packed anew */

/* ---- Old tables ---- */

typedef struct OldTables {
    Remake *r;
    RemakeSlice slice;
    uint8_t *window;
    uint64_t at, bytes; /* what is in the window */
} OldTables;

/* The old table at @offset, in memory until the next one is asked for. */
static int coroutine_fn co_old_table(OldTables *o, uint64_t offset, const uint8_t **ret_table)
{
    uint64_t size = o->r->rules.from.cluster_size;
    int ret = 0;

    if (offset < o->at || offset + size > o->at + o->bytes) {
        o->bytes = MAX(WINDOW, size);
        o->at = offset;
        ret = qcow2_table_co_read(o->r->q->file, o->at, o->bytes, o->window);
        o->bytes = ret < 0 ? 0 : o->bytes;
    }
    *ret_table = o->window + (offset - o->at);
    return ret;
}

/* Entry of the old cluster @c, counted from the start of the slice. */
static int coroutine_fn co_old_entry(OldTables *o, uint64_t c, L2Entry *e)
{
    const Geometry *g = &o->r->rules.from, *to = &o->r->rules.to;
    uint64_t start = o->slice.guest - (o->slice.part << geo_l1_bits(to));
    uint64_t t = c >> g->l2_bits;
    unsigned index = (unsigned)(c & ((UINT64_C(1) << g->l2_bits) - 1));
    const uint8_t *table;
    int ret;

    *e = (L2Entry){ 0 };
    if (t >= o->slice.n || !o->slice.old[t]) {
        return 0;
    }
    ret = co_old_table(o, o->slice.old[t], &table);
    if (ret == 0) {
        *e = qcow2_l2_load(g, table, index);
        if (qcow2_l2_defect(g, *e, start + (c << g->cluster_bits)) ||
            (!g->extended_l2 && qcow2_l2_kind(g, *e, 0, start) == SC_INVALID)) {
            ret = -EIO; /* (the check before has said so, but of invalid bitmaps in snapshots) */
        }
    }
    return ret;
}

/* ---- A new table ---- */

typedef struct NewTable {
    OldTables old;
    const RemakeTable *t;
    guint at; /* which of all tables it is */
    uint8_t *data;
    L2Entry *entries; /* of one new cluster */
    unsigned n;       /* of them */
    CoPieces pieces;
    RemakeCluster slots[CO_PIECES_MAX];
} NewTable;

/* The first old cluster of new cluster @k, and how many bytes of it come before. */
static uint64_t first_old(const NewTable *n, unsigned k, uint64_t *skip)
{
    const Geometry *from = &n->old.r->rules.from, *to = &n->old.r->rules.to;
    uint64_t at = (n->old.slice.part << geo_l1_bits(to)) + ((uint64_t)k << to->cluster_bits);

    *skip = geo_in_cluster(from, at);
    return at >> from->cluster_bits;
}

/* None of the old clusters from @c on, for a new one, has a table. */
static bool has_no_table(const NewTable *n, uint64_t c)
{
    const RemakeSlice *s = &n->old.slice;
    unsigned bits = n->old.r->rules.from.l2_bits;
    uint64_t last = MIN((c + n->n - 1) >> bits, s->n - 1);

    for (uint64_t t = c >> bits; t <= last; t++) {
        if (s->old[t]) {
            return false;
        }
    }
    return true;
}

/* Loads the entries of new cluster @k. False in *@any: nothing is mapped there. */
static int coroutine_fn co_load_source(NewTable *n, unsigned k, RemakeSource *s, bool *any)
{
    const Remake *r = n->old.r;
    uint64_t c;
    int ret = 0;

    *s = (RemakeSource){ .entries = n->entries, .n = n->n };
    c = first_old(n, k, &s->skip);
    s->guest = n->old.slice.guest + ((uint64_t)k << r->rules.to.cluster_bits) - s->skip;
    *any = false;
    if (has_no_table(n, c)) {
        return 0;
    }
    for (unsigned i = 0; i < n->n && ret == 0; i++) {
        ret = co_old_entry(&n->old, c + i, &n->entries[i]);
        *any |= n->entries[i].desc || n->entries[i].bitmap;
    }
    return ret;
}

/* Unpacked once, for the clusters that it falls apart into (decompress.c keeps it). */
static int coroutine_fn co_unpack_ahead(const RemakeCluster *c)
{
    uint8_t byte;
    IOVector v;

    if (c->r->rules.to.cluster_size >= c->r->rules.from.cluster_size ||
        !(c->entries[0].desc & L2E_COMPRESSED)) {
        return 0;
    }
    iov_init_buf(&v, &byte, 1);
    return qcow2_decompress_co_read(c->r->q, c->entries[0], 0, &v, 0, 1);
}

static int coroutine_fn co_move(NewTable *n, RemakeCluster *c)
{
    unsigned slot = co_pieces_slot(&n->pieces);
    int ret = n->pieces.ret;

    ret = ret < 0 ? ret : qcow2_remake_data_prepare(c);
    if (ret < 0) {
        return ret;
    }
    c->entries = g_memdup2(n->entries, n->n * sizeof(L2Entry));
    c->source.entries = c->entries;
    ret = co_unpack_ahead(c);
    if (ret < 0) {
        g_free(c->entries);
        return ret;
    }
    n->slots[slot] = *c;
    co_pieces_begin(&n->pieces, slot, qcow2_remake_data_co_run, &n->slots[slot]);
    return 0;
}

static int coroutine_fn co_cluster(NewTable *n, unsigned k)
{
    Remake *r = n->old.r;
    RemakeCluster c = { .r = r,
                        .disk = n->old.slice.disk,
                        .refs = n->t->refs,
                        .active = n->t->active,
                        .table = n->data,
                        .index = k };
    bool any, settled;
    int ret = co_load_source(n, k, &c.source, &any);

    if (ret < 0 || !any) {
        return ret;
    }
    c.guest = c.source.guest + c.source.skip;
    c.plan = qcow2_remake_plan(&r->rules, &c.source);
    ret = qcow2_remake_data_settle(&c, &settled);
    return ret < 0 || settled ? ret : co_move(n, &c);
}

static int coroutine_fn co_fill_table(NewTable *n)
{
    Remake *r = n->old.r;
    unsigned entries = 1u << r->rules.to.l2_bits;
    int ret = 0;

    co_pieces_init(&n->pieces);
    for (unsigned k = 0; k < entries && ret == 0; k++) {
        if (k % PROGRESS_EVERY == 0) {
            ret = qcow2_remake_out_progress(r, (n->at + (double)k / entries) / r->tables->len);
        }
        ret = ret < 0 ? ret : co_cluster(n, k);
    }
    return co_pieces_end(&n->pieces, ret);
}

static int coroutine_fn co_make_table(NewTable *n, RemakeTable *t)
{
    Remake *r = n->old.r;
    uint64_t size = r->rules.to.cluster_size;
    int ret;

    n->t = t;
    n->old.slice = qcow2_remake_old_slice(r, remake_l1(r, t->l1), t->index);
    memset(n->data, 0, size);
    ret = co_fill_table(n);
    ret = ret < 0 ? ret : qcow2_remake_space_take(&r->space, 1, &t->offset);
    ret = ret < 0 ? ret : qcow2_remake_space_add_refs(&r->space, t->offset, size, t->refs);
    if (ret == -ERANGE) {
        return qcow2_remake_out_overflow(r, t->offset, t->refs);
    }
    return ret < 0 ? ret : qcow2_remake_out_co_put(r, &r->out, t->offset, n->data, size);
}

static int coroutine_fn co_make_tables(Remake *r)
{
    const Geometry *from = &r->rules.from, *to = &r->rules.to;
    NewTable *n = g_try_new0(NewTable, 1);
    int ret = n ? 0 : -ENOMEM;

    if (n) {
        n->old.r = r;
        n->n = to->cluster_bits > from->cluster_bits ? 1u << (to->cluster_bits - from->cluster_bits)
                                                     : 1;
        n->old.window = g_try_malloc(MAX(WINDOW, from->cluster_size));
        n->data = g_try_malloc(to->cluster_size);
        n->entries = g_try_new(L2Entry, n->n);
        ret = n->old.window && n->data && n->entries ? 0 : -ENOMEM;
    }
    for (guint i = 0; i < r->tables->len && ret == 0; i++) {
        n->at = i;
        ret = co_make_table(n, remake_table(r, i));
    }
    if (n) {
        g_free(n->old.window);
        g_free(n->data);
        g_free(n->entries);
        g_free(n);
    }
    return ret;
}

/* ---- COPIED, where counts were raised later ---- */

static bool fix_flags(const Remake *r, uint8_t *table)
{
    const Geometry *g = &r->rules.to;
    bool changed = false;

    for (unsigned k = 0; k < 1u << g->l2_bits; k++) {
        L2Entry e = qcow2_l2_load(g, table, k);

        if (!(e.desc & L2E_COPIED) ||
            qcow2_remake_space_count(&r->space, qcow2_l2_host(g, e) >> g->cluster_bits) == 1) {
            continue;
        }
        e.desc &= ~L2E_COPIED;
        qcow2_l2_store(g, table, k, e);
        changed = true;
    }
    return changed;
}

static int coroutine_fn co_fix_flags(Remake *r)
{
    uint64_t size = r->rules.to.cluster_size;
    g_autofree uint8_t *table = g_try_malloc(size);
    int ret = table ? 0 : -ENOMEM;

    for (guint i = 0; i < r->tables->len && ret == 0; i++) {
        const RemakeTable *t = remake_table(r, i);

        if (!t->active) {
            continue;
        }
        ret = bdrv_co_pread(r->q->file, (int64_t)t->offset, (int64_t)size, table, 0);
        if (ret == 0 && fix_flags(r, table)) {
            ret = qcow2_remake_out_co_put(r, &r->out, t->offset, table, size);
        }
    }
    return ret < 0 ? ret : qcow2_remake_out_co_flush(r, &r->out);
}

/* ---- L1 and snapshot tables ---- */

static int coroutine_fn co_write_l1(Remake *r, RemakeL1 *l)
{
    const Geometry *g = &r->rules.to;
    uint64_t clusters = geo_clusters(g, l->n * 8), bytes = clusters << g->cluster_bits;
    g_autofree uint64_t *l1 = g_try_malloc0(MAX(bytes, 1));
    int ret;

    if (!l->n) {
        return 0;
    }
    ret = l1 ? qcow2_remake_space_take(&r->space, clusters, &l->offset) : -ENOMEM;
    ret = ret < 0 ? ret : qcow2_remake_space_add_refs(&r->space, l->offset, bytes, 1);
    for (uint64_t j = 0; j < l->n && ret == 0; j++) {
        const RemakeTable *t = l->tables[j] ? remake_table(r, l->tables[j] - 1) : NULL;

        stbe64(&l1[j], t ? t->offset | (t->refs == 1 && t->active ? L2E_COPIED : 0) : 0);
    }
    return ret < 0 ? ret : qcow2_remake_out_co_put(r, &r->out, l->offset, l1, bytes);
}

static int coroutine_fn co_write_snapshots(Remake *r)
{
    const Geometry *g = &r->rules.to;
    uint64_t clusters = geo_clusters(g, r->snapshot_bytes), bytes = clusters << g->cluster_bits;
    g_autofree uint8_t *padded = NULL;
    int ret;

    if (!r->snapshot_bytes) {
        return 0;
    }
    for (guint i = 1; i < r->l1s->len; i++) {
        const RemakeL1 *l = remake_l1(r, i);

        stbe64(r->snapshot_table + l->snapshot_pos, l->offset);
        stbe32(r->snapshot_table + l->snapshot_pos + 8, (uint32_t)l->n);
    }
    padded = g_try_malloc0(bytes);
    ret = padded ? qcow2_remake_space_take(&r->space, clusters, &r->snapshots_offset) : -ENOMEM;
    ret = ret < 0 ? ret : qcow2_remake_space_add_refs(&r->space, r->snapshots_offset, bytes, 1);
    if (ret < 0) {
        return ret;
    }
    memcpy(padded, r->snapshot_table, r->snapshot_bytes);
    return qcow2_remake_out_co_put(r, &r->out, r->snapshots_offset, padded, bytes);
}

int coroutine_fn qcow2_remake_tables_co_write(Remake *r)
{
    int ret = co_make_tables(r);

    ret = ret < 0 ? ret : qcow2_remake_out_co_flush(r, &r->packed);
    qcow2_remake_data_end(r);
    for (guint i = 0; i < r->l1s->len && ret == 0; i++) {
        ret = co_write_l1(r, remake_l1(r, i));
    }
    ret = ret < 0 ? ret : co_write_snapshots(r);
    ret = ret < 0 ? ret : qcow2_remake_out_co_flush(r, &r->out);
    if (ret == 0 && r->space.raised && !r->rules.to.external_data) {
        ret = co_fix_flags(r);
    }
    r->l1_offset = remake_l1(r, 0)->offset;
    r->l1_size = (uint32_t)remake_l1(r, 0)->n;
    return qcow2_remake_out_error(r, ret, "Could not write the image's new tables");
}
