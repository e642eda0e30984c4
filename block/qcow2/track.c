/* SPDX-License-Identifier: MIT */
/* Bitmaps that are kept true while the disk changes: see track.h. */
#include "track.h"

#include "bitmap-store.h"
#include "rules.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>

enum { COLD, HOT, USED }; /* of a region; USED: hot, since the last look at it */

#ifdef QCOW2_BREAK_RULES
#define COOL_AFTER_US 0 /* at each flush */
#define COOL_USED true
#else
#define COOL_AFTER_US (5 * G_USEC_PER_SEC)
#define COOL_USED false
#endif

/* ---- In memory ---- */

/* Sets the bits; false: some are in regions that are cold. */
static bool mark_one(Bitmap *b, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> b->granularity_bits,
             end = ((offset + bytes - 1) >> b->granularity_bits) + 1;
    bool hot = true;

    end = MIN(end, b->bits->n); /* past the end: it is being cut */
    if (first >= end) {
        return true;
    }
    dirty_bits_set(b->bits, first, end - first);
    atomic_thread_fence(memory_order_seq_cst); /* INV-TRK-2 */
    for (uint64_t r = first / BITMAP_REGION_BITS; r * BITMAP_REGION_BITS < end; r++) {
        uint8_t state = atomic_load_explicit(&b->regions[r], memory_order_relaxed);

        if (state == HOT) {
            (void)atomic_compare_exchange_strong(&b->regions[r], &state, USED);
        }
        hot &= state != COLD;
    }
    return hot;
}

static bool mark_all(const TrackedSet *s, uint64_t offset, uint64_t bytes)
{
    bool hot = true;

    for (unsigned i = 0; s && i < s->n; i++) {
        hot &= mark_one(s->list[i], offset, bytes);
    }
    return hot;
}

/* ---- On disk ---- */

static int coroutine_fn co_write(Qcow2 *q, uint64_t offset, const void *buf, size_t len)
{
    int ret = qcow2_health_may_write(&q->health);

    return ret < 0 ? ret : bdrv_co_pwrite(q->file, (int64_t)offset, (int64_t)len, buf, 0);
}

/* Where region @r is: the entry of its cluster, and its offset in that. */
static uint64_t entry_of(const Qcow2 *q, uint64_t r, uint64_t *within)
{
    uint64_t byte = r * BITMAP_REGION_BYTES;

    *within = geo_in_cluster(&q->geo, byte);
    return byte >> q->geo.cluster_bits;
}

/* All bits of region @r, as they are on disk. */
static void fill_ones(const Bitmap *b, uint64_t r, uint8_t *buf)
{
    uint64_t n = MIN(b->bits->n - r * BITMAP_REGION_BITS, BITMAP_REGION_BITS);

    memset(buf, 0, BITMAP_REGION_BYTES);
    memset(buf, 0xff, n / 8);
    if (n % 8) {
        buf[n / 8] = (uint8_t)((1u << n % 8) - 1);
    }
}

/* The disk gets all of its bits set; not synced. */
static int coroutine_fn co_set_region(Qcow2 *q, Bitmap *b, uint64_t r)
{
    uint8_t buf[BITMAP_REGION_BYTES];
    uint64_t within, i = entry_of(q, r, &within);
    int ret;

    if (b->table[i] == BITMAP_ALL_ONES) {
        return 0;
    }
    if (b->table[i]) {
        fill_ones(b, r, buf);
        return co_write(q, b->table[i] + within, buf, sizeof(buf));
    }
    stbe64(buf, BITMAP_ALL_ONES); /* it has no cluster: all regions that would be there */
    ret = co_write(q, b->table_offset + i * 8, buf, 8);
    if (ret == 0) {
        b->table[i] = BITMAP_ALL_ONES;
        b->inexact = true;
    }
    return ret;
}

/* ---- Making hot ---- */

/* The regions of the range that are cold; they are hot once it is synced. */
static int coroutine_fn co_set_cold(Qcow2 *q, Bitmap *b, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> b->granularity_bits >> 12,
             last = (offset + bytes - 1) >> b->granularity_bits >> 12;
    int ret = 0;

    G_STATIC_ASSERT(BITMAP_REGION_BITS == 1 << 12);
    for (uint64_t r = first; r <= last && r < b->n_regions && ret == 0; r++) {
        if (atomic_load(&b->regions[r]) == COLD) {
            ret = co_set_region(q, b, r);
        }
    }
    return ret;
}

static void set_hot(Bitmap *b, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> b->granularity_bits >> 12,
             last = (offset + bytes - 1) >> b->granularity_bits >> 12;

    for (uint64_t r = first; r <= last && r < b->n_regions; r++) {
        atomic_store(&b->regions[r], USED);
    }
}

static int coroutine_fn co_heat(Qcow2 *q, uint64_t offset, uint64_t bytes)
{
    const TrackedSet *s;
    int ret = 0;

    co_mutex_lock(&q->bitmaps->lock);
    s = atomic_load(&q->tracked);
    if (!mark_all(s, offset, bytes)) { /* again: they may be other ones now */
        for (unsigned i = 0; i < s->n && ret == 0; i++) {
            ret = co_set_cold(q, s->list[i], offset, bytes);
        }
        if (ret == 0 && !RULE_BROKEN(BITS_BEFORE_CHANGE)) {
            ret = qcow2_health_co_sync(&q->health, q->file->bs); /* INV-TRK-1 */
        }
        for (unsigned i = 0; i < s->n && ret == 0; i++) {
            set_hot(s->list[i], offset, bytes);
        }
    }
    co_mutex_unlock(&q->bitmaps->lock);
    return ret;
}

int coroutine_fn qcow2_track_co_mark(Qcow2 *q, uint64_t offset, uint64_t bytes)
{
    unsigned pin;
    bool hot;

    if (!bytes) {
        return 0;
    }
    pin = qcow2_pin_enter(q->pin);
    hot = mark_all(atomic_load(&q->tracked), offset, bytes);
    qcow2_pin_leave(q->pin, pin);
    return likely(hot) ? 0 : co_heat(q, offset, bytes);
}

/* ---- Making cold ---- */

static int coroutine_fn co_cool(Qcow2 *q, Bitmap *b, uint64_t r)
{
    uint8_t buf[BITMAP_REGION_BYTES];
    uint64_t within, i = entry_of(q, r, &within);

    if (!RULE_BROKEN(COLD_BEFORE_EXACT)) {
        atomic_store(&b->regions[r], COLD);
    }
    atomic_thread_fence(memory_order_seq_cst); /* INV-TRK-2 */
    if (!(b->table[i] & ~BITMAP_ALL_ONES)) {
        return 0; /* the whole cluster is set: that stays until the bitmap is stored anew */
    }
    dirty_bits_store(b->bits, r * BITMAP_REGION_BITS, buf, sizeof(buf));
    return co_write(q, b->table[i] + within, buf, sizeof(buf));
}

/* Those that have not been used since the last time, or (@all) all. */
static int coroutine_fn co_cool_one(Qcow2 *q, Bitmap *b, bool all)
{
    int ret = 0;

    for (uint64_t r = 0; r < b->n_regions && ret == 0; r++) {
        uint8_t state = atomic_load(&b->regions[r]);

        if (state == USED && !all) {
            atomic_store(&b->regions[r], HOT);
        } else if (state != COLD && (all || !b->inexact)) {
            ret = co_cool(q, b, r);
        }
    }
    return ret;
}

static int coroutine_fn co_cool_set(Qcow2 *q, bool all) REQUIRES_LOCK(q->bitmaps->lock)
{
    const TrackedSet *s = atomic_load(&q->tracked);
    int ret = 0;

    for (unsigned i = 0; s && i < s->n && ret == 0; i++) {
        ret = co_cool_one(q, s->list[i], all);
    }
    return ret;
}

int coroutine_fn qcow2_track_co_cool_all(Qcow2 *q) REQUIRES_LOCK(q->bitmaps->lock)
{
    return co_cool_set(q, true);
}

int coroutine_fn qcow2_track_co_flush(Qcow2 *q)
{
    int64_t now;
    int ret = 0;

    if (!atomic_load(&q->tracked)) {
        return 0;
    }
    now = g_get_monotonic_time();
    co_mutex_lock(&q->bitmaps->lock);
    if (now - q->bitmaps->cooled >= COOL_AFTER_US) {
        q->bitmaps->cooled = now;
        ret = co_cool_set(q, COOL_USED);
    }
    co_mutex_unlock(&q->bitmaps->lock);
    return ret;
}
