/* SPDX-License-Identifier: MIT */
/* Images as fuzz inputs: see image.h. */
#include "image.h"

#include "util/bytes.h"

#include <string.h>

#define FIXED 18

static uint64_t ldle(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;

    while (bytes--) {
        v = v << 8 | p[bytes];
    }
    return v;
}

static uint8_t *stle(uint8_t *p, unsigned bytes, uint64_t v)
{
    while (bytes--) {
        *p++ = (uint8_t)v;
        v >>= 8;
    }
    return p;
}

guint img_find(const Image *img, uint64_t n)
{
    guint lo = 0, hi = img->sectors->len;

    while (lo < hi) {
        guint mid = (lo + hi) / 2;

        if (g_array_index(img->sectors, ImgSector, mid).n < n) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

ImgSector *img_sector(const Image *img, uint64_t n)
{
    guint i = img_find(img, n);
    ImgSector *s = i < img->sectors->len ? &g_array_index(img->sectors, ImgSector, i) : NULL;

    return s && s->n == n ? s : NULL;
}

ImgSector *img_make_sector(Image *img, uint64_t n)
{
    ImgSector *s = img_sector(img, n), fresh = { .n = (uint32_t)n };
    guint i = img_find(img, n);

    if (s || n >= IMG_MAX_LENGTH / 512) {
        return s;
    }
    g_array_insert_val(img->sectors, i, fresh);
    return &g_array_index(img->sectors, ImgSector, i);
}

Image *img_parse(const uint8_t *data, size_t size)
{
    Image *img = g_new0(Image, 1);
    const uint8_t *p, *end;

    img->sectors = g_array_new(FALSE, TRUE, sizeof(ImgSector));
    if (size < FIXED) {
        return img;
    }
    p = data + FIXED;
    end = data + size;
    memcpy(img->ctl, data, 8);
    img->length = ldle(data + 8, 8) % (IMG_MAX_LENGTH + 1);
    img->nops = (unsigned)MIN(ldle(data + 16, 2) % (IMG_MAX_OPS + 1), (size_t)(end - p) / 8);
    for (unsigned i = 0; i < img->nops; i++, p += 8) {
        img->ops[i] = (ImgOp){ p[0], p[1], (uint16_t)ldle(p + 2, 2), (uint16_t)ldle(p + 4, 2),
                               (uint16_t)ldle(p + 6, 2) };
    }
    for (; end - p > 4; p += MIN((size_t)(end - p), 4 + 512)) {
        ImgSector *s = img_make_sector(img, ldle(p, 4));

        if (s) {
            memcpy(s->data, p + 4, MIN((size_t)(end - p) - 4, 512));
        }
    }
    return img;
}

void img_free(Image *img)
{
    if (img) {
        g_array_unref(img->sectors);
        g_free(img);
    }
}

static bool all_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && !memcmp(p, p + 1, n - 1));
}

size_t img_pack(const Image *img, uint8_t *data, size_t max)
{
    uint8_t *p = data;

    if (max < FIXED + img->nops * 8) {
        return 0;
    }
    memcpy(p, img->ctl, 8);
    p = stle(p + 8, 8, img->length);
    p = stle(p, 2, img->nops);
    for (unsigned i = 0; i < img->nops; i++) {
        const ImgOp *o = &img->ops[i];

        *p++ = o->op;
        *p++ = o->flags;
        p = stle(p, 2, o->offset);
        p = stle(p, 2, o->len);
        p = stle(p, 2, o->value);
    }
    for (guint i = 0; i < img->sectors->len; i++) {
        const ImgSector *s = &g_array_index(img->sectors, ImgSector, i);

        if (all_zero(s->data, 512)) {
            continue;
        }
        if (max - (size_t)(p - data) < 4 + 512) {
            return 0;
        }
        p = stle(p, 4, s->n);
        memcpy(p, s->data, 512);
        p += 512;
    }
    return (size_t)(p - data);
}

MemFile *img_to_file(const Image *img)
{
    MemFile *f = mem_file_new(img->length);

    for (guint i = 0; i < img->sectors->len; i++) {
        const ImgSector *s = &g_array_index(img->sectors, ImgSector, i);
        uint64_t at = s->n * UINT64_C(512);

        if (at < img->length) {
            (void)mem_file_write(f, at, s->data, MIN(img->length - at, 512));
        }
    }
    return f;
}

uint64_t img_ld(const Image *img, uint64_t offset, unsigned bytes)
{
    const ImgSector *s = img_sector(img, offset / 512);
    uint64_t v = 0;

    for (unsigned i = 0; s && i < bytes && offset % 512 + i < 512; i++) {
        v = v << 8 | s->data[offset % 512 + i];
    }
    return v;
}

void img_st(Image *img, uint64_t offset, unsigned bytes, uint64_t v)
{
    ImgSector *s = img_make_sector(img, offset / 512);

    if (!s || offset % 512 + bytes > 512) {
        return;
    }
    while (bytes--) {
        s->data[offset % 512 + bytes] = (uint8_t)v;
        v >>= 8;
    }
}
