/* SPDX-License-Identifier: MIT */
/* Another list of bitmaps: see bitmap-store.h. */
#include "bitmap-store.h"

#include "alloc.h"
#include "change.h"
#include "flush.h"
#include "header-ext.h"
#include "rules.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>

typedef struct StoreRun {
    uint64_t offset, bytes;
} StoreRun;

typedef struct BitmapStore {
    Qcow2 *q;
    GPtrArray *next;
    GArray *taken; /* StoreRun: what was allocated */
    uint64_t disk_size, dir_offset, dir_size;
} BitmapStore;

/* ---- Fresh clusters ---- */

static int coroutine_fn co_take(BitmapStore *s, uint64_t bytes, uint64_t *offset)
{
    Qcow2 *q = s->q;
    uint64_t n = geo_clusters(&q->geo, bytes);
    StoreRun run;
    int ret;

    co_mutex_lock(&q->alloc.meta_lock);
    ret = qcow2_alloc_co_clusters(&q->alloc, n, offset);
    co_mutex_unlock(&q->alloc.meta_lock);
    if (ret == 0) {
        run = (StoreRun){ *offset, n << q->geo.cluster_bits };
        g_array_append_val(s->taken, run);
    }
    return ret;
}

/* To fresh clusters, filled up with zeroes. */
static int coroutine_fn co_put(BitmapStore *s, const void *buf, uint64_t bytes, uint64_t *offset)
{
    uint64_t whole = ALIGN_UP(bytes, s->q->geo.cluster_size);
    g_autofree uint8_t *padded = g_try_malloc0(whole);
    int ret = padded ? co_take(s, bytes, offset) : -ENOMEM;

    if (ret < 0) {
        return ret;
    }
    memcpy(padded, buf, bytes);
    return bdrv_co_pwrite(s->q->file, (int64_t)*offset, (int64_t)whole, padded, 0);
}

static void coroutine_fn co_give_back(BitmapStore *s)
{
    Qcow2 *q = s->q;

    co_mutex_lock(&q->alloc.meta_lock);
    for (guint i = 0; i < s->taken->len; i++) { /* the header may name them, if it is in doubt */
        const StoreRun *r = &g_array_index(s->taken, StoreRun, i);

        qcow2_quarantine_add(q->quarantine, r->offset, r->bytes, q->alloc.discard_other);
    }
    co_mutex_unlock(&q->alloc.meta_lock);
}

/* ---- Data and tables ---- */

static bool all_are(const uint8_t *buf, size_t n, uint8_t value)
{
    return buf[0] == value && !memcmp(buf, buf + 1, n - 1);
}

static int coroutine_fn co_put_data(BitmapStore *s, Bitmap *b, uint64_t *table, uint64_t entries)
{
    uint64_t size = s->q->geo.cluster_size;
    g_autofree uint8_t *buf = g_try_malloc(size);
    bool dense = s->q->bitmaps->started && qcow2_bitmap_is_live(b) &&
                 entries * size <= (uint64_t)BITMAP_DENSE_BYTES;
    int ret = buf ? 0 : -ENOMEM;

    for (uint64_t i = 0; i < entries && ret == 0; i++) {
        dirty_bits_store(b->bits, i * size * 8, buf, size);
        if (all_are(buf, size, 0) && !dense) {
            table[i] = 0;
        } else if (all_are(buf, size, 0xff)) {
            table[i] = BITMAP_ALL_ONES;
        } else {
            ret = co_put(s, buf, size, &table[i]);
        }
    }
    return ret;
}

static int coroutine_fn co_put_bitmap(BitmapStore *s, Bitmap *b)
{
    uint64_t entries = geo_clusters(&s->q->geo, DIV_ROUND_UP(b->bits->n, UINT64_C(8)));
    g_autofree uint64_t *table = NULL, *be = NULL;
    int ret;

    if (entries == 0 || entries * 8 > QCOW2_MAX_L1_BYTES) {
        return entries ? -EFBIG : -EINVAL;
    }
    table = g_try_new0(uint64_t, entries);
    be = g_try_new(uint64_t, entries);
    ret = table && be ? co_put_data(s, b, table, entries) : -ENOMEM;
    for (uint64_t i = 0; i < entries && ret == 0; i++) {
        stbe64(&be[i], table[i]);
    }
    ret = ret < 0 ? ret : co_put(s, be, entries * 8, &b->table_offset);
    if (ret == 0) {
        b->table_entries = (uint32_t)entries;
        g_free(b->table);
        b->table = g_steal_pointer(&table);
    }
    return ret;
}

/* ---- The directory ---- */

static BitmapEntry entry_of(const Bitmap *b)
{
    return (BitmapEntry){ .table_offset = b->table_offset,
                          .table_entries = b->table_entries,
                          .flags = b->flags,
                          .type = BITMAP_DIRTY_TRACKING,
                          .granularity_bits = (uint8_t)b->granularity_bits,
                          .name_len = (uint16_t)strlen(b->name),
                          .extra_len = b->extra_len,
                          .name = b->name };
}

static int coroutine_fn co_put_dir(BitmapStore *s)
{
    g_autofree uint8_t *dir = NULL;
    size_t at = 0;

    for (guint i = 0; i < s->next->len; i++) {
        BitmapEntry e = entry_of(g_ptr_array_index(s->next, i));

        s->dir_size += qcow2_bitmap_dir_entry_bytes(&e);
    }
    if (!s->dir_size) {
        return 0;
    }
    if (s->dir_size > BITMAP_MAX_DIR_BYTES || s->next->len > BITMAP_MAX_COUNT) {
        return -ENOSPC;
    }
    dir = g_try_malloc0(s->dir_size);
    if (!dir) {
        return -ENOMEM;
    }
    for (guint i = 0; i < s->next->len; i++) {
        const Bitmap *b = g_ptr_array_index(s->next, i);
        BitmapEntry e = entry_of(b);

        qcow2_bitmap_dir_put(dir + at, &e, b->extra);
        at += qcow2_bitmap_dir_entry_bytes(&e);
    }
    return co_put(s, dir, s->dir_size, &s->dir_offset);
}

/* ---- The switch ---- */

static int edit_header(Qcow2Header *h, void *opaque, GError **errp)
{
    const BitmapStore *s = opaque;

    qcow2_header_ext_drop_old_bitmaps(h); /* or there would be two */
    h->size = s->disk_size;
    h->has_bitmaps = s->next->len > 0;
    h->nb_bitmaps = s->next->len;
    h->bitmap_dir_size = s->dir_size;
    h->bitmap_dir_offset = s->dir_offset;
    h->autoclear = h->has_bitmaps ? h->autoclear | QCOW2_AUTOCLEAR_BITMAPS
                                  : h->autoclear & ~QCOW2_AUTOCLEAR_BITMAPS;
    return 0;
}

/* Where the tables of @list are: there may be ten thousands. */
static GHashTable *places_of(const GPtrArray *list)
{
    GHashTable *places = g_hash_table_new(g_int64_hash, g_int64_equal);

    for (guint i = 0; i < list->len; i++) {
        Bitmap *b = g_ptr_array_index(list, i);

        g_hash_table_add(places, &b->table_offset);
    }
    return places;
}

static void let_go(Qcow2 *q, uint64_t offset, uint64_t bytes)
{
    if (!qcow2_metadata_at(q->metadata, offset, bytes)) { /* a table that lies: better a leak */
        qcow2_quarantine_add(q->quarantine, offset, ALIGN_UP(bytes, q->geo.cluster_size),
                             q->alloc.discard_other);
    }
}

static void let_go_of_bitmap(Qcow2 *q, const Bitmap *b)
{
    uint64_t bytes = b->table_entries * UINT64_C(8);

    qcow2_metadata_remove(q->metadata, b->table_offset, bytes);
    if (!b->table) {
        return; /* nobody knows what it names: that leaks */
    }
    for (uint32_t i = 0; i < b->table_entries; i++) {
        if (b->table[i] & ~BITMAP_ALL_ONES) {
            let_go(q, b->table[i], q->geo.cluster_size);
        }
    }
    let_go(q, b->table_offset, bytes);
}

static void replace_places(Qcow2 *q, const BitmapStore *s, uint64_t old_dir, uint64_t old_size)
    REQUIRES_LOCK(q->alloc.meta_lock, q->bitmaps->lock)
{
    const GPtrArray *old = q->bitmaps->all;
    g_autoptr(GHashTable) before = places_of(old), now = places_of(s->next);

    if (old_size) {
        qcow2_metadata_remove(q->metadata, old_dir, old_size);
        let_go(q, old_dir, old_size);
    }
    for (guint i = 0; i < old->len; i++) {
        const Bitmap *b = g_ptr_array_index(old, i);

        if (!g_hash_table_contains(now, &b->table_offset)) {
            let_go_of_bitmap(q, b);
        }
    }
    for (guint i = 0; i < s->next->len; i++) {
        const Bitmap *b = g_ptr_array_index(s->next, i);

        if (!g_hash_table_contains(before, &b->table_offset)) {
            qcow2_metadata_add(q->metadata, b->table_offset, b->table_entries * UINT64_C(8),
                               "bitmap table");
        }
    }
    if (s->dir_size) {
        qcow2_metadata_add(q->metadata, s->dir_offset, s->dir_size, "bitmap directory");
    }
}

static int coroutine_fn co_switch(Qcow2 *q, BitmapStore *s, GError **errp)
    REQUIRES_LOCK(q->bitmaps->lock)
{
    uint64_t old_dir, old_size;
    int ret;

    co_mutex_lock(&q->alloc.meta_lock);
    old_dir = q->hdr.bitmap_dir_offset;
    old_size = q->hdr.has_bitmaps ? q->hdr.bitmap_dir_size : 0;
    ret = qcow2_flush_co_header(q, edit_header, s, errp);
    if (ret == 0) {
        replace_places(q, s, old_dir, old_size);
    } else if (q->header_whole_in_doubt) {
        CASE_MET(LIST_IN_DOUBT);
        atomic_fetch_or(&q->unmarked, QCOW2_CHANGE_DISK); /* INV-BMST-2 */
    }
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

/* ---- All of it ---- */

static int coroutine_fn co_write_all(Qcow2 *q, BitmapStore *s, GError **errp)
    REQUIRES_LOCK(q->bitmaps->lock)
{
    int ret = 0;

    for (guint i = 0; i < s->next->len && ret == 0; i++) {
        Bitmap *b = g_ptr_array_index(s->next, i);

        ret = b->table_offset ? 0 : co_put_bitmap(s, b);
    }
    ret = ret < 0 ? ret : co_put_dir(s);
    if (ret == 0 && !RULE_BROKEN(BITMAPS_BEFORE_NAMED)) {
        ret = qcow2_flush_co_metadata(q, true); /* INV-BMST-1 */
    }
    return ret < 0 ? error_set_errno(errp, ret, "Could not write bitmaps") : 0;
}

/* What is let go of is known, as far as its table can be read. */
static void coroutine_fn co_load_tables(Qcow2 *q) REQUIRES_LOCK(q->bitmaps->lock)
{
    for (guint i = 0; i < q->bitmaps->all->len; i++) {
        (void)qcow2_bitmap_co_load_table(q, g_ptr_array_index(q->bitmaps->all, i), NULL);
    }
}

static uint64_t memory_of(const GPtrArray *list)
{
    uint64_t sum = 0;

    for (guint i = 0; i < list->len; i++) {
        const Bitmap *b = g_ptr_array_index(list, i);

        sum += b->bits ? dirty_bits_memory(b->bits->n) : 0;
    }
    return sum;
}

/* Those that no request can see any more. */
static void free_retired(Qcow2 *q) REQUIRES_LOCK(q->bitmaps->lock)
{
    GPtrArray *gone = q->bitmaps->retired;

    for (guint i = gone ? gone->len : 0; i-- > 0;) {
        const Bitmap *b = g_ptr_array_index(gone, i);

        if (qcow2_pin_has_passed(q->pin, b->epoch)) {
            g_ptr_array_remove_index_fast(gone, i);
        }
    }
}

GPtrArray *qcow2_bitmap_list_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)qcow2_bitmap_free);
}

int coroutine_fn qcow2_bitmap_co_store(Qcow2 *q, GPtrArray *next, uint64_t disk_size, GError **errp)
{
    BitmapStore s = { .q = q, .next = next, .disk_size = disk_size };
    Qcow2Bitmaps *set = q->bitmaps;
    int ret;

    free_retired(q);
    s.taken = g_array_new(FALSE, FALSE, sizeof(StoreRun));
    co_load_tables(q);
    ret = co_write_all(q, &s, errp);
    ret = ret < 0 ? ret : co_switch(q, &s, errp);
    if (ret < 0) {
        co_give_back(&s);
        g_ptr_array_unref(next);
    } else {
        if (!set->retired) {
            set->retired = qcow2_bitmap_list_new();
        }
        for (guint i = 0; i < set->all->len; i++) {
            Bitmap *b = g_ptr_array_index(set->all, i);

            b->epoch = qcow2_pin_epoch(q->pin);
            g_ptr_array_add(set->retired, b);
        }
        g_ptr_array_set_free_func(set->all, NULL);
        g_ptr_array_unref(set->all);
        set->all = next;
        set->memory = memory_of(next);
    }
    g_array_unref(s.taken);
    return ret;
}
