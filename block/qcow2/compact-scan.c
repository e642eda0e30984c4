/* SPDX-License-Identifier: MIT */
/*
 * All tables of an image, and what each of their slots names.
 *
 * The image has passed a check, and nobody else changes it. What does not fit all the same ends the
 * work with -EIO before anything is changed.
 */
#include "compact.h"

#include "bitmap-set.h"
#include "header-layout.h"
#include "table.h"
#include "util/bytes.h"

#define EXT_BITMAPS UINT32_C(0x23852875)
#define EXT_CRYPTO UINT32_C(0x0537be77)
#define SNAPSHOT_FIXED 40
#define CHUNK (64 * KiB)

/* ---- Tables ---- */

static int add_table(Compact *c, CompactTable t)
{
    const Geometry *g = &c->q->geo;
    uint64_t first = t.offset >> g->cluster_bits, n = geo_clusters(g, t.bytes);

    if (n == 0) {
        return 0;
    }
    if (geo_in_cluster(g, t.offset) || first + n > c->map.clusters ||
        !g_hash_table_insert(c->at, GSIZE_TO_POINTER(first), GUINT_TO_POINTER(c->tables->len))) {
        return -EIO;
    }
    g_array_append_val(c->tables, t);
    for (uint64_t i = first; i < first + n && t.kind != CO_L2;
         i++) { /* (those by who names them) */
        if (!qcow2_compact_map_add(&c->map, i, 1)) {
            return -EIO;
        }
        c->map.fixed[i / 8] |= (uint8_t)(1u << i % 8);
        c->map.meta[i / 8] |= (uint8_t)(1u << i % 8);
    }
    return 0;
}

static int coroutine_fn co_snapshots(Compact *c)
{
    Qcow2 *q = c->q;
    uint64_t at = 0;
    uint32_t first = c->tables->len;
    int ret = 0;

    for (uint32_t i = 0; i < q->hdr.nb_snapshots && ret == 0; i++) {
        uint8_t b[SNAPSHOT_FIXED];

        ret = qcow2_table_co_read(q->file, q->hdr.snapshots_offset + at, sizeof(b), b);
        if (ret == 0) {
            ret = add_table(c, (CompactTable){ .offset = ldbe64(b),
                                               .bytes = ldbe32(b + 8) * UINT64_C(8),
                                               .kind = CO_SNAPSHOT_L1,
                                               .refs = 1,
                                               .slot = (uint32_t)(at / 8),
                                               .number = i });
        }
        at += ALIGN_UP((uint64_t)SNAPSHOT_FIXED + ldbe32(b + 36) + ldbe16(b + 12) + ldbe16(b + 14),
                       UINT64_C(8));
    }
    for (uint32_t i = first; i < c->tables->len; i++) {
        qcow2_compact_table(c, i)->parent = c->tables->len; /* what follows */
    }
    return ret < 0 ? ret
                   : add_table(c, (CompactTable){ .offset = q->hdr.snapshots_offset,
                                                  .bytes = at,
                                                  .kind = CO_SNAPSHOTS,
                                                  .refs = 1,
                                                  .slot = HEADER_AT(snapshots_offset) / 8 });
}

/* The directory is table @dir. */
static int coroutine_fn co_bitmap_tables(Compact *c, uint32_t dir)
{
    const Qcow2Header *h = &c->q->hdr;
    g_autofree uint8_t *buf = g_try_malloc(MAX(h->bitmap_dir_size, 1));
    uint64_t at = 0;
    int ret = buf ? qcow2_table_co_read(c->q->file, h->bitmap_dir_offset, h->bitmap_dir_size, buf)
                  : -ENOMEM;

    for (uint32_t i = 0; i < h->nb_bitmaps && ret == 0; i++) {
        BitmapEntry e;

        if (!qcow2_bitmap_dir_next(buf, h->bitmap_dir_size, &at, &e)) {
            return -EIO;
        }
        ret = add_table(c, (CompactTable){ .offset = e.table_offset,
                                           .bytes = e.table_entries * UINT64_C(8),
                                           .kind = CO_BITMAP_TABLE,
                                           .refs = 1,
                                           .parent = dir,
                                           .slot = (uint32_t)(e.at / 8) });
    }
    return ret;
}

/* An extension of the header, @len bytes at @at of it, that says where something is. */
static int coroutine_fn co_extension(Compact *c, uint32_t type, const uint8_t *header, size_t at,
                                     uint32_t len)
{
    uint32_t table = c->tables->len;
    int ret;

    if (type == EXT_CRYPTO && len >= 16) {
        return add_table(c, (CompactTable){ .offset = ldbe64(header + at),
                                            .bytes = ldbe64(header + at + 8),
                                            .kind = CO_CRYPT,
                                            .refs = 1,
                                            .slot = (uint32_t)(at / 8) });
    }
    if (type != EXT_BITMAPS || !c->q->hdr.has_bitmaps) {
        return 0;
    }
    ret = add_table(c, (CompactTable){ .offset = c->q->hdr.bitmap_dir_offset,
                                       .bytes = c->q->hdr.bitmap_dir_size,
                                       .kind = CO_BITMAPS,
                                       .refs = 1,
                                       .slot = (uint32_t)((at + 16) / 8) });
    return ret < 0 ? ret : co_bitmap_tables(c, table);
}

static int coroutine_fn co_extensions(Compact *c)
{
    const Qcow2Header *h = &c->q->hdr;
    size_t size = c->q->geo.cluster_size, at = h->header_length;
    g_autofree uint8_t *header = g_try_malloc(size);
    int ret = header ? qcow2_table_co_read(c->q->file, 0, size, header) : -ENOMEM;

    while (ret == 0 && at + 8 <= size && ldbe32(header + at)) {
        uint32_t type = ldbe32(header + at), len = ldbe32(header + at + 4);

        at += 8;
        if (len > size - at) {
            return -EIO;
        }
        ret = at % 8 ? -EIO : co_extension(c, type, header, at, len);
        at += ALIGN_UP(len, 8u);
    }
    return ret;
}

/* ---- L2 tables ---- */

static int note_l2(Compact *c, bool active, uint64_t offset)
{
    gpointer was = g_hash_table_lookup(c->at, GSIZE_TO_POINTER(offset >> c->q->geo.cluster_bits));
    CompactTable *t = was ? qcow2_compact_table(c, GPOINTER_TO_UINT(was)) : NULL;

    if (!t) {
        return add_table(c, (CompactTable){ .offset = offset,
                                            .bytes = c->q->geo.cluster_size,
                                            .kind = CO_L2,
                                            .active = active,
                                            .refs = 1 });
    }
    if (t->kind != CO_L2) {
        return -EIO;
    }
    t->active |= active;
    t->refs++;
    return 0;
}

static bool collect_l2(Compact *c, uint32_t table, uint32_t slot, uint64_t value)
{
    CompactKind kind = qcow2_compact_table(c, table)->kind;
    uint64_t bytes, at = qcow2_compact_target(c, kind, value, &bytes);

    return note_l2(c, kind == CO_L1, at) == 0;
}

/* ---- Slots ---- */

uint64_t qcow2_compact_target(const Compact *c, CompactKind kind, uint64_t value, uint64_t *bytes)
{
    const Geometry *g = &c->q->geo;
    uint64_t at = value & QCOW2_OFFSET_MASK;

    if (kind == CO_L2 && g->external_data) {
        at = 0; /* in another file */
    } else if (kind == CO_L2 && (value & L2E_COMPRESSED)) {
        qcow2_l2_compressed_range(g, (L2Entry){ .desc = value }, &at, bytes);
        return at;
    } else if (kind == CO_BITMAP_TABLE) {
        at = value & BITMAP_ENTRY_OFFSET;
    }
    *bytes = at ? g->cluster_size : 0;
    return at;
}

static int coroutine_fn co_visit_table(Compact *c, uint32_t i, uint8_t *buf, CompactVisit *visit)
{
    CompactTable t = *qcow2_compact_table(c, i);
    unsigned step = t.kind == CO_L2 ? c->q->geo.l2_entry_size : 8;
    int ret = 0;

    for (uint64_t at = 0; at < t.bytes && ret == 0; at += CHUNK) {
        uint64_t n = MIN(t.bytes - at, CHUNK);

        ret = qcow2_table_co_read(c->q->file, t.offset + at, n, buf);
        for (uint64_t k = 0; k < n && ret == 0; k += step) {
            uint64_t value = ldbe64(buf + k), bytes;

            if (value && (qcow2_compact_target(c, t.kind, value, &bytes), bytes) &&
                !visit(c, i, (uint32_t)((at + k) / 8), value)) {
                ret = -EIO;
            }
        }
    }
    return ret;
}

/* @l1: those of L1 tables, or those of all others. */
static int coroutine_fn co_visit_kind(Compact *c, bool l1, CompactVisit *visit)
{
    uint32_t n = c->tables->len; /* others may come meanwhile */
    g_autofree uint8_t *buf = g_try_malloc(CHUNK);
    int ret = buf ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < n && ret == 0; i++) {
        switch (qcow2_compact_table(c, i)->kind) {
        case CO_L1:
        case CO_SNAPSHOT_L1:
            ret = l1 ? co_visit_table(c, i, buf, visit) : 0;
            break;
        case CO_L2:
        case CO_BITMAP_TABLE:
        case CO_REFTABLE:
            ret = l1 ? 0 : co_visit_table(c, i, buf, visit);
            break;
        case CO_HEADER:
        case CO_SNAPSHOTS:
        case CO_BITMAPS:
        case CO_CRYPT:
            break;
        }
    }
    return ret;
}

int coroutine_fn qcow2_compact_scan_co_visit(Compact *c, CompactVisit *visit)
{
    int ret = co_visit_kind(c, true, visit);

    return ret < 0 ? ret : co_visit_kind(c, false, visit);
}

/* ---- Counting ---- */

static bool count(Compact *c, uint32_t table, uint32_t slot, uint64_t value)
{
    const Geometry *g = &c->q->geo;
    const CompactTable *t = qcow2_compact_table(c, table);
    uint64_t bytes, at = qcow2_compact_target(c, t->kind, value, &bytes);
    bool packed = t->kind == CO_L2 && (value & L2E_COMPRESSED);

    if (!packed && geo_in_cluster(g, at)) {
        return false;
    }
    for (uint64_t i = at >> g->cluster_bits; i <= (at + bytes - 1) >> g->cluster_bits; i++) {
        if (!qcow2_compact_map_add(&c->map, i, t->refs)) {
            return false;
        }
        if (packed) {
            c->map.fixed[i / 8] |= (uint8_t)(1u << i % 8);
        }
        if (t->kind != CO_L2) {
            c->map.meta[i / 8] |= (uint8_t)(1u << i % 8);
        }
    }
    return true;
}

int coroutine_fn qcow2_compact_scan_co_all(Compact *c)
{
    Qcow2 *q = c->q;
    const Qcow2Header *h = &q->hdr;
    int ret;

    g_array_set_size(c->tables, 0);
    g_hash_table_remove_all(c->at);
    ret = add_table(c, (CompactTable){ .bytes = q->geo.cluster_size, .kind = CO_HEADER });
    ret = ret < 0 ? ret
                  : add_table(c, (CompactTable){ .offset = h->l1_offset,
                                                 .bytes = h->l1_size * UINT64_C(8),
                                                 .kind = CO_L1,
                                                 .active = true,
                                                 .refs = 1,
                                                 .slot = HEADER_AT(l1_offset) / 8 });
    ret = ret < 0 ? ret
                  : add_table(c, (CompactTable){ .offset = h->reftable_offset,
                                                 .bytes = (uint64_t)h->reftable_clusters
                                                          << q->geo.cluster_bits,
                                                 .kind = CO_REFTABLE,
                                                 .refs = 1,
                                                 .slot = HEADER_AT(reftable_offset) / 8 });
    ret = ret < 0 ? ret : co_extensions(c);
    ret = ret < 0 || !h->nb_snapshots ? ret : co_snapshots(c);
    ret = ret < 0 ? ret : co_visit_kind(c, true, collect_l2);
    ret = ret < 0 ? ret : qcow2_compact_scan_co_visit(c, count);
    qcow2_compact_map_sum_up(&c->map);
    return ret;
}
