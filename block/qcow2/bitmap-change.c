/* SPDX-License-Identifier: MIT */
/*
 * Changes of persistent bitmaps that a user asks for: a list like the one that there is, with one
 * of them another (bitmap-store.h).
 */
#include "callbacks.h"

#include "bitmap-store.h"
#include "change.h"
#include "track.h"

#include <errno.h>
#include <string.h>

#define MIN_DEFAULT_GRANULARITY_BITS 12
#define MAX_DEFAULT_GRANULARITY_BITS 16
#define MAX_BYTES (UINT64_C(512) * MiB) /* of one on disk */

static int not_found(const char *name, GError **errp)
{
    return error_set(errp, ENOENT, "Dirty bitmap '%s' not found", name);
}

/* ---- Adding ---- */

static int cannot_store(const Qcow2 *q, const char *name, GError **errp, const char *why)
{
    return error_set(errp, EINVAL, "Can't make bitmap '%s' persistent in '%s': %s", name,
                     q->bs->node_name, why);
}

static int check_granularity(uint64_t g, GError **errp)
{
    if ((g & (g - 1)) || g < UINT64_C(1) << BITMAP_MIN_GRANULARITY_BITS || g > UINT32_MAX) {
        return error_set(errp, EINVAL, "Granularity must be power of 2 and at least 512");
    }
    return 0;
}

static unsigned default_granularity_bits(const Qcow2 *q)
{
    return CLAMP(q->geo.cluster_bits, MIN_DEFAULT_GRANULARITY_BITS, MAX_DEFAULT_GRANULARITY_BITS);
}

static int check_new(const Qcow2 *q, const BlockBitmapChange *c, unsigned granularity_bits,
                     const GPtrArray *next, GError **errp)
{
    uint64_t bits = qcow2_bitmap_bits((uint64_t)atomic_load(&q->bs->total_bytes), granularity_bits);

    if (q->geo.version < 3) {
        return cannot_store(q, c->name, errp, "Cannot store dirty bitmaps in qcow2 v2 files");
    }
    if (next->len >= BITMAP_MAX_COUNT) {
        return cannot_store(q, c->name, errp,
                            "Maximum number of persistent bitmaps is already reached");
    }
    if (DIV_ROUND_UP(bits, UINT64_C(8)) > MAX_BYTES) {
        return cannot_store(
            q, c->name, errp,
            "Too much space will be occupied by the bitmap. Use larger granularity");
    }
    if (strlen(c->name) > BITMAP_MAX_NAME) {
        return cannot_store(q, c->name, errp, "Name length exceeds maximum (1023 characters)");
    }
    return bits ? 0 : cannot_store(q, c->name, errp, "The disk is empty");
}

static int check_size(const Qcow2 *q, const BlockBitmapData *from, GError **errp)
{
    int64_t size = atomic_load(&q->bs->total_bytes);

    return from->size == size
               ? 0
               : error_set(errp, EINVAL,
                           "Bitmaps are of different sizes (destination size is %" G_GINT64_FORMAT
                           ", source size is %" G_GINT64_FORMAT ") and can't be merged",
                           size, from->size);
}

static int add(Qcow2 *q, const BlockBitmapChange *c, GPtrArray *next, GError **errp)
{
    unsigned bits = default_granularity_bits(q);
    Bitmap *b;
    int ret;

    if (!*c->name) {
        return error_set(errp, EINVAL, "Bitmap name cannot be empty");
    }
    ret = c->granularity ? check_granularity(c->granularity, errp) : 0;
    if (ret < 0) {
        return ret;
    }
    bits = c->granularity ? (unsigned)__builtin_ctzll(c->granularity) : bits;
    ret = check_new(q, c, bits, next, errp);
    ret = ret == 0 && c->source && c->source->bits ? check_size(q, c->source, errp) : ret;
    if (ret < 0) {
        return ret;
    }
    b = g_new0(Bitmap, 1);
    b->name = g_strdup(c->name);
    b->flags = c->disabled ? 0 : BITMAP_AUTO;
    b->granularity_bits = bits;
    b->bits = dirty_bits_new(qcow2_bitmap_bits((uint64_t)atomic_load(&q->bs->total_bytes), bits));
    g_ptr_array_add(next, b);
    if (b->bits && c->source && c->source->bits) {
        dirty_bits_merge(b->bits, bits, c->source->bits, c->source->granularity_bits);
    }
    return b->bits ? 0 : error_set_errno(errp, -ENOMEM, "Could not add the bitmap");
}

/* ---- One that is there ---- */

/* Other bits, which it gets a place for. */
static int set_bits(Bitmap *b, const DirtyBits *from, const BlockBitmapData *more, uint64_t n,
                    GError **errp)
{
    DirtyBits *bits = dirty_bits_new(n);

    if (!bits) {
        return error_set_errno(errp, -ENOMEM, "Could not change the bitmap");
    }
    if (from) {
        dirty_bits_merge(bits, 0, from, 0);
    }
    if (more) {
        dirty_bits_merge(bits, b->granularity_bits, more->bits, more->granularity_bits);
    }
    dirty_bits_unref(b->bits);
    b->bits = bits;
    b->table_offset = 0;
    b->inexact = false;
    g_clear_pointer(&b->table, g_free);
    return 0;
}

static int coroutine_fn co_merge(Qcow2 *q, Bitmap *b, const BlockBitmapData *from, GError **errp)
    REQUIRES_LOCK(q->bitmaps->lock)
{
    int ret = check_size(q, from, errp);

    ret = ret < 0 ? ret : qcow2_bitmap_co_load(q, b, errp);
    return ret < 0 ? ret : set_bits(b, b->bits, from, b->bits->n, errp);
}

static int coroutine_fn co_apply(Qcow2 *q, const BlockBitmapChange *c, Bitmap *b, GPtrArray *next,
                                 GError **errp) REQUIRES_LOCK(q->bitmaps->lock)
{
    uint64_t size = (uint64_t)atomic_load(&q->bs->total_bytes);
    int ret;

    if ((b->flags & BITMAP_IN_USE) && c->action != BLK_BITMAP_REMOVE &&
        c->action != BLK_BITMAP_ADD) {
        return qcow2_bitmap_refuse_inconsistent(b, errp);
    }
    switch (c->action) {
    case BLK_BITMAP_ADD:
        ret = c->granularity ? check_granularity(c->granularity, errp) : 0;
        return ret < 0 ? ret : error_set(errp, EEXIST, "Bitmap already exists: %s", c->name);
    case BLK_BITMAP_REMOVE:
        g_ptr_array_remove(next, b);
        return 0;
    case BLK_BITMAP_CLEAR:
        return set_bits(b, NULL, NULL, qcow2_bitmap_bits(size, b->granularity_bits), errp);
    case BLK_BITMAP_ENABLE:
        b->flags |= BITMAP_AUTO;
        return qcow2_bitmap_co_load(q, b, errp);
    case BLK_BITMAP_DISABLE:
        b->flags &= ~BITMAP_AUTO;
        return 0;
    case BLK_BITMAP_MERGE:
        return co_merge(q, b, c->source, errp);
    }
    g_assert_not_reached();
}

static Bitmap *find(const GPtrArray *list, const char *name)
{
    for (guint i = 0; i < list->len; i++) {
        Bitmap *b = g_ptr_array_index(list, i);

        if (!strcmp(b->name, name)) {
            return b;
        }
    }
    return NULL;
}

/* Copies, which share bits and places. */
static int copy_all(const GPtrArray *from, GPtrArray *to)
{
    for (guint i = 0; i < from->len; i++) {
        Bitmap *b = qcow2_bitmap_copy(g_ptr_array_index(from, i));

        if (!b) {
            return -ENOMEM;
        }
        g_ptr_array_add(to, b);
    }
    return 0;
}

/* One of them, in the list that is to be. */
static int coroutine_fn co_change_one(Qcow2 *q, const BlockBitmapChange *c, GPtrArray *next,
                                      GError **errp) REQUIRES_LOCK(q->bitmaps->lock)
{
    Bitmap *b = find(next, c->name);

    if (b) {
        return co_apply(q, c, b, next, errp);
    }
    return c->action == BLK_BITMAP_ADD ? add(q, c, next, errp) : not_found(c->name, errp);
}

static int coroutine_fn co_change_list(Qcow2 *q, const BlockBitmapChange *c, GError **errp)
    REQUIRES_LOCK(q->bitmaps->lock)
{
    g_autoptr(GPtrArray) next = qcow2_bitmap_list_new();
    int ret = qcow2_bitmap_set_co_read(q, errp);

    if (ret < 0) {
        return ret;
    }
    ret = qcow2_track_co_cool_all(q);
    ret = ret < 0 ? ret : copy_all(q->bitmaps->all, next);
    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not change the bitmap");
    }
    for (; c && ret == 0; c = c->next) {
        ret = co_change_one(q, c, next, errp);
    }
    ret = ret < 0 ? ret : qcow2_bitmap_co_store(q, g_steal_pointer(&next), q->hdr.size, errp);
    return ret < 0 ? ret : qcow2_track_renew(q);
}

static int coroutine_fn co_change(BlockDriverState *bs, const BlockBitmapChange *c, GError **errp)
{
    Qcow2 *q = bs->opaque;
    int ret = qcow2_health_may_write(&q->health);

    ret = ret < 0 ? ret : qcow2_change_co_begin(q, QCOW2_CHANGE_IMAGE);
    if (ret < 0) {
        return error_set_errno(errp, ret, "The image cannot be changed");
    }
    co_mutex_lock(&q->bitmaps->lock);
    ret = co_change_list(q, c, errp);
    co_mutex_unlock(&q->bitmaps->lock);
    return ret;
}

/* ---- Looking ---- */

static int coroutine_fn co_read(BlockDriverState *bs, const char *name, BlockBitmapData *data,
                                GError **errp)
{
    Qcow2 *q = bs->opaque;
    Bitmap *b;
    int ret;

    co_mutex_lock(&q->bitmaps->lock);
    ret = qcow2_bitmap_set_co_read(q, errp);
    b = ret < 0 ? NULL : qcow2_bitmap_set_find(q, name);
    if (ret == 0) {
        ret = !b                         ? not_found(name, errp)
              : b->flags & BITMAP_IN_USE ? qcow2_bitmap_refuse_inconsistent(b, errp)
                                         : qcow2_bitmap_co_load(q, b, errp);
    }
    if (ret == 0) {
        *data = (BlockBitmapData){ dirty_bits_ref(b->bits), b->granularity_bits,
                                   atomic_load(&bs->total_bytes) };
    }
    co_mutex_unlock(&q->bitmaps->lock);
    return ret;
}

static int coroutine_fn co_list(BlockDriverState *bs, GArray *list, GError **errp)
{
    Qcow2 *q = bs->opaque;
    int ret;

    co_mutex_lock(&q->bitmaps->lock);
    ret = qcow2_bitmap_set_co_read(q, errp);
    for (guint i = 0; ret == 0 && i < q->bitmaps->all->len; i++) {
        const Bitmap *b = g_ptr_array_index(q->bitmaps->all, i);
        BlockBitmapInfo info = { g_strdup(b->name), UINT32_C(1) << b->granularity_bits,
                                 b->flags & BITMAP_AUTO, b->flags & BITMAP_IN_USE };

        g_array_append_val(list, info);
    }
    co_mutex_unlock(&q->bitmaps->lock);
    return ret;
}

static bool can_store(BlockDriverState *bs)
{
    const Qcow2 *q = bs->opaque;

    return q->geo.version >= 3;
}

const BlockBitmapOps qcow2_bitmap_ops = { can_store, co_change, co_read, co_list };
