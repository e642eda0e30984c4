/* SPDX-License-Identifier: MIT */
/* Bitmaps of a program: see bitmaps.h. */
#include "bitmaps.h"

#include "bitmap.h"

#include "block/graph/graph.h"

#include <errno.h>

typedef struct Wanted {
    bool there, tracks;
    const Event *base; /* the disk when it began to track */
    bool *must;        /* for each sector */
} Wanted;

typedef struct Code {
    BlockBitmapAction what;
    unsigned k, other, bits;
} Code;

uint64_t bitmaps_code(BlockBitmapAction what, unsigned k, unsigned other, unsigned bits)
{
    return what | k << 4 | other << 8 | bits << 16;
}

static Code decode(uint64_t code)
{
    return (Code){ (BlockBitmapAction)(code & 15) % (BLK_BITMAP_MERGE + 1),
                   (code >> 4 & 15) % BITMAPS_MAX, (code >> 8 & 15) % BITMAPS_MAX,
                   CLAMP(code >> 16 & 31, 9, 31) };
}

/* ---- Doing it ---- */

int coroutine_fn bitmaps_co_op(BlockBackend *blk, uint64_t code)
{
    BlockDriverState *bs = (BlockDriverState *)blk_bs(blk);
    const BlockBitmapOps *ops = bs->drv->bitmaps;
    Code c = decode(code);
    g_autofree char *name = g_strdup_printf("m%u", c.k), *other = g_strdup_printf("m%u", c.other);
    BlockBitmapData data = { NULL };
    BlockBitmapChange change = { .action = c.what,
                                 .name = name,
                                 .granularity = UINT64_C(1) << c.bits,
                                 .source = &data };
    int ret = c.what == BLK_BITMAP_MERGE ? ops->co_read(bs, other, &data, NULL) : 0;

    ret = ret < 0 ? ret : ops->co_change(bs, &change, NULL);
    dirty_bits_unref(data.bits);
    return ret;
}

bool bitmaps_may_fail(int ret)
{
    return ret == -ENOENT || ret == -EEXIST;
}

/* ---- What it must say ---- */

static uint64_t word_of(const Event *disk, uint64_t sector)
{
    uint64_t word = 0; /* past its end */

    if (disk && sector < disk->bytes / SECTOR) {
        memcpy(&word, disk->data + sector * 8, 8);
    }
    return word;
}

/* All that differs between its base and @now is dirty. */
static void freeze(Wanted *w, const Event *now, uint64_t n)
{
    for (uint64_t i = 0; w->tracks && i < n; i++) {
        w->must[i] |= word_of(w->base, i) != word_of(now, i);
    }
    w->base = now;
}

static void apply(Wanted *all, Code c, const Event *now, uint64_t n)
{
    Wanted *w = &all[c.k], *other = &all[c.other];

    if (!w->there != (c.what == BLK_BITMAP_ADD)) {
        return;
    }
    if (c.what == BLK_BITMAP_ADD || c.what == BLK_BITMAP_CLEAR || c.what == BLK_BITMAP_REMOVE) {
        memset(w->must, 0, n * sizeof(*w->must));
        w->base = now;
        w->there = c.what != BLK_BITMAP_REMOVE;
    }
    switch (c.what) {
    case BLK_BITMAP_ADD:
        w->tracks = true;
        break;
    case BLK_BITMAP_ENABLE:
    case BLK_BITMAP_DISABLE:
        freeze(w, now, n);
        w->tracks = c.what == BLK_BITMAP_ENABLE;
        break;
    case BLK_BITMAP_MERGE:
        if (other->there) {
            freeze(other, now, n);
            for (uint64_t i = 0; i < n; i++) {
                w->must[i] |= other->must[i];
            }
        }
        break;
    case BLK_BITMAP_CLEAR:
    case BLK_BITMAP_REMOVE:
        break;
    }
}

static bool took_effect(const Log *l, uint32_t op)
{
    for (guint i = 1; i < l->events->len; i++) {
        const Event *e = log_event(l, i);

        if (e->type == EV_OP_DONE && e->ref == op) {
            return e->result == 0;
        }
    }
    return false;
}

/* Those that took effect, before @list, and that one. */
static void replay(Wanted *all, const Program *p, const Log *l, uint32_t list, uint64_t n)
{
    for (guint i = 1; i < l->events->len && list != NOT_YET; i++) {
        const Event *e = log_event(l, i);

        if (e->type == EV_OBSERVED && e->ref <= list && program_op(p, e->ref)->type == OP_BITMAP &&
            (e->ref == list || took_effect(l, e->ref))) {
            apply(all, decode(program_op(p, e->ref)->offset), e, n);
        }
    }
}

/* ---- What it says ---- */

static char *check_one(const Wanted *w, const char *name, const MemFile *image,
                       const uint64_t *words, uint64_t n)
{
    BitmapPlace place;
    uint32_t flags = 0;
    bool found = bitmap_find_named(image, name, &place, &flags);

    if (found != w->there) {
        return g_strdup_printf("bitmap %s is %sthere", name, found ? "" : "not ");
    }
    if (found && flags != (w->tracks ? 2u : 0)) {
        return g_strdup_printf("bitmap %s has flags %x", name, flags);
    }
    for (uint64_t i = 0; found && i < n; i++) {
        if ((w->must[i] || (w->tracks && words[i] != word_of(w->base, i))) &&
            !bitmap_has(image, &place, i)) {
            return g_strdup_printf("bitmap %s has no bit for sector %" G_GUINT64_FORMAT, name, i);
        }
    }
    return NULL;
}

char *bitmaps_check(const Program *p, const Log *l, uint32_t list, const MemFile *image,
                    const uint64_t *words, uint64_t n)
{
    uint64_t most = program_max_size(p) / SECTOR + n;
    Wanted all[BITMAPS_MAX] = { { 0 } };
    char *why = NULL;

    for (unsigned k = 0; k < BITMAPS_MAX; k++) {
        all[k].must = g_new0(bool, most);
    }
    replay(all, p, l, list, most);
    for (unsigned k = 0; k < BITMAPS_MAX; k++) {
        g_autofree char *name = g_strdup_printf("m%u", k);

        why = why ? why : check_one(&all[k], name, image, words, n);
        g_free(all[k].must);
    }
    return why;
}
