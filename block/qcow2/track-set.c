/* SPDX-License-Identifier: MIT */
/* Which bitmaps are tracked: from the first change to the close, a resize, another list. */
#include "track.h"

#include "bitmap-store.h"
#include "change.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool can_track(const Bitmap *b)
{
    return qcow2_bitmap_is_live(b) && b->bits;
}

static bool make_regions(Bitmap *b)
{
    if (!b->regions) {
        b->n_regions = DIV_ROUND_UP(b->bits->n, BITMAP_REGION_BITS);
        b->regions = g_try_malloc0(MAX(b->n_regions, 1));
    }
    return b->regions;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(Bitmap *const *)a)->name, (*(Bitmap *const *)b)->name);
}

int qcow2_track_renew(Qcow2 *q) UNCHECKED_LOCKS
{
    const GPtrArray *all = q->bitmaps->all;
    TrackedSet *s, *old = atomic_load(&q->tracked);

    if (!q->bitmaps->started) {
        for (guint i = 0; i < all->len; i++) {
            if (qcow2_bitmap_is_live(g_ptr_array_index(all, i))) {
                atomic_fetch_or(&q->unmarked, QCOW2_CHANGE_DISK);
            }
        }
        return 0;
    }
    s = g_try_malloc0(sizeof(*s) + all->len * sizeof(s->list[0]));
    if (!s) {
        return -ENOMEM;
    }
    for (guint i = 0; i < all->len; i++) {
        Bitmap *b = g_ptr_array_index(all, i);

        if (can_track(b) && make_regions(b)) {
            s->list[s->n++] = b;
        } else if (qcow2_bitmap_is_live(b)) { /* here, too: or the next list would take it back */
            b->flags |= BITMAP_IN_USE;
            atomic_fetch_or(&q->unmarked, QCOW2_CHANGE_DISK);
        }
    }
    qsort(s->list, s->n, sizeof(s->list[0]), by_name);
    if (s->n == 0) {
        g_clear_pointer(&s, g_free);
    }
    atomic_store(&q->tracked, s);
    if (old) {
        qcow2_pin_retire(q->pin, old);
    }
    return 0;
}

bool qcow2_track_keeps(const Qcow2 *q, const BitmapEntry *e)
{
    const TrackedSet *s = atomic_load(&q->tracked);
    g_autofree char *name = g_strndup(e->name, e->name_len);
    const Bitmap key = { .name = name }, *p = &key;

    /* (A name with a zero in it is none of ours.) */
    return s && strlen(name) == e->name_len &&
           bsearch(&p, s->list, s->n, sizeof(s->list[0]), by_name);
}

/* ---- A list like the one that there is, written anew ---- */

static bool has_holes(const Bitmap *b)
{
    for (uint32_t i = 0; b->table && i < b->table_entries; i++) {
        if (!b->table[i]) {
            return true;
        }
    }
    return false;
}

typedef bool WantsPlace(const Qcow2 *q, const Bitmap *b);

/* It has no cluster for some of its regions, and may have. */
static bool wants_dense(const Qcow2 *q, const Bitmap *b)
{
    return can_track(b) &&
           (uint64_t)b->table_entries << q->geo.cluster_bits <= (uint64_t)BITMAP_DENSE_BYTES &&
           has_holes(b);
}

/* The disk has more bits set than memory, after all that could be cooled was. */
static bool wants_exact(const Qcow2 *q, const Bitmap *b)
{
    return can_track(b) && b->inexact;
}

static int coroutine_fn co_store_anew(Qcow2 *q, WantsPlace *wants) REQUIRES_LOCK(q->bitmaps->lock)
{
    GPtrArray *next = qcow2_bitmap_list_new();
    bool any = false;
    int ret = 0;

    for (guint i = 0; i < q->bitmaps->all->len && ret == 0; i++) {
        const Bitmap *old = g_ptr_array_index(q->bitmaps->all, i);
        Bitmap *b = qcow2_bitmap_copy(old);

        if (!b) {
            ret = -ENOMEM;
            break;
        }
        g_ptr_array_add(next, b);
        if (wants(q, old)) {
            b->table_offset = 0;
            b->inexact = false;
            any = true;
        }
    }
    if (ret < 0 || !any) {
        g_ptr_array_unref(next);
        return ret;
    }
    return qcow2_bitmap_co_store(q, next, q->hdr.size, NULL);
}

/* ---- Start and end ---- */

void coroutine_fn qcow2_track_co_start(Qcow2 *q)
{
    Qcow2Bitmaps *set = q->bitmaps;

    co_mutex_lock(&q->bitmaps->lock);
    if (!set->started && qcow2_bitmap_set_co_read(q, NULL) == 0) {
        for (guint i = 0; i < set->all->len; i++) {
            Bitmap *b = g_ptr_array_index(set->all, i);

            if (qcow2_bitmap_is_live(b)) {
                (void)qcow2_bitmap_co_load(q, b, NULL);
            }
        }
        set->started = true;
        (void)co_store_anew(q, wants_dense); /* without room, whole clusters of bits are set */
        atomic_store(&set->cooled, g_get_monotonic_time());
        (void)qcow2_track_renew(q);
    }
    co_mutex_unlock(&q->bitmaps->lock);
}

int coroutine_fn qcow2_track_co_finish(Qcow2 *q)
{
    int ret;

    if (!atomic_load(&q->tracked)) {
        return 0;
    }
    co_mutex_lock(&q->bitmaps->lock);
    ret = qcow2_track_co_cool_all(q);
    if (ret == 0) {
        ret = co_store_anew(q, wants_exact);
        ret = ret < 0 ? ret : qcow2_track_renew(q);
    }
    co_mutex_unlock(&q->bitmaps->lock);
    return ret;
}

int coroutine_fn qcow2_track_co_forget(Qcow2 *q)
{
    int ret = qcow2_track_co_finish(q);
    bool announce = false;

    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&q->bitmaps->lock);
    g_free(atomic_load(&q->tracked));
    atomic_store(&q->tracked, NULL);
    for (guint i = 0; q->bitmaps->all && i < q->bitmaps->all->len; i++) {
        announce |= qcow2_bitmap_is_live(g_ptr_array_index(q->bitmaps->all, i));
    }
    g_clear_pointer(&q->bitmaps->all, g_ptr_array_unref);
    g_clear_pointer(&q->bitmaps->retired, g_ptr_array_unref);
    q->bitmaps->memory = 0;
    q->bitmaps->started = false;
    if (announce) {
        atomic_fetch_or(&q->unmarked, QCOW2_CHANGE_DISK);
    }
    co_mutex_unlock(&q->bitmaps->lock);
    return 0;
}

/* ---- A resize ---- */

int coroutine_fn qcow2_track_co_may_resize(Qcow2 *q, uint64_t size, GError **errp)
{
    int ret;

    if (!q->hdr.has_bitmaps) {
        return 0;
    }
    if (!size) {
        return error_set(errp, ENOTSUP, "Cannot resize an image which has bitmaps to nothing");
    }
    co_mutex_lock(&q->bitmaps->lock);
    ret = qcow2_bitmap_set_co_read(q, errp);
    for (guint i = 0; ret == 0 && i < q->bitmaps->all->len; i++) {
        Bitmap *b = g_ptr_array_index(q->bitmaps->all, i);

        ret = b->flags & BITMAP_IN_USE ? qcow2_bitmap_refuse_inconsistent(b, errp)
                                       : qcow2_bitmap_co_load(q, b, errp);
    }
    co_mutex_unlock(&q->bitmaps->lock);
    return ret;
}

static Bitmap *resized(const Bitmap *old, uint64_t size)
{
    Bitmap *b = qcow2_bitmap_copy(old);

    if (!b) {
        return NULL;
    }
    b->table_offset = 0;
    b->inexact = false;
    dirty_bits_unref(b->bits);
    b->bits = dirty_bits_new(qcow2_bitmap_bits(size, b->granularity_bits));
    if (!b->bits) {
        qcow2_bitmap_free(b);
        return NULL;
    }
    dirty_bits_merge(b->bits, b->granularity_bits, old->bits, b->granularity_bits);
    return b;
}

static int coroutine_fn co_resized_list(Qcow2 *q, uint64_t size, GPtrArray *next, GError **errp)
    REQUIRES_LOCK(q->bitmaps->lock)
{
    int ret = qcow2_track_co_cool_all(q);

    for (guint i = 0; i < q->bitmaps->all->len && ret == 0; i++) {
        Bitmap *old = g_ptr_array_index(q->bitmaps->all, i), *b;

        ret = qcow2_bitmap_co_load(q, old, errp);
        if (ret < 0) {
            return ret;
        }
        b = resized(old, size);
        if (!b) {
            ret = -ENOMEM;
        } else {
            g_ptr_array_add(next, b);
        }
    }
    return ret < 0 ? error_set_errno(errp, ret, "Could not resize bitmaps") : 0;
}

int coroutine_fn qcow2_track_co_resize(Qcow2 *q, uint64_t size, GError **errp)
{
    g_autoptr(GPtrArray) next = qcow2_bitmap_list_new();
    int ret;

    co_mutex_lock(&q->bitmaps->lock);
    ret = qcow2_bitmap_set_co_read(q, errp);
    ret = ret < 0 ? ret : co_resized_list(q, size, next, errp);
    ret = ret < 0 ? ret : qcow2_bitmap_co_store(q, g_steal_pointer(&next), size, errp);
    if (ret == 0) {
        ret = qcow2_track_renew(q);
    }
    co_mutex_unlock(&q->bitmaps->lock);
    return ret;
}
