/* SPDX-License-Identifier: MIT */
/*
 * The persistent bitmaps of an image that is being remade.  Where clusters keep their size all of
 * them stays. Else each gets a new table, and there is a new directory; the bits stay where their
 * clusters make up new ones, or are copied.
 *
 * INV-RBM-1  No bit of a bitmap, and none of its flags, changes: an inconsistent one stays so.
 */
#include "remake-int.h"

#include "bitmap.h"
#include "table.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>

#define ALL_ONES UINT64_C(1) /* an entry without a cluster: all bits set */
#define ENTRY_TABLE_OFFSET 0 /* in the directory */
#define ENTRY_TABLE_ENTRIES 8

typedef struct BitmapMove {
    Remake *r;
    uint64_t *from, *to; /* tables, host byte order */
    uint64_t n_from, n_to;
    unsigned up; /* log2 of old clusters in a new one; or */
    unsigned down;
    uint8_t *buf; /* a new cluster */
} BitmapMove;

/* ---- One new entry ---- */

/* The old clusters [@first, @first + @n) make up one new one: *@host. */
static bool fit_on_host(const BitmapMove *m, uint64_t first, uint64_t n, uint64_t *host)
{
    const Geometry *from = &m->r->rules.from, *to = &m->r->rules.to;

    *host = m->from[first] & QCOW2_OFFSET_MASK;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = m->from[first + i] & QCOW2_OFFSET_MASK;

        if (!at || at != *host + (i << from->cluster_bits)) {
            return false;
        }
    }
    return n == UINT64_C(1) << m->up && geo_in_cluster(to, *host) == 0;
}

static bool all_are(const BitmapMove *m, uint64_t first, uint64_t n, uint64_t value)
{
    for (uint64_t i = 0; i < n; i++) {
        if (m->from[first + i] != value) {
            return false;
        }
    }
    return true;
}

static int coroutine_fn co_copy(BitmapMove *m, uint64_t first, uint64_t n, uint64_t *host)
{
    Remake *r = m->r;
    uint64_t size = r->rules.from.cluster_size;
    int ret = 0;

    memset(m->buf, 0, r->rules.to.cluster_size);
    for (uint64_t i = 0; i < n && ret == 0; i++) {
        uint64_t e = m->from[first + i], at = e & QCOW2_OFFSET_MASK;

        if (at) {
            ret = qcow2_table_co_read(r->q->file, at, size, m->buf + i * size);
        } else {
            memset(m->buf + i * size, e & ALL_ONES ? 0xff : 0, size);
        }
    }
    ret = ret < 0 ? ret : qcow2_remake_space_take(&r->space, 1, host);
    return ret < 0 ? ret
                   : qcow2_remake_out_co_put(r, &r->out, *host, m->buf, r->rules.to.cluster_size);
}

static int coroutine_fn co_entry(BitmapMove *m, uint64_t j, uint64_t *entry)
{
    uint64_t first = j << m->up >> m->down;
    uint64_t n = MIN(UINT64_C(1) << m->up, m->n_from - first), host;
    uint64_t part = j & ((UINT64_C(1) << m->down) - 1);

    if (m->up == 0) {
        host = m->from[first] & QCOW2_OFFSET_MASK;
        *entry = host ? host + (part << m->r->rules.to.cluster_bits) : m->from[first];
        return 0;
    }
    if (all_are(m, first, n, 0) || all_are(m, first, n, ALL_ONES)) {
        *entry = m->from[first];
        return 0;
    }
    if (fit_on_host(m, first, n, entry)) {
        return 0;
    }
    return co_copy(m, first, n, entry);
}

/* ---- One bitmap ---- */

/* Entries that a table of the new geometry has, for as many clusters of the old. */
static uint64_t new_entries(const BitmapMove *m, const BitmapEntry *e)
{
    const Geometry *from = &m->r->rules.from, *to = &m->r->rules.to;
    uint64_t granularity = UINT64_C(1) << e->granularity_bits;
    uint64_t bits = DIV_ROUND_UP(m->r->q->hdr.size, granularity);
    uint64_t bytes = DIV_ROUND_UP(bits, UINT64_C(8));

    if (geo_clusters(from, bytes) == e->table_entries) {
        return geo_clusters(to, bytes);
    }
    return geo_clusters(to, (uint64_t)e->table_entries << from->cluster_bits); /* another disk's */
}

static int load_table(BitmapMove *m, const BitmapEntry *e)
{
    unsigned from = m->r->rules.from.cluster_bits, to = m->r->rules.to.cluster_bits;

    m->up = to > from ? to - from : 0;
    m->down = from > to ? from - to : 0;
    m->n_from = e->table_entries;
    m->n_to = new_entries(m, e);
    if (m->n_to > QCOW2_MAX_L1_BYTES / 8) {
        return qcow2_remake_out_refuse(m->r, EFBIG,
                                       "A bitmap is too large for clusters of the new size");
    }
    m->from = g_try_new(uint64_t, MAX(m->n_from, 1));
    m->to = g_try_new(uint64_t, MAX(m->n_to, 1));
    m->buf = g_try_malloc(m->r->rules.to.cluster_size);
    return m->from && m->to && m->buf ? 0 : -ENOMEM;
}

static int count_entry(Remake *r, uint64_t entry)
{
    uint64_t host = entry & QCOW2_OFFSET_MASK;

    return host ? qcow2_remake_space_add_refs(&r->space, host, r->rules.to.cluster_size, 1) : 0;
}

static int coroutine_fn co_move(BitmapMove *m, const BitmapEntry *e, uint64_t *table_offset)
{
    Remake *r = m->r;
    uint64_t clusters;
    int ret = load_table(m, e);

    ret = ret < 0 ? ret : qcow2_table_co_read(r->q->file, e->table_offset, m->n_from * 8, m->from);
    for (uint64_t i = 0; i < m->n_from && ret == 0; i++) {
        m->from[i] = ldbe64(&m->from[i]);
    }
    for (uint64_t j = 0; j < m->n_to && ret == 0; j++) {
        ret = co_entry(m, j, &m->to[j]);
        ret = ret < 0 ? ret : count_entry(r, m->to[j]);
        stbe64(&m->to[j], m->to[j]);
    }
    clusters = geo_clusters(&r->rules.to, m->n_to * 8);
    ret = ret < 0 || !m->n_to ? ret : qcow2_remake_space_take(&r->space, clusters, table_offset);
    ret = ret < 0 || !m->n_to
              ? ret
              : qcow2_remake_space_add_refs(&r->space, *table_offset, m->n_to * 8, 1);
    return ret < 0 || !m->n_to
               ? ret
               : qcow2_remake_out_co_put(r, &r->out, *table_offset, m->to, m->n_to * 8);
}

static int coroutine_fn co_move_one(Remake *r, uint8_t *dir, const BitmapEntry *e)
{
    BitmapMove m = { .r = r };
    uint64_t offset = e->table_offset;
    int ret = co_move(&m, e, &offset);

    stbe64(dir + e->at + ENTRY_TABLE_OFFSET, offset);
    stbe32(dir + e->at + ENTRY_TABLE_ENTRIES, (uint32_t)m.n_to);
    g_free(m.from);
    g_free(m.to);
    g_free(m.buf);
    return ret;
}

static int coroutine_fn co_count_one(Remake *r, const BitmapEntry *e)
{
    uint64_t bytes = e->table_entries * UINT64_C(8);
    g_autofree uint64_t *table = g_try_malloc(MAX(bytes, 1));
    int ret = table ? 0 : -ENOMEM;

    if (ret < 0 || !bytes) {
        return ret;
    }
    ret = qcow2_table_co_read(r->q->file, e->table_offset, bytes, table);
    ret = ret < 0 ? ret : qcow2_remake_space_add_refs(&r->space, e->table_offset, bytes, 1);
    for (uint32_t i = 0; i < e->table_entries && ret == 0; i++) {
        ret = count_entry(r, ldbe64(&table[i]));
    }
    return ret;
}

/* ---- All of them ---- */

static int coroutine_fn co_each(Remake *r, uint8_t *dir, bool move)
{
    const Qcow2Header *h = &r->q->hdr;
    uint64_t at = 0;
    int ret = 0;

    for (uint32_t i = 0; i < h->nb_bitmaps && ret == 0; i++) {
        BitmapEntry e;

        if (!qcow2_bitmap_dir_next(dir, h->bitmap_dir_size, &at, &e)) {
            return -EINVAL;
        }
        ret = move ? co_move_one(r, dir, &e) : co_count_one(r, &e);
    }
    return ret;
}

static int coroutine_fn co_place_dir(Remake *r, const uint8_t *dir, bool move)
{
    uint64_t size = r->q->hdr.bitmap_dir_size;
    int ret = 0;

    r->bitmap_dir_offset = r->q->hdr.bitmap_dir_offset;
    if (!size) {
        return 0;
    }
    if (move) {
        ret = qcow2_remake_space_take(&r->space, geo_clusters(&r->rules.to, size),
                                      &r->bitmap_dir_offset);
        ret = ret < 0 ? ret : qcow2_remake_out_co_put(r, &r->out, r->bitmap_dir_offset, dir, size);
    }
    return ret < 0 ? ret : qcow2_remake_space_add_refs(&r->space, r->bitmap_dir_offset, size, 1);
}

int coroutine_fn qcow2_remake_bitmaps_co_run(Remake *r)
{
    const Qcow2Header *h = &r->q->hdr;
    bool move = r->rules.from.cluster_bits != r->rules.to.cluster_bits;
    g_autofree uint8_t *dir = NULL;
    int ret;

    if (!h->has_bitmaps) {
        return 0;
    }
    dir = g_try_malloc(MAX(h->bitmap_dir_size, 1));
    ret = dir ? qcow2_table_co_read(r->q->file, h->bitmap_dir_offset, h->bitmap_dir_size, dir)
              : -ENOMEM;
    ret = ret < 0 ? ret : co_each(r, dir, move);
    return ret < 0 ? ret : co_place_dir(r, dir, move);
}
