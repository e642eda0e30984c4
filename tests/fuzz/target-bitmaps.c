/* SPDX-License-Identifier: MIT */
/*
 * Persistent bitmaps of an image: the input's operations add, remove, change and merge some, and
 * write to the disk; then it is closed and opened again. Whatever was written is in each bitmap
 * that tracked it, all say what they said before, and in an image that was sound the check finds
 * nothing. Control byte 0: options.
 */
#include "fuzz.h"

#include "open.h"

#include <stdio.h>
#include <string.h>

const char fuzz_name[] = "bitmaps";

/* More bits are not asked for: what a bitmap may take has a limit of its own, beyond ours. */
#define MAX_BITS (UINT64_C(1) << 25)
#define MAX_RANGES 64

typedef struct Known {
    char *name;
    unsigned n;
    struct {
        int64_t offset, bytes;
    } range[MAX_RANGES]; /* it tracked writes there */
    DirtyBits *bits;     /* at the end */
} Known;

typedef struct Run {
    BlockBackend *blk;
    GPtrArray *known;
    bool failed;
    uint8_t buf[200 * 512];
} Run;

static void known_free(void *p)
{
    Known *k = p;

    dirty_bits_unref(k->bits);
    g_free(k->name);
    g_free(k);
}

static Known *known_get(Run *r, const char *name)
{
    Known *k;

    for (guint i = 0; i < r->known->len; i++) {
        k = g_ptr_array_index(r->known, i);
        if (!strcmp(k->name, name)) {
            return k;
        }
    }
    k = g_new0(Known, 1);
    k->name = g_strdup(name);
    g_ptr_array_add(r->known, k);
    return k;
}

static uint64_t bits_of(int64_t size, uint64_t granularity)
{
    return DIV_ROUND_UP((uint64_t)size, granularity);
}

/* ---- Operations ---- */

/* FUZZ_TRACE=1: say what is done, to find out what went wrong. */
static void trace(const char *what, int64_t a, int64_t b, int ret)
{
    if (g_getenv("FUZZ_TRACE")) {
        fprintf(stderr, "%s %" PRId64 " %" PRId64 ": %d\n", what, a, b, ret);
    }
}

static const char *pick(const GArray *list, unsigned n)
{
    return list->len ? g_array_index(list, BlockBitmapInfo, n % list->len).name : "none";
}

static void merge_known(Known *to, const Known *from)
{
    for (unsigned i = 0; i < from->n && to->n < MAX_RANGES; i++) {
        to->range[to->n++] = from->range[i];
    }
}

static void do_change(Run *r, const ImgOp *o, const GArray *list)
{
    BlockBitmapAction what = (BlockBitmapAction)((o->op & 0x7f) % (BLK_BITMAP_MERGE + 1));
    g_autofree char *fresh = g_strdup_printf("new%u", o->value % 3);
    const char *name = what == BLK_BITMAP_ADD ? fresh : pick(list, o->value & 0xff),
               *other = pick(list, o->value >> 8);
    BlockBitmapData data = { NULL };
    BlockBitmapChange c = { .action = what,
                            .name = name,
                            .granularity = UINT64_C(512) << o->flags % 23,
                            .disabled = o->flags & 128,
                            .source = &data };
    int ret = 0;

    if (what == BLK_BITMAP_ADD && bits_of(blk_getlength(r->blk), c.granularity) > MAX_BITS) {
        return;
    }
    if (what == BLK_BITMAP_MERGE) {
        ret = blk_bitmap_read(r->blk, other, &data, NULL);
    }
    ret = ret < 0 ? ret : blk_bitmap_change(r->blk, &c, NULL);
    trace("change", what, (int64_t)c.granularity, ret);
    dirty_bits_unref(data.bits);
    FUZZ_CHECK(ret <= 0, "a change of a bitmap returns %d", ret);
    if (ret == 0 && what == BLK_BITMAP_MERGE) {
        merge_known(known_get(r, name), known_get(r, other));
    } else if (ret == 0 && what != BLK_BITMAP_ENABLE && what != BLK_BITMAP_DISABLE) {
        known_get(r, name)->n = 0;
    }
}

static void do_write(Run *r, const ImgOp *o, const GArray *list)
{
    int64_t len = blk_getlength(r->blk), offset, bytes = (o->len % 200 + 1) * INT64_C(512);
    int ret;

    if (len <= 0) {
        return;
    }
    offset = (int64_t)((__int128)len * o->offset / 65536);
    bytes = MIN(bytes, len - offset);
    memset(r->buf, o->value & 0xff, (size_t)bytes);
    ret = o->flags & 1   ? blk_pwrite_zeroes(r->blk, offset, bytes, BLK_REQ_MAY_UNMAP)
          : o->flags & 2 ? blk_pdiscard(r->blk, offset, bytes)
                         : blk_pwrite(r->blk, offset, bytes, r->buf, 0);
    trace("write", offset, bytes, ret);
    r->failed |= ret < 0;
    for (guint i = 0; ret == 0 && !(o->flags & 2) && i < list->len; i++) {
        const BlockBitmapInfo *info = &g_array_index(list, BlockBitmapInfo, i);
        Known *k = known_get(r, info->name);

        if (info->enabled && !info->inconsistent && k->n < MAX_RANGES) {
            k->range[k->n].offset = offset;
            k->range[k->n++].bytes = bytes;
        }
    }
}

static bool is_small(BlockBackend *blk, const GArray *list)
{
    uint64_t sum = 0;

    for (guint i = 0; i < list->len; i++) {
        sum += bits_of(blk_getlength(blk), g_array_index(list, BlockBitmapInfo, i).granularity);
    }
    return sum <= MAX_BITS;
}

/* False: no more of them. */
static bool do_op(Run *r, const ImgOp *o)
{
    GArray *list = blk_bitmap_list(r->blk, NULL);
    bool small = list && is_small(r->blk, list);

    if (small && o->op & 0x80) {
        do_change(r, o, list);
    } else if (small) {
        do_write(r, o, list);
    }
    g_clear_pointer(&list, g_array_unref);
    return small;
}

/* ---- What they say ---- */

static void check_ranges(const Known *k, const BlockBitmapData *d)
{
    for (unsigned i = 0; i < k->n; i++) {
        uint64_t first = (uint64_t)k->range[i].offset >> d->granularity_bits,
                 end = ((uint64_t)(k->range[i].offset + k->range[i].bytes - 1) >>
                        d->granularity_bits) +
                       1;

        FUZZ_CHECK(dirty_bits_next_clear(d->bits, first) >= end,
                   "bitmap '%s' missed a write at %" PRId64, k->name, k->range[i].offset);
    }
}

static void check_same(const DirtyBits *a, const DirtyBits *b, const char *name)
{
    FUZZ_CHECK(a->n == b->n && dirty_bits_count(a) == dirty_bits_count(b),
               "bitmap '%s' is another one when it is opened again", name);
    for (uint64_t i = dirty_bits_next(a, 0); i < a->n; i = dirty_bits_next(a, i + 1)) {
        FUZZ_CHECK(dirty_bits_test(b, i), "bitmap '%s' lost a bit", name);
    }
}

/* All that can be read; @again: as they were when they were read before. */
static void look(Run *r, bool again)
{
    GArray *list = blk_bitmap_list(r->blk, NULL);

    for (guint i = 0; list && is_small(r->blk, list) && i < list->len; i++) {
        const BlockBitmapInfo *info = &g_array_index(list, BlockBitmapInfo, i);
        BlockBitmapData d = { NULL };
        Known *k = known_get(r, info->name);

        if (blk_bitmap_read(r->blk, info->name, &d, NULL) < 0) {
            continue;
        }
        check_ranges(k, &d);
        if (again && k->bits && !r->failed) {
            check_same(k->bits, d.bits, k->name);
        }
        if (!again && !k->bits) {
            k->bits = dirty_bits_ref(d.bits);
        }
        dirty_bits_unref(d.bits);
    }
    g_clear_pointer(&list, g_array_unref);
}

/* Two of a name, which nothing tells apart: the first is meant. */
static bool has_twins(BlockBackend *blk)
{
    GArray *list = blk_bitmap_list(blk, NULL);
    bool has = false;

    for (guint i = 0; list && i < list->len && i < 64; i++) {
        for (guint j = 0; j < i; j++) {
            has |= !strcmp(g_array_index(list, BlockBitmapInfo, i).name,
                           g_array_index(list, BlockBitmapInfo, j).name);
        }
    }
    has |= list && list->len > 64;
    g_clear_pointer(&list, g_array_unref);
    return has;
}

static void trace_line(const char *line, void *opaque)
{
    if (g_getenv("FUZZ_TRACE")) {
        fprintf(stderr, "%s\n", line);
    }
}

static bool is_clean(const Image *img)
{
    BlockCheckResult res = { 0 };
    BlockBackend *blk = fuzz_open(img, 0, NULL);
    bool ok = blk && blk_check(blk, &res, 0, trace_line, NULL) == 0 && !res.corruptions &&
              !res.check_errors;

    blk_close(blk);
    return ok;
}

static bool is_sound(const Image *img)
{
    Layout l;
    Claims c = { 0 };
    bool ok = is_clean(img) && layout_read(img, &l);

    if (ok) {
        claims_count(img, &l, &c);
        ok = c.sound && l.nb_bitmaps <= 16;
        claims_clear(&c);
    }
    return ok;
}

static void run(Run *r, const Image *img)
{
    bool sound = is_sound(img), twins;

    r->blk = fuzz_open(img, BLK_O_RDWR | BLK_O_RESIZE, NULL);
    if (!r->blk) {
        return;
    }
    twins = has_twins(r->blk);
    for (unsigned i = 0; i < img->nops && !twins && do_op(r, &img->ops[i]); i++) {
    }
    if (sound && !twins) {
        look(r, false);
    }
    r->failed |= blk_flush(r->blk) < 0;
    blk_close(r->blk);
    r->blk = fuzz_open(img, 0, NULL);
    FUZZ_CHECK(r->blk || !sound, "a sound image does not open again");
    if (r->blk && sound && !twins) {
        look(r, true);
    }
    blk_close(r->blk);
    FUZZ_CHECK(!sound || is_clean(img), "the check finds errors in what was sound");
}

void fuzz_one(const uint8_t *data, size_t size)
{
    g_autoptr(Image) img = img_parse(data, size);
    g_autoptr(MemFile) file = img_to_file(img);
    Run *r = g_new0(Run, 1);

    r->known = g_ptr_array_new_with_free_func(known_free);
    fuzz_files_begin(file);
    run(r, img);
    g_ptr_array_unref(r->known);
    g_free(r);
}

size_t fuzz_mutate(uint8_t *data, size_t size, size_t max, uint32_t seed)
{
    return img_mutate(data, size, max, seed);
}
