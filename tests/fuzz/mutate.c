/* SPDX-License-Identifier: MIT */
/*
 * Mutations that know qcow2: header fields and extensions, tables and their entries, bitmaps of
 * subclusters, refcounts, compressed descriptors, snapshots, persistent bitmaps; with values where
 * code has its limits, and offsets where the image has something already.
 */
#include "fuzz.h"
#include "image.h"

#include "qcow2/l2.h"
#include "util/bytes.h"

#include <string.h>

typedef struct Mut {
    Image *img;
    Layout l;
    bool known; /* the layout could be read */
    uint32_t seed;
} Mut;

static uint32_t rnd(Mut *m, uint32_t n)
{
    m->seed = m->seed * 1664525u + 1013904223u;
    return n ? (m->seed >> 8) % n : 0;
}

static bool chance(Mut *m, uint32_t one_in)
{
    return rnd(m, one_in) == 0;
}

/* ---- Values ---- */

static uint64_t any_value(Mut *m)
{
    uint64_t v = UINT64_C(1) << rnd(m, 64);

    switch (rnd(m, 8)) {
    case 0:
        return 0;
    case 1:
        return v;
    case 2:
        return v - 1;
    case 3:
        return ~v;
    case 4:
        return UINT64_MAX - rnd(m, 600);
    case 5:
        return INT64_MAX - rnd(m, 600);
    case 6:
        return UINT32_MAX - rnd(m, 3);
    default:
        return rnd(m, 70000);
    }
}

static uint64_t pick_l2(Mut *m);

static uint64_t any_offset(Mut *m)
{
    const Geometry *g = &m->l.geo;
    uint64_t cs = m->known ? g->cluster_size : 512, clusters = m->img->length / cs + 1;

    switch (rnd(m, 14)) {
    case 0:
        return 0;
    case 1:
        return m->l.l1;
    case 2:
        return m->l.reftable;
    case 3:
        return img_ld(m->img, m->l.reftable, 8);
    case 4:
        return m->known ? pick_l2(m) : 0;
    case 5:
        return ALIGN_UP(m->img->length, cs);
    case 6:
        return ALIGN_UP(m->img->length, cs) + cs * rnd(m, 1000);
    case 7:
        return cs * rnd(m, (uint32_t)clusters) + 512;
    case 8:
        return QCOW2_MAX_OFFSET - cs * rnd(m, 2);
    case 9:
        return ALIGN_DOWN(any_value(m), cs);
    default:
        return cs * rnd(m, (uint32_t)clusters);
    }
}

/* ---- Header ---- */

static const struct {
    uint8_t offset, bytes;
} fields[] = {
    { 4, 4 },  { 8, 8 },  { 16, 4 },  { 20, 4 },  { 24, 8 },  { 32, 4 }, { 36, 4 },
    { 40, 8 }, { 48, 8 }, { 56, 4 },  { 60, 4 },  { 64, 8 },  { 72, 8 }, { 80, 8 },
    { 88, 8 }, { 96, 4 }, { 100, 4 }, { 104, 1 }, { 105, 1 },
};

static void mutate_header(Mut *m)
{
    unsigned i = rnd(m, G_N_ELEMENTS(fields)), offset = fields[i].offset;
    uint64_t v = img_ld(m->img, offset, fields[i].bytes);

    if (offset == 40 || offset == 48 || offset == 64) {
        v = any_offset(m);
    } else if (offset >= 72 && offset < 96) {
        v ^= UINT64_C(1) << rnd(m, chance(m, 4) ? 64 : 6);
    } else if (offset == 20) {
        v = chance(m, 4) ? any_value(m) : 8 + rnd(m, 15);
    } else if (offset == 96 || offset == 4 || offset >= 100) {
        v = chance(m, 4) ? any_value(m) : rnd(m, 8) + (offset == 100 ? 100 : 0);
    } else if (offset == 24) {
        v = chance(m, 2) ? any_value(m) : 512 * (uint64_t)rnd(m, 65536);
    } else {
        v = chance(m, 2) ? any_value(m) : rnd(m, 20);
    }
    img_st(m->img, offset, fields[i].bytes, v);
}

/* The end mark of the extensions, or some extension on the way there. */
static uint64_t walk_exts(Mut *m, bool to_end)
{
    uint64_t at = m->l.header_length;

    while (at + 8 <= 512 && img_ld(m->img, at, 4) && (to_end || !chance(m, 3))) {
        at += 8 + ALIGN_UP(img_ld(m->img, at + 4, 4), 8);
    }
    return at + 8 <= 512 ? at : 0;
}

static const uint32_t ext_types[] = { 0,          0xe2792aca, 0x6803f857, IMG_EXT_BITMAPS,
                                      0x0537be77, 0x44415441, 0x12345678 };

static void mutate_ext(Mut *m)
{
    uint64_t at = walk_exts(m, chance(m, 2));

    if (!at) {
        return;
    }
    if (chance(m, 2)) {
        img_st(m->img, at, 4, ext_types[rnd(m, G_N_ELEMENTS(ext_types))]);
    }
    img_st(m->img, at + 4, 4, chance(m, 4) ? any_value(m) : rnd(m, 60));
    for (uint64_t i = at + 8; chance(m, 2) && i < MIN(at + 40, 512); i++) {
        img_st(m->img, i, 1, chance(m, 3) ? rnd(m, 256) : 'a' + rnd(m, 26));
    }
}

/* ---- Entries ---- */

/* An entry that is not 0 of a table of @entries, or any. Its offset. */
static uint64_t pick_entry(Mut *m, uint64_t table, uint64_t entries, unsigned size)
{
    uint64_t first = table / 512, last = (table + entries * size + 511) / 512;
    guint lo = img_find(m->img, first), hi = img_find(m->img, last);
    uint64_t at = table + size * (uint64_t)rnd(m, (uint32_t)MIN(entries, 70));

    if (lo >= hi || chance(m, 4)) {
        return at;
    }
    at = g_array_index(m->img->sectors, ImgSector, lo + rnd(m, hi - lo)).n * UINT64_C(512);
    for (unsigned i = rnd(m, 512 / size); i < 512 / size; i++) {
        if (img_ld(m->img, at + i * size, 8)) {
            return at + i * size;
        }
    }
    return at + size * rnd(m, 512 / size);
}

static uint64_t pick_l1(Mut *m)
{
    return pick_entry(m, m->l.l1, m->l.l1_size, 8);
}

static uint64_t pick_l2(Mut *m)
{
    return img_ld(m->img, pick_l1(m), 8) & QCOW2_OFFSET_MASK;
}

static uint64_t pick_l2_entry(Mut *m)
{
    const Geometry *g = &m->l.geo;

    return pick_entry(m, pick_l2(m), UINT64_C(1) << g->l2_bits, g->l2_entry_size);
}

static void mutate_l1(Mut *m)
{
    uint64_t v = any_offset(m) | (chance(m, 2) ? L2E_COPIED : 0);

    img_st(m->img, pick_l1(m), 8, chance(m, 8) ? any_value(m) : v);
}

static uint64_t any_bitmap(Mut *m)
{
    uint64_t bits = UINT64_C(1) << rnd(m, 32);

    switch (rnd(m, 7)) {
    case 0:
        return 0;
    case 1:
        return UINT32_MAX;
    case 2:
        return UINT64_C(0xffffffff00000000);
    case 3:
        return bits - 1;
    case 4:
        return bits << 32 | (~bits & UINT32_MAX);
    case 5:
        return (bits - 1) | (UINT32_MAX - (bits - 1)) << 32;
    default:
        return any_value(m);
    }
}

static uint64_t any_l2_entry(Mut *m)
{
    const Geometry *g = &m->l.geo;
    uint64_t host = any_offset(m);

    if (chance(m, 3)) {
        uint64_t sectors = chance(m, 2) ? any_value(m) & g->csize_mask : rnd(m, 4) & g->csize_mask;

        return L2E_COMPRESSED | sectors << g->csize_shift |
               ((host + rnd(m, 1024)) & g->coffset_mask);
    }
    if (chance(m, 8)) {
        return any_value(m);
    }
    return host | (chance(m, 2) ? L2E_COPIED : 0) | (chance(m, 4) ? L2E_ZERO : 0);
}

static void mutate_l2(Mut *m)
{
    uint64_t at = pick_l2_entry(m);

    if (m->l.geo.extended_l2 && chance(m, 2)) {
        img_st(m->img, at + 8, 8, any_bitmap(m));
    } else if (chance(m, 4)) {
        img_st(m->img, at, 8,
               img_ld(m->img, at, 8) ^ UINT64_C(1)
                                           << (chance(m, 2) ? 63 - rnd(m, 10) : rnd(m, 64)));
    } else {
        img_st(m->img, at, 8, any_l2_entry(m));
    }
}

/* Two entries that name the same. */
static void copy_entry(Mut *m)
{
    if (chance(m, 3)) {
        img_st(m->img, pick_l1(m), 8, img_ld(m->img, pick_l1(m), 8));
    } else {
        uint64_t from = pick_l2_entry(m), to = pick_l2_entry(m);

        img_st(m->img, to, 8, img_ld(m->img, from, 8));
        if (m->l.geo.extended_l2) {
            img_st(m->img, to + 8, 8, img_ld(m->img, from + 8, 8));
        }
    }
}

static void mutate_refcounts(Mut *m)
{
    uint64_t entries = (uint64_t)m->l.reftable_clusters << m->l.geo.cluster_bits >> 3;
    uint64_t at = pick_entry(m, m->l.reftable, MIN(entries, UINT64_C(1) << 20), 8);
    uint64_t block = img_ld(m->img, at, 8);

    if (chance(m, 3)) {
        img_st(m->img, at, 8, chance(m, 4) ? any_value(m) : any_offset(m));
    } else if (block) {
        uint64_t i = block + rnd(m, chance(m, 2) ? 16 : (uint32_t)m->l.geo.cluster_size);

        img_st(m->img, i, 1, chance(m, 2) ? rnd(m, 3) : rnd(m, 256));
    }
}

/* ---- Things that our tools do not make ---- */

/* @n clusters past the end. */
static uint64_t new_clusters(Mut *m, uint64_t n)
{
    uint64_t at = ALIGN_UP(m->img->length, m->l.geo.cluster_size);

    if (at + n * m->l.geo.cluster_size > IMG_MAX_LENGTH) {
        return 0;
    }
    m->img->length = at + n * m->l.geo.cluster_size;
    return at;
}

static void add_snapshot(Mut *m)
{
    uint64_t l1_clusters = geo_clusters(&m->l.geo, m->l.l1_size * UINT64_C(8));
    uint64_t at = new_clusters(m, l1_clusters + 1),
             table = at + (l1_clusters << m->l.geo.cluster_bits);

    if (!at || m->l.l1_size > 4096) {
        return;
    }
    for (uint64_t i = 0; i < m->l.l1_size; i++) {
        uint64_t e = img_ld(m->img, m->l.l1 + i * 8, 8);

        if (e) {
            img_st(m->img, at + i * 8, 8, e & ~L2E_COPIED);
        }
    }
    img_st(m->img, table, 8, at);
    img_st(m->img, table + 8, 4, m->l.l1_size);
    img_st(m->img, table + 12, 4, 0x00010001);
    img_st(m->img, table + 36, 4, 16);
    img_st(m->img, table + 48, 8, m->l.size);
    img_st(m->img, table + 56, 2, 0x3131);
    img_st(m->img, 60, 4, 1);
    img_st(m->img, 64, 8, table);
}

static void mutate_snapshot(Mut *m)
{
    static const struct {
        uint8_t offset, bytes;
    } f[] = { { 0, 8 }, { 8, 4 }, { 12, 2 }, { 14, 2 }, { 32, 4 }, { 36, 4 } };
    unsigned i = rnd(m, G_N_ELEMENTS(f));

    if (m->l.nb_snapshots == 0 || chance(m, 8)) {
        add_snapshot(m);
        return;
    }
    if (chance(m, 6)) {
        img_st(m->img, 60, 4, chance(m, 2) ? any_value(m) : rnd(m, 70000));
    }
    img_st(m->img, m->l.snapshots + f[i].offset, f[i].bytes, i == 0 ? any_offset(m) : any_value(m));
}

static void add_bitmap(Mut *m)
{
    uint64_t ext = walk_exts(m, true), at = new_clusters(m, 3), cs = m->l.geo.cluster_size;

    if (!ext || !at || ext + 40 > 512) {
        return;
    }
    img_st(m->img, ext, 4, IMG_EXT_BITMAPS);
    img_st(m->img, ext + 4, 4, 24);
    img_st(m->img, ext + 8, 8, UINT64_C(1) << 32);
    img_st(m->img, ext + 16, 8, 32);
    img_st(m->img, ext + 24, 8, at);
    img_st(m->img, ext + 32, 8, 0);
    img_st(m->img, 88, 8, img_ld(m->img, 88, 8) | 1);
    img_st(m->img, at, 8, at + cs); /* table */
    img_st(m->img, at + 8, 4, 1);   /* entries */
    img_st(m->img, at + 16, 8,
           UINT64_C(0x0110000100000000)); /* type 1, granularity 2^16, name of 1 byte */
    img_st(m->img, at + 24, 1, 'b');
    img_st(m->img, at + cs, 8, at + 2 * cs);
}

static void mutate_bitmap(Mut *m)
{
    uint64_t dir = m->l.bitmap_dir;

    if (m->l.nb_bitmaps == 0) {
        add_bitmap(m);
    } else {
        img_st(m->img, dir + 4 * rnd(m, 7), 4, chance(m, 2) ? any_value(m) : any_offset(m));
    }
}

/* ---- What is done to the image ---- */

static void mutate_ops(Mut *m)
{
    Image *img = m->img;
    unsigned i = rnd(m, img->nops + 1);
    ImgOp *o = &img->ops[MIN(i, IMG_MAX_OPS - 1)];

    if (chance(m, 6)) {
        img->ctl[rnd(m, 8)] = (uint8_t)(chance(m, 2) ? 0 : rnd(m, 256));
    } else if (i == img->nops && i < IMG_MAX_OPS) {
        img->nops++;
        *o = (ImgOp){ rnd(m, 10), rnd(m, 256), rnd(m, 300), rnd(m, 300), rnd(m, 65536) };
    } else if (chance(m, 8) && img->nops) {
        img->nops--;
        memmove(&img->ops[i], &img->ops[i + 1], (img->nops - i) * sizeof(ImgOp));
    } else {
        switch (rnd(m, 4)) {
        case 0:
            o->op = (uint8_t)rnd(m, 10);
            break;
        case 1:
            o->flags = (uint8_t)rnd(m, 256);
            break;
        case 2:
            o->offset = (uint16_t)(chance(m, 4) ? any_value(m) : rnd(m, 400));
            break;
        default:
            o->len = (uint16_t)(chance(m, 4) ? any_value(m) : rnd(m, 400));
            break;
        }
    }
}

static void mutate_length(Mut *m)
{
    uint64_t cs = m->known ? m->l.geo.cluster_size : 512;

    switch (rnd(m, 3)) {
    case 0:
        m->img->length = rnd(m, (uint32_t)m->img->length + 2);
        break;
    case 1:
        m->img->length = MIN(ALIGN_UP(m->img->length + 1, cs), IMG_MAX_LENGTH);
        break;
    default:
        m->img->length = MIN(cs * rnd(m, 200), IMG_MAX_LENGTH);
        break;
    }
}

static void mutate_sector(Mut *m)
{
    guint n = m->img->sectors->len;

    if (n) {
        ImgSector *s = &g_array_index(m->img->sectors, ImgSector, rnd(m, n));

        fuzz_mutate_bytes(s->data, 512, 512);
    }
}

static void mutate_once(Mut *m)
{
    typedef void MutFn(Mut *);
    static MutFn *const any[] = { mutate_header, mutate_ext,    mutate_ops,   mutate_ops,
                                  mutate_ops,    mutate_length, mutate_sector };
    static MutFn *const of_tables[] = {
        mutate_l1,  mutate_l2,        mutate_l2,       mutate_l2,
        copy_entry, mutate_refcounts, mutate_snapshot, mutate_bitmap
    };

    m->known = layout_read(m->img, &m->l);
    if (m->known && !chance(m, 3)) {
        of_tables[rnd(m, G_N_ELEMENTS(of_tables))](m);
    } else {
        any[rnd(m, G_N_ELEMENTS(any))](m);
    }
}

size_t img_mutate(uint8_t *data, size_t size, size_t max, uint32_t seed)
{
    g_autoptr(Image) img = img_parse(data, size);
    Mut m = { .img = img, .seed = seed };
    unsigned n = 1 + rnd(&m, 4);

    if (size == 0 || chance(&m, 40)) {
        return 0; /* libFuzzer's own, now and then */
    }
    while (n--) {
        mutate_once(&m);
    }
    if (!chance(&m, 3) && layout_read(img, &m.l)) {
        img_recount(img, &m.l);
    }
    return img_pack(img, data, max);
}
