/* SPDX-License-Identifier: MIT */
/*
 * Where the tables of an input's image are, who owns which cluster, and refcounts that fit. Written
 * apart from the driver and its check, with which it is compared.
 */
#include "image.h"

#include "qcow2/l2.h"
#include "qcow2/refcount-codec.h"
#include "util/bytes.h"

#include <string.h>

bool layout_read(const Image *img, Layout *l)
{
    uint32_t version = (uint32_t)img_ld(img, 4, 4), bits = (uint32_t)img_ld(img, 20, 4);
    uint32_t order = version >= 3 ? (uint32_t)img_ld(img, 96, 4) : 4;
    uint64_t incompatible = version >= 3 ? img_ld(img, 72, 8) : 0;

    memset(l, 0, sizeof(*l));
    if (img_ld(img, 0, 4) != 0x514649fb || bits < QCOW2_MIN_CLUSTER_BITS ||
        bits > QCOW2_MAX_CLUSTER_BITS || order > 6) {
        return false;
    }
    qcow2_geometry_init(&l->geo, (int)version, bits, order, incompatible & 16, incompatible & 4,
                        false);
    l->size = img_ld(img, 24, 8);
    l->l1_size = (uint32_t)img_ld(img, 36, 4);
    l->l1 = img_ld(img, 40, 8);
    l->reftable = img_ld(img, 48, 8);
    l->reftable_clusters = (uint32_t)img_ld(img, 56, 4);
    l->nb_snapshots = (uint32_t)img_ld(img, 60, 4);
    l->snapshots = img_ld(img, 64, 8);
    l->header_length = version >= 3 ? (uint32_t)img_ld(img, 100, 4) : 72;
    for (uint64_t at = l->header_length, type; at + 8 <= 512;
         at += 8 + ALIGN_UP(img_ld(img, at + 4, 4), 8)) {
        type = img_ld(img, at, 4);
        if (type == 0) {
            break;
        }
        if (type == IMG_EXT_BITMAPS && (img_ld(img, 88, 8) & 1)) {
            l->nb_bitmaps = (uint32_t)img_ld(img, at + 8, 4);
            l->bitmap_dir_size = img_ld(img, at + 16, 8);
            l->bitmap_dir = img_ld(img, at + 24, 8);
        }
    }
    return true;
}

/* ---- Claims ---- */

/* @c->refs grows by one for each cluster of the range. */
static void claim(const Layout *l, Claims *c, uint64_t offset, uint64_t bytes, Owner owner)
{
    uint64_t first = offset >> l->geo.cluster_bits;
    uint64_t n = bytes ? ((offset + bytes - 1) >> l->geo.cluster_bits) - first + 1 : 0;

    if (offset > IMG_MAX_LENGTH || bytes > IMG_MAX_LENGTH || first + n > c->clusters) {
        c->sound = false;
        return;
    }
    for (uint64_t i = first; i < first + n; i++) {
        if (c->owner[i] != OWNER_NONE && (c->owner[i] != owner || owner == OWNER_META)) {
            c->sound = false;
        }
        c->owner[i] = (uint8_t)owner;
        c->refs[i]++;
    }
}

/* Of a cluster that has a COPIED flag: one of two active entries would keep a wrong one once the
 * other lets go. */
static void claim_flagged(const Layout *l, Claims *c, uint64_t offset, Owner owner)
{
    uint64_t i = offset >> l->geo.cluster_bits;

    claim(l, c, offset, l->geo.cluster_size, owner);
    if (c->active && i < c->clusters && c->once[i]++) {
        c->sound = false;
        c->once[i] = 1;
    }
}

static void claim_l2(const Image *img, const Layout *l, Claims *c, uint64_t table)
{
    uint64_t first = table / 512, last = (table + l->geo.cluster_size) / 512;

    claim_flagged(l, c, table, OWNER_L2);
    for (guint i = img_find(img, first); i < img->sectors->len; i++) {
        const ImgSector *s = &g_array_index(img->sectors, ImgSector, i);

        if (s->n >= last) {
            break;
        }
        for (unsigned k = 0; k < 512 / l->geo.l2_entry_size; k++) {
            L2Entry e = qcow2_l2_load(&l->geo, s->data, k);
            uint64_t host, bytes;

            if (e.desc & L2E_COMPRESSED) {
                qcow2_l2_compressed_range(&l->geo, e, &host, &bytes);
                claim(l, c, host, bytes, OWNER_DATA);
            } else if (qcow2_l2_has_host(&l->geo, e) && !l->geo.external_data) {
                claim_flagged(l, c, qcow2_l2_host(&l->geo, e), OWNER_DATA);
            }
        }
    }
}

typedef void EntryFn(const Image *img, const Layout *l, Claims *c, uint64_t entry);

/* Entries that are not 0 of a table of @entries 8-byte entries. */
static void each_entry(const Image *img, const Layout *l, Claims *c, uint64_t table,
                       uint64_t entries, EntryFn *fn)
{
    uint64_t end = table + entries * 8;

    if (table % 512 || table > IMG_MAX_LENGTH || entries > IMG_MAX_LENGTH) {
        c->sound = false;
        return;
    }
    for (guint i = img_find(img, table / 512); i < img->sectors->len; i++) {
        const ImgSector *s = &g_array_index(img->sectors, ImgSector, i);

        for (unsigned k = 0; k < 64 && s->n * UINT64_C(512) + k * 8 < end; k++) {
            uint64_t e = ldbe64(s->data + k * 8);

            if (e) {
                fn(img, l, c, e);
            }
        }
        if (s->n * UINT64_C(512) >= end) {
            break;
        }
    }
}

static void l1_entry(const Image *img, const Layout *l, Claims *c, uint64_t e)
{
    if (e & QCOW2_OFFSET_MASK) {
        claim_l2(img, l, c, e & QCOW2_OFFSET_MASK);
    }
}

static void reftable_entry(const Image *img, const Layout *l, Claims *c, uint64_t e)
{
    claim(l, c, e, l->geo.cluster_size, OWNER_META);
}

static void bitmap_entry(const Image *img, const Layout *l, Claims *c, uint64_t e)
{
    if (e & QCOW2_OFFSET_MASK) {
        claim(l, c, e & QCOW2_OFFSET_MASK, l->geo.cluster_size, OWNER_META);
    }
}

static void claim_l1(const Image *img, const Layout *l, Claims *c, uint64_t offset,
                     uint32_t entries)
{
    claim(l, c, offset, entries * UINT64_C(8), OWNER_META);
    each_entry(img, l, c, offset, entries, l1_entry);
}

static void claim_snapshots(const Image *img, const Layout *l, Claims *c)
{
    uint64_t at = l->snapshots;

    if (l->nb_snapshots > 16) {
        c->sound = false;
    }
    for (uint32_t i = 0; i < MIN(l->nb_snapshots, 16); i++) {
        uint64_t extra = img_ld(img, at + 36, 4), id = img_ld(img, at + 12, 2),
                 name = img_ld(img, at + 14, 2);

        claim_l1(img, l, c, img_ld(img, at, 8), (uint32_t)img_ld(img, at + 8, 4));
        at += ALIGN_UP(40 + extra + id + name, 8);
    }
    claim(l, c, l->snapshots, at - l->snapshots, OWNER_META);
}

static void claim_bitmaps(const Image *img, const Layout *l, Claims *c)
{
    uint64_t at = l->bitmap_dir;

    claim(l, c, at, l->bitmap_dir_size, OWNER_META);
    if (l->nb_bitmaps > 16) {
        c->sound = false;
    }
    for (uint32_t i = 0; i < MIN(l->nb_bitmaps, 16) && at < l->bitmap_dir + l->bitmap_dir_size;
         i++) {
        uint64_t entries = img_ld(img, at + 8, 4);

        claim(l, c, img_ld(img, at, 8), entries * 8, OWNER_META);
        each_entry(img, l, c, img_ld(img, at, 8), entries, bitmap_entry);
        at += ALIGN_UP(24 + img_ld(img, at + 18, 2) + img_ld(img, at + 20, 4), 8);
    }
}

void claims_count(const Image *img, const Layout *l, Claims *c)
{
    c->clusters = geo_clusters(&l->geo, img->length);
    c->refs = g_new0(uint32_t, c->clusters + 1);
    c->owner = g_new0(uint8_t, c->clusters + 1);
    c->once = g_new0(uint8_t, c->clusters + 1);
    c->sound = true;
    claim(l, c, 0, l->geo.cluster_size, OWNER_META);
    c->active = true;
    claim_l1(img, l, c, l->l1, l->l1_size);
    c->active = false;
    claim(l, c, l->reftable, (uint64_t)l->reftable_clusters << l->geo.cluster_bits, OWNER_META);
    each_entry(img, l, c, l->reftable, (uint64_t)l->reftable_clusters << l->geo.cluster_bits >> 3,
               reftable_entry);
    if (l->nb_snapshots) {
        claim_snapshots(img, l, c);
    }
    if (l->nb_bitmaps) {
        claim_bitmaps(img, l, c);
    }
}

void claims_clear(Claims *c)
{
    g_clear_pointer(&c->refs, g_free);
    g_clear_pointer(&c->owner, g_free);
    g_clear_pointer(&c->once, g_free);
}

/* ---- Refcounts and flags that fit ---- */

/* A count that is not 0 in the block at @block, of clusters from @first on, behind the file's
 * end. */
static bool counts_behind(const Image *img, const Layout *l, uint64_t block, uint64_t first)
{
    unsigned order = l->geo.refcount_order;
    uint64_t per = (512 * 8) >> order, end = geo_clusters(&l->geo, img->length);

    for (guint i = img_find(img, block / 512); i < img->sectors->len; i++) {
        const ImgSector *s = &g_array_index(img->sectors, ImgSector, i);
        uint64_t c = first + (s->n - block / 512) * per;

        if (s->n >= (block + l->geo.cluster_size) / 512) {
            break;
        }
        for (uint64_t k = 0; k < per; k++) {
            if (c + k >= end && qcow2_refcount_codec_get(order, s->data, k)) {
                return true;
            }
        }
    }
    return false;
}

bool img_counts_behind_end(const Image *img, const Layout *l)
{
    for (uint64_t i = 0; i < MIN((uint64_t)l->reftable_clusters << l->geo.cluster_bits >> 3, 4096);
         i++) {
        uint64_t block = img_ld(img, l->reftable + i * 8, 8);

        if (block && counts_behind(img, l, block, i << l->geo.refblock_bits)) {
            return true;
        }
    }
    return false;
}

static bool set_count(Image *img, const Layout *l, uint64_t cluster, uint64_t v)
{
    unsigned order = l->geo.refcount_order;
    uint64_t block = img_ld(img, l->reftable + (cluster >> l->geo.refblock_bits) * 8, 8);
    uint64_t index = cluster & ((UINT64_C(1) << l->geo.refblock_bits) - 1);
    uint64_t per = (512 * 8) >> order;
    ImgSector *s;

    if (!block || block >= IMG_MAX_LENGTH) {
        return false;
    }
    s = v ? img_make_sector(img, block / 512 + index / per)
          : img_sector(img, block / 512 + index / per);
    if (s) {
        qcow2_refcount_codec_set(order, s->data, index % per, MIN(v, l->geo.refcount_max));
    }
    return true;
}

static void fix_copied(Image *img, const Layout *l, const Claims *c, uint64_t at, bool l2)
{
    uint64_t e = img_ld(img, at, 8), cluster = (e & QCOW2_OFFSET_MASK) >> l->geo.cluster_bits;

    if (!(e & QCOW2_OFFSET_MASK) || cluster >= c->clusters || (l2 && l->geo.external_data)) {
        return;
    }
    if (l2 && (e & L2E_COMPRESSED)) {
        e &= ~L2E_COPIED;
    } else {
        e = c->refs[cluster] == 1 ? e | L2E_COPIED : e & ~L2E_COPIED;
    }
    img_st(img, at, 8, e);
}

void img_recount(Image *img, const Layout *l)
{
    Claims c;

    claims_count(img, l, &c);
    for (uint64_t i = 0; i < c.clusters && set_count(img, l, i, c.refs[i]); i++) {
    }
    for (uint64_t i = 0; i < MIN(l->l1_size, UINT64_C(4096)); i++) {
        uint64_t at = l->l1 + i * 8, table = img_ld(img, at, 8) & QCOW2_OFFSET_MASK;

        fix_copied(img, l, &c, at, false);
        for (guint k = table ? img_find(img, table / 512) : img->sectors->len;
             k < img->sectors->len; k++) {
            uint64_t s = g_array_index(img->sectors, ImgSector, k).n * UINT64_C(512);

            if (s >= table + l->geo.cluster_size) {
                break;
            }
            for (unsigned e = 0; e < 512; e += l->geo.l2_entry_size) {
                fix_copied(img, l, &c, s + e, true);
            }
        }
    }
    claims_clear(&c);
}
