/* SPDX-License-Identifier: MIT */
/* The persistent bitmaps of an open image: see bitmap-set.h. */
#include "bitmap-set.h"

#include "table.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>


/* ---- One of them ---- */

void qcow2_bitmap_free(Bitmap *b)
{
    if (b) {
        g_free(b->name);
        g_free(b->extra);
        g_free(b->table);
        g_free((void *)b->regions);
        dirty_bits_unref(b->bits);
        g_free(b);
    }
}

Bitmap *qcow2_bitmap_copy(const Bitmap *b)
{
    size_t bytes = b->table ? b->table_entries * sizeof(uint64_t) : 0;
    uint64_t *table = bytes ? g_try_malloc(bytes) : NULL;
    Bitmap *c;

    if (bytes && !table) {
        return NULL;
    }
    c = g_memdup2(b, sizeof(*b));
    c->name = g_strdup(b->name);
    c->extra = g_memdup2(b->extra, b->extra_len);
    c->table = bytes ? memcpy(table, b->table, bytes) : NULL;
    c->bits = b->bits ? dirty_bits_ref(b->bits) : NULL;
    c->regions = NULL;
    c->n_regions = 0;
    return c;
}

static Bitmap *from_entry(const BitmapEntry *e)
{
    Bitmap *b = g_new0(Bitmap, 1);

    b->name = g_strndup(e->name, e->name_len);
    b->flags = e->flags;
    b->granularity_bits = e->granularity_bits;
    b->extra_len = e->extra_len;
    b->extra = g_memdup2(e->name - e->extra_len, e->extra_len);
    b->table_offset = e->table_offset;
    b->table_entries = e->table_entries;
    return b;
}

/* ---- The list ---- */

int qcow2_bitmap_set_init(Qcow2 *q)
{
    q->bitmaps = g_try_new0(Qcow2Bitmaps, 1);
    if (!q->bitmaps) {
        return -ENOMEM;
    }
    co_mutex_init(&q->bitmaps->lock);
    spin_init(&q->bitmaps->wait_lock);
    return 0;
}

void qcow2_bitmap_set_fini(Qcow2 *q) UNCHECKED_LOCKS
{
    g_free(atomic_load(&q->tracked));
    atomic_store(&q->tracked, NULL);
    if (q->bitmaps) {
        g_clear_pointer(&q->bitmaps->all, g_ptr_array_unref);
        g_clear_pointer(&q->bitmaps->retired, g_ptr_array_unref);
        g_clear_pointer(&q->bitmaps, g_free);
    }
}

int coroutine_fn qcow2_bitmap_set_co_read(Qcow2 *q, GError **errp)
{
    const Qcow2Header *h = &q->hdr;
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)qcow2_bitmap_free);
    g_autofree uint8_t *dir = NULL;
    uint64_t at = 0;
    BitmapEntry e;
    int ret = 0;

    if (q->bitmaps->all) {
        return 0;
    }
    if (h->has_bitmaps) {
        ret = qcow2_bitmap_co_read_dir(q, &dir, errp);
    }
    for (uint32_t i = 0; h->has_bitmaps && i < h->nb_bitmaps && ret == 0; i++) {
        if (!qcow2_bitmap_dir_next(dir, h->bitmap_dir_size, &at, &e) || e.name_len == 0 ||
            e.name_len > BITMAP_MAX_NAME || e.granularity_bits < BITMAP_MIN_GRANULARITY_BITS ||
            e.granularity_bits > BITMAP_MAX_GRANULARITY_BITS) {
            return error_set(errp, EINVAL, "Broken bitmap directory");
        }
        g_ptr_array_add(all, from_entry(&e));
    }
    if (ret == 0) {
        q->bitmaps->all = g_steal_pointer(&all);
    }
    return ret;
}

Bitmap *qcow2_bitmap_set_find(const Qcow2 *q, const char *name)
{
    for (guint i = 0; i < q->bitmaps->all->len; i++) {
        Bitmap *b = g_ptr_array_index(q->bitmaps->all, i);

        if (!strcmp(b->name, name)) {
            return b;
        }
    }
    return NULL;
}

int qcow2_bitmap_refuse_inconsistent(const Bitmap *b, GError **errp)
{
    return error_set(errp, EINVAL,
                     "Bitmap '%s' is inconsistent and cannot be used\n"
                     "Try block-dirty-bitmap-remove to delete this bitmap from disk",
                     b->name);
}

/* ---- Table and bits ---- */

uint64_t qcow2_bitmap_bits(uint64_t disk_size, unsigned granularity_bits)
{
    return (disk_size >> granularity_bits) +
           ((disk_size & ((UINT64_C(1) << granularity_bits) - 1)) != 0);
}

static bool is_sound_entry(const Qcow2 *q, uint64_t entry, uint64_t file_length)
{
    uint64_t host = entry & BITMAP_ENTRY_OFFSET;

    if (!host) {
        return !(entry & ~BITMAP_ALL_ONES);
    }
    return entry == host && geo_in_cluster(&q->geo, host) == 0 && host < file_length;
}

int coroutine_fn qcow2_bitmap_co_load_table(Qcow2 *q, Bitmap *b, GError **errp)
{
    uint64_t bytes = b->table_entries * UINT64_C(8);
    int64_t length = bdrv_co_getlength(q->file->bs);
    g_autofree uint64_t *table = NULL;
    int ret;

    if (b->table) {
        return 0;
    }
    if (length < 0 || bytes > (uint64_t)length || b->table_offset > (uint64_t)length - bytes) {
        return error_set(errp, EINVAL, "Could not read the table of bitmap '%s'", b->name);
    }
    table = g_try_malloc(MAX(bytes, 1));
    ret = table ? qcow2_table_co_read(q->file, b->table_offset, bytes, table) : -ENOMEM;
    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not read the table of bitmap '%s'", b->name);
    }
    for (uint32_t i = 0; i < b->table_entries; i++) {
        table[i] = ldbe64(&table[i]);
        if (!is_sound_entry(q, table[i], (uint64_t)length)) {
            return error_set(errp, EINVAL, "The table of bitmap '%s' is corrupt", b->name);
        }
    }
    b->table = g_steal_pointer(&table);
    return 0;
}

static int coroutine_fn co_read_bits(Qcow2 *q, const Bitmap *b, DirtyBits *bits)
{
    uint64_t size = q->geo.cluster_size, per_cluster = size * 8;
    g_autofree uint8_t *buf = g_try_malloc(size);
    int ret = buf ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < b->table_entries && ret == 0; i++) {
        uint64_t first = i * per_cluster;

        if (b->table[i] == BITMAP_ALL_ONES) {
            dirty_bits_set(bits, first, MIN(per_cluster, bits->n - first));
        } else if (b->table[i]) {
            ret = qcow2_table_co_read(q->file, b->table[i], size, buf);
            if (ret == 0) {
                dirty_bits_load(bits, first, buf, size);
            }
        }
    }
    return ret;
}

int coroutine_fn qcow2_bitmap_co_load(Qcow2 *q, Bitmap *b, GError **errp)
{
    uint64_t n = qcow2_bitmap_bits((uint64_t)atomic_load(&q->bs->total_bytes), b->granularity_bits),
             memory = dirty_bits_memory(n);
    DirtyBits *bits;
    int ret;

    if (b->bits) {
        return 0;
    }
    if (geo_clusters(&q->geo, DIV_ROUND_UP(n, UINT64_C(8))) != b->table_entries) {
        return error_set(errp, EINVAL, "The table of bitmap '%s' is of another disk's size",
                         b->name);
    }
    if (memory >
        (uint64_t)BITMAP_MAX_MEMORY - MIN(q->bitmaps->memory, (uint64_t)BITMAP_MAX_MEMORY)) {
        return error_set(errp, ENOMEM, "Bitmap '%s' needs too much memory", b->name);
    }
    ret = qcow2_bitmap_co_load_table(q, b, errp);
    if (ret < 0) {
        return ret;
    }
    bits = dirty_bits_new(n);
    ret = bits ? co_read_bits(q, b, bits) : -ENOMEM;
    if (ret < 0) {
        dirty_bits_unref(bits);
        return error_set_errno(errp, ret, "Could not read bitmap '%s'", b->name);
    }
    b->bits = bits;
    q->bitmaps->memory += memory;
    return 0;
}
