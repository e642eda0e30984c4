/* SPDX-License-Identifier: MIT */
/*
 * Checks of one state: opened read-only, no error but leaks, content as the model allows; then, for
 * some, opened writable, written to, and checked again; for a few, the reference's check of the
 * same file.
 */
#include "state.h"

#include "bitmap.h"
#include "bitmaps.h"
#include "content.h"
#include "damage.h"
#include "past-end.h"
#include "reference.h"
#include "snapshots.h"

#include <errno.h>

#define MORE_WRITES 3
#define MORE_SECTORS 64

static BlockBackend *open_state(const StateCheck *c, int flags, GError **errp)
{
    return open_image(c->run->p, "crash-mem", "s-img", "s-data", flags, errp);
}

typedef struct Report {
    GString *text;
    int flags; /* lines about COPIED */
} Report;

static void take_report(const char *line, void *opaque)
{
    Report *r = opaque;

    r->flags += strstr(line, "OFLAG_COPIED") != NULL;
    if (r->text->len < 400) {
        g_string_append_printf(r->text, "; %s", line);
    }
}

/* In version 2, which has no dirty bit, power may fail between the counts and the flags of what a
 * snapshot begins or ends to share. */
static bool lags(const StateCheck *c)
{
    return c->run->p->cfg.version == 2 && c->model->snapshots_change;
}

static int wrong(const StateCheck *c, const BlockCheckResult *res, const Report *r)
{
    return (int)res->corruptions - (lags(c) ? r->flags : 0);
}

/* The dirty bit allows wrong counts until the next writer has rebuilt them. */
static char *check_tables(const StateCheck *c, BlockBackend *blk, bool dirty, bool no_leaks)
{
    BlockCheckResult res = { 0 };
    Report r = { .text = g_string_new(NULL) };
    int ret = blk_check(blk, &res, 0, take_report, &r);
    char *s;

    if (ret == 0 && res.check_errors == 0 &&
        (dirty || (wrong(c, &res, &r) == 0 && (!no_leaks || res.leaks == 0)))) {
        g_string_free(r.text, TRUE);
        return NULL;
    }
    s = g_strdup_printf("check: %d, %d corruptions, %d errors, %d leaks%s", ret,
                        (int)res.corruptions, (int)res.check_errors, (int)res.leaks, r.text->str);
    g_string_free(r.text, TRUE);
    return s;
}

/* The whole disk as words. */
static char *read_words(StateCheck *c, BlockBackend *blk, uint64_t size)
{
    int ret = size ? blk_pread(blk, 0, (int64_t)size, c->buf, 0) : 0;

    if (ret < 0) {
        return g_strdup_printf("read failed: %s", g_strerror(-ret));
    }
    for (uint64_t i = 0; i < size / SECTOR; i++) {
        if (!content_read(c->buf + i * SECTOR, &c->words[i])) {
            return g_strdup_printf("sector %" G_GUINT64_FORMAT " is mixed", i);
        }
    }
    return NULL;
}

static char *check_content(StateCheck *c, uint64_t size)
{
    const Model *m = c->model;

    if (!model_allows_size(m, size)) {
        return g_strdup_printf("the disk has %" G_GUINT64_FORMAT " bytes", size);
    }
    for (uint64_t i = 0; i < size / SECTOR; i++) {
        if (!model_allows(m, i, c->words[i])) {
            g_autofree char *want = model_sector_text(m, i);

            return g_strdup_printf("sector %" G_GUINT64_FORMAT " holds %016" G_GINT64_MODIFIER
                                   "x, allowed is %s",
                                   i, c->words[i], want);
        }
    }
    return NULL;
}

static char *check_shared(StateCheck *c)
{
    return c->run->shared ? shared_check(c->run->shared, mem_named("s-img")) : NULL;
}

/* The disk (c->words) and what its bitmap says of it. */
static char *check_bitmap(StateCheck *c, uint64_t size)
{
    BitmapPlace place = { 0 };
    char *why = c->run->rest ? bitmap_find(mem_named("s-img"), &place) : NULL;

    for (uint64_t i = 0; c->run->rest && i < size / SECTOR && !why; i++) {
        if (c->words[i] != c->run->rest[i] && !bitmap_has(mem_named("s-img"), &place, i)) {
            why = g_strdup_printf(
                "sector %" G_GUINT64_FORMAT " has changed, and its bit is not set", i);
        }
    }
    return why;
}

/* Those of the program: as after the last operation that ended, or after one that may have. */
static char *check_bitmaps(StateCheck *c, uint64_t size)
{
    const Model *m = c->model;
    char *why, *other = NULL;

    if (m->list == NOT_YET && m->listing == NOT_YET) {
        return NULL;
    }
    why = bitmaps_check(c->run->p, c->run->log, m->list, mem_named("s-img"), c->words,
                        size / SECTOR);
    if (why && m->listing != NOT_YET) {
        other = bitmaps_check(c->run->p, c->run->log, m->listing, mem_named("s-img"), c->words,
                              size / SECTOR);
        g_free(why);
        why = other;
    }
    return why;
}

/* A raw data file is what the disk is, whatever of the entries is on the disk: c->buf. */
static char *check_raw_file(StateCheck *c, uint64_t size)
{
    uint8_t sector[SECTOR];

    if (c->run->p->cfg.data_file != 2) {
        return NULL;
    }
    for (uint64_t at = 0; at < size; at += SECTOR) {
        mem_read(mem_named("s-data"), at, sector, SECTOR);
        if (memcmp(sector, c->buf + at, SECTOR)) {
            return g_strdup_printf("sector %" G_GUINT64_FORMAT " of the raw data file is not the "
                                   "disk's",
                                   at / SECTOR);
        }
    }
    return NULL;
}

/* Those that must be there are, and each holds what the disk was. */
static char *check_snapshots(StateCheck *c)
{
    char *why = NULL;

    for (unsigned k = 0; k < SNAPSHOTS_MAX && !why; k++) {
        uint32_t bit = UINT32_C(1) << k;

        if ((c->model->may | c->model->must) & bit) {
            BlockBackend *blk = open_state(c, 0, NULL);

            why = blk ? snapshots_check(blk, c->run->p, c->run->log, k, c->model->must & bit)
                      : NULL;
            blk_close(blk);
        }
    }
    return why;
}

/* ---- Going on ---- */

/* Grow: the new sectors hold nothing, whatever was there before a shrink. */
static int grow_more(StateCheck *c, BlockBackend *blk, uint64_t *sectors, uint64_t r)
{
    uint64_t more = 1 + (r >> 24) % MORE_SECTORS;
    int ret = blk_truncate(blk, (int64_t)((*sectors + more) * SECTOR), true,
                           (r >> 40) % 4 ? BLK_PREALLOC_OFF : BLK_PREALLOC_METADATA, 0, NULL);

    if (ret == 0) {
        memset(c->words + *sectors, 0, more * sizeof(*c->words));
        *sectors += more;
    }
    return ret;
}

/* Sectors from @at on: c->words is what they hold then. */
static int write_some(StateCheck *c, BlockBackend *blk, uint64_t at, uint64_t n, uint32_t id,
                      bool zero)
{
    uint8_t buf[LOOSE_MAX * SECTOR];
    int ret;

    memcpy(c->was, c->words + at, n * sizeof(*c->was));
    for (uint64_t i = 0; i < n; i++) {
        c->words[at + i] = zero ? 0 : content_word(id, at + i, false);
        content_fill(buf + i * SECTOR, c->words[at + i]);
    }
    ret = zero ? blk_pwrite_zeroes(blk, (int64_t)(at * SECTOR), (int64_t)(n * SECTOR),
                                   BLK_REQ_MAY_UNMAP)
               : blk_pwrite(blk, (int64_t)(at * SECTOR), (int64_t)(n * SECTOR), buf, 0);
    c->loose = at;
    c->nloose = ret < 0 ? n : 0;
    return ret;
}

/* On a device there may be no room for one of them; all else holds. */
static char *write_more(StateCheck *c, BlockBackend *blk, uint64_t *size, uint64_t r)
{
    uint64_t sectors = *size / SECTOR;
    int ret = 0;

    c->nloose = 0;

    if (r % 3 == 0 && !c->run->rest && !lags(c) &&
        !(c->run->shared && c->run->p->cfg.version == 2)) {
        ret = grow_more(c, blk, &sectors, r);
        *size = sectors * SECTOR;
    }
    for (unsigned k = 0; k < MORE_WRITES && sectors && ret == 0; k++) {
        uint64_t n = MIN(1 + (r >> 8) % LOOSE_MAX, sectors), at = (r >> 16) % (sectors - n + 1);

        ret = write_some(c, blk, at, n, 1000000 + k, (r & 7) == 0);
        r = mix64(r);
    }
    ret = ret == -ENOSPC && c->run->p->cfg.device ? 0 : ret;
    ret = ret < 0 ? ret : blk_flush(blk);
    return ret < 0 ? g_strdup_printf("writing on: %s", g_strerror(-ret)) : NULL;
}

static char *compare_words(StateCheck *c, BlockBackend *blk, const uint64_t *want, uint64_t size)
{
    char *why = read_words(c, blk, size);

    for (uint64_t i = 0; i < size / SECTOR && !why; i++) {
        if (c->words[i] != want[i] &&
            !(i - c->loose < c->nloose && c->words[i] == c->was[i - c->loose])) {
            why = g_strdup_printf("sector %" G_GUINT64_FORMAT " holds %016" G_GINT64_MODIFIER
                                  "x, not %016" G_GINT64_MODIFIER "x",
                                  i, c->words[i], want[i]);
        }
    }
    return why;
}

/* Others grow a disk without a look at the entries past its end: nothing may show there. */
static char *check_past_end(StateCheck *c, uint64_t size)
{
    const ImageConfig *cfg = &c->run->p->cfg;
    MemFile *f = mem_named("s-img");
    g_autoptr(GError) err = NULL;
    BlockBackend *blk;
    uint64_t start, end;
    int ret = -EIO;

    if (!c->model->created || cfg->backing || cfg->data_file || cfg->bitmap || cfg->encrypted ||
        !past_end_grow(f, MORE_SECTORS * SECTOR, &start, &end)) {
        return NULL;
    }
    blk = open_state(c, 0, &err);
    if (blk) {
        ret = blk_pread(blk, (int64_t)start, (int64_t)(end - start), c->buf, 0);
        blk_close(blk);
    }
    past_end_restore(f, size);
    return ret < 0 ? g_strdup_printf("a disk that others grew: %s", g_strerror(-ret))
           : !buffer_is_zero(c->buf, end - start)
               ? g_strdup("a disk that others grew shows what lay past its end")
               : NULL;
}

static char *go_on(StateCheck *c, uint64_t size)
{
    g_autoptr(GError) err = NULL;
    g_autofree uint64_t *want = NULL;
    BlockBackend *blk = open_state(c, BLK_O_RDWR, &err);
    char *why;

    c->deep_checked++;
    if (!blk) {
        return g_strdup_printf("open for writing: %s", err->message);
    }
    why = write_more(c, blk, &size, mix64(c->seed));
    want = g_memdup2(c->words, size / SECTOR * 8);
    blk_close(blk);
    if (why) {
        return why;
    }
    blk = open_state(c, 0, &err);
    if (!blk) {
        return g_strdup_printf("open after writing on: %s", err->message);
    }
    why = check_tables(c, blk, false, false);
    why = why ? why : compare_words(c, blk, want, size);
    why = why ? why : check_raw_file(c, size);
    blk_close(blk);
    why = why ? why : check_shared(c);
    why = why ? why : check_snapshots(c);
    why = why ? why : check_bitmap(c, size);
    why = why ? why : check_bitmaps(c, size);
    if (why) {
        char *more = g_strdup_printf("after writing on: %s", why);

        g_free(why);
        why = more;
    }
    return why;
}

/* ---- */

static char *check_open(StateCheck *c, BlockBackend *blk, bool *dirty)
{
    BlockDriverInfo info = { 0 };
    uint64_t size = (uint64_t)blk_getlength(blk);
    const char *name = blk_node_facts(blk_bs(blk)).backing_file;
    char *why;

    if (c->model->created && !model_allows_backing(c->model, name)) {
        return g_strdup_printf("the backing file is %s", name ? name : "none");
    }
    blk_get_info(blk_bs(blk), &info);
    *dirty = info.is_dirty;
    why = check_tables(c, blk, info.is_dirty, c->no_leaks);
    if (!why && !model_allows_size(c->model, size)) {
        return check_content(c, size);
    }
    why = why ? why : read_words(c, blk, size);
    /* A creation that has not ended promises nothing of the content. */
    why = why ? why : check_raw_file(c, size);
    return why || !c->model->created ? why : check_content(c, size);
}

/* A damaged image, repaired in part: all or nothing of it where it is not marked; then repaired. */
static char *repair(StateCheck *c)
{
    g_autoptr(GError) err = NULL;
    BlockCheckResult found = { 0 }, res = { 0 };
    BlockBackend *blk = open_state(c, 0, &err);
    bool can, marked = damage_is_marked(mem_named("s-img"), &can);
    int ret = blk ? blk_check(blk, &found, 0, NULL, NULL) : -EIO;

    if (blk) {
        blk_close(blk);
    }
    if (ret < 0) {
        return g_strdup_printf("check of a damaged image: %s", g_strerror(-ret));
    }
    if (can && !marked && found.corruptions && found.corruptions != c->run->corruptions) {
        return g_strdup_printf("%d of %d corruptions are left, and the image is not marked",
                               (int)found.corruptions, (int)c->run->corruptions);
    }
    if (!marked && !found.corruptions) {
        return NULL;
    }
    blk = open_state(c, BLK_O_RDWR | BLK_O_CHECK, &err);
    ret = blk ? blk_check(blk, &res, BLK_FIX_LEAKS | BLK_FIX_ERRORS, NULL, NULL) : -EIO;
    if (blk) {
        blk_close(blk);
    }
    return ret < 0 || res.corruptions || res.check_errors ||
                   damage_is_marked(mem_named("s-img"), &can)
               ? g_strdup_printf("a second repair: %s, %d corruptions left", g_strerror(-ret),
                                 (int)res.corruptions)
               : NULL;
}

char *state_check(StateCheck *c)
{
    g_autoptr(GError) err = NULL;
    BlockBackend *blk;
    uint64_t size, max = c->model->nsectors;
    bool dirty = false;
    char *why;

    if (!c->buf) {
        c->buf = g_malloc((max + MORE_SECTORS) * SECTOR);
        c->words = g_new(uint64_t, max + MORE_SECTORS);
    }
    c->checked++;
    why = c->run->p->cfg.damage ? repair(c) : NULL;
    if (why) {
        return why;
    }
    blk = open_state(c, 0, &err);
    if (!blk) {
        return c->model->created ? g_strdup_printf("open: %s", err->message) : NULL;
    }
    size = (uint64_t)blk_getlength(blk);
    why = check_open(c, blk, &dirty);
    blk_close(blk);
    why = why ? why : check_shared(c);
    why = why ? why : check_snapshots(c);
    why = why ? why : check_bitmap(c, size);
    why = why ? why : check_bitmaps(c, size);
    if (!why && !dirty && c->reference_every && !lags(c) && c->checked % c->reference_every == 0) {
        why = reference_check(c->run->p, mem_named("s-img"), mem_named("s-data"));
        c->reference_checked++;
    }
    if (!why && c->deep) {
        why = check_past_end(c, size);
    }
    if (!why && (c->deep || dirty)) {
        why = go_on(c, size);
    }
    return why;
}

void state_check_clear(StateCheck *c)
{
    g_clear_pointer(&c->buf, g_free);
    g_clear_pointer(&c->words, g_free);
}
