/* SPDX-License-Identifier: MIT */
/* Bitmaps that are kept true while the disk changes: see track.h. */
#include "track.h"

#include "bitmap-store.h"
#include "rules.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>

/* Of a region. SET: its bits are on disk, and will be synced; USED: hot, since the last look. */
enum { COLD, SET, HOT, USED };

#define MAX_AT_ONCE (MiB / BITMAP_REGION_BYTES)
#define AGAIN_US G_USEC_PER_SEC

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
        hot &= state >= HOT;
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

/* How many of the regions from @r on, up to @end, are in one cluster. */
static uint64_t in_one_cluster(const Qcow2 *q, uint64_t r, uint64_t end)
{
    uint64_t each = q->geo.cluster_size / BITMAP_REGION_BYTES;

    return MIN(end, (r / each + 1) * each) - r;
}

/* All bits of @n regions, as they are on disk. */
static void fill_ones(const Bitmap *b, uint64_t r, uint64_t n, uint8_t *buf)
{
    uint64_t bits = MIN(b->bits->n - r * BITMAP_REGION_BITS, n * BITMAP_REGION_BITS);

    memset(buf, 0, n * BITMAP_REGION_BYTES);
    memset(buf, 0xff, bits / 8);
    if (bits % 8) {
        buf[bits / 8] = (uint8_t)((1u << bits % 8) - 1);
    }
}

/* An entry that has no cluster: all regions that would be there. */
static int coroutine_fn co_set_entry(Qcow2 *q, Bitmap *b, uint64_t i)
{
    uint8_t buf[8];
    int ret;

    stbe64(buf, BITMAP_ALL_ONES);
    ret = co_write(q, b->table_offset + i * 8, buf, sizeof(buf));
    if (ret == 0) {
        b->table[i] = BITMAP_ALL_ONES;
        b->inexact = true;
    }
    return ret;
}

/* The disk gets all bits of @n regions of one cluster set; not synced. */
static int coroutine_fn co_set_regions(Qcow2 *q, Bitmap *b, uint64_t r, uint64_t n)
{
    uint64_t within, i = entry_of(q, r, &within);
    g_autofree uint8_t *buf = NULL;

    if (b->table[i] == BITMAP_ALL_ONES) {
        return 0;
    }
    if (!b->table[i]) {
        return co_set_entry(q, b, i);
    }
    buf = g_try_malloc(n * BITMAP_REGION_BYTES);
    if (!buf) {
        return -ENOMEM;
    }
    fill_ones(b, r, n, buf);
    return co_write(q, b->table[i] + within, buf, n * BITMAP_REGION_BYTES);
}

/* ---- Making hot ---- */

/* Those from @r on that are in @state, and in one cluster. */
static uint64_t run_of(const Qcow2 *q, const Bitmap *b, uint64_t r, uint64_t end, uint8_t state)
{
    uint64_t n = 0, most = in_one_cluster(q, r, end);

    while (n < most && atomic_load(&b->regions[r + n]) == state) {
        n++;
    }
    return n;
}

static void set_states(Bitmap *b, uint64_t r, uint64_t n, uint8_t state)
{
    for (uint64_t i = 0; i < n; i++) {
        atomic_store(&b->regions[r + i], state);
    }
}

/* Regions are made hot one by one at first, then, if that goes on, in ever larger groups: each
 * group costs a sync, and after a crash all of it is dirty. */
static uint64_t regions_at_once(Bitmap *b, int64_t now)
{
    b->at_once = b->at_once && now - b->heated < AGAIN_US ? MIN(b->at_once * 2, MAX_AT_ONCE) : 1;
    b->heated = now;
    return b->at_once;
}

/* The regions of the range that are cold, and others around them, @group of them: their bits are
 * set on disk. */
static int coroutine_fn co_set_cold(Qcow2 *q, Bitmap *b, const TrackWait *w, uint64_t group)
{
    uint64_t first = w->offset >> b->granularity_bits,
             last = (w->offset + w->bytes - 1) >> b->granularity_bits;
    uint64_t r = ALIGN_DOWN(first / BITMAP_REGION_BITS, group),
             end = MIN(ALIGN_UP(last / BITMAP_REGION_BITS + 1, group), b->n_regions);
    int ret = 0;

    while (r < end && ret == 0) {
        uint64_t n = run_of(q, b, r, end, COLD);

        if (n) {
            ret = co_set_regions(q, b, r, n);
        }
        if (n && ret == 0) {
            set_states(b, r, n, SET);
            b->set_first = MIN(b->set_first, r);
            b->set_end = MAX(b->set_end, r + n);
        }
        r += MAX(n, 1);
    }
    return ret;
}

/* Is something of what they write cold in @b? */
static bool any_cold(const Bitmap *b, const TrackWait *list)
{
    for (const TrackWait *w = list; w; w = w->next) {
        uint64_t r = (w->offset >> b->granularity_bits) / BITMAP_REGION_BITS,
                 last = ((w->offset + w->bytes - 1) >> b->granularity_bits) / BITMAP_REGION_BITS;

        for (; r <= last && r < b->n_regions; r++) {
            if (atomic_load(&b->regions[r]) == COLD) {
                return true;
            }
        }
    }
    return false;
}

static int coroutine_fn co_set_cold_all(Qcow2 *q, Bitmap *b, const TrackWait *list)
{
    uint64_t group;
    int ret = 0;

    b->set_first = UINT64_MAX;
    b->set_end = 0;
    if (!any_cold(b, list)) {
        return 0;
    }
    group = regions_at_once(b, g_get_monotonic_time());
    if (list->next) {
        CASE_MET(BITS_TOGETHER);
    }
    if (group > 1) {
        CASE_MET(BITS_AHEAD);
    }
    for (const TrackWait *w = list; w && ret == 0; w = w->next) {
        ret = co_set_cold(q, b, w, group);
    }
    return ret;
}

/* Those that were set are hot once they are synced, and cold if that, or another one, failed. */
static void end_set(Bitmap *b, bool synced)
{
    for (uint64_t r = b->set_first; r < b->set_end; r++) {
        if (atomic_load(&b->regions[r]) == SET) {
            atomic_store(&b->regions[r], synced ? USED : COLD);
        }
    }
}

static int coroutine_fn co_heat_list(Qcow2 *q, const TrackWait *list)
    REQUIRES_LOCK(q->bitmaps->lock)
{
    const TrackedSet *s = atomic_load(&q->tracked);
    bool hot = true;
    unsigned n = 0;
    int ret = 0;

    for (const TrackWait *w = list; w; w = w->next) { /* again: they may be other ones now */
        hot &= mark_all(s, w->offset, w->bytes);
    }
    if (hot) {
        return 0;
    }
    for (; n < s->n && ret == 0; n++) {
        ret = co_set_cold_all(q, s->list[n], list);
    }
    if (ret == 0 && !RULE_BROKEN(BITS_BEFORE_CHANGE)) {
        ret = qcow2_health_co_sync(&q->health, q->file->bs); /* INV-TRK-1 */
    }
    while (n-- > 0) {
        end_set(s->list[n], ret == 0);
    }
    return ret;
}

static TrackWait *take_waits(Qcow2Bitmaps *set)
{
    TrackWait *list;

    spin_lock(&set->wait_lock);
    list = set->waits;
    set->waits = NULL;
    spin_unlock(&set->wait_lock);
    return list;
}

/* Whoever comes first does it for all that wait meanwhile: with one sync. */
static int coroutine_fn co_heat(Qcow2 *q, uint64_t offset, uint64_t bytes)
{
    TrackWait w = { .offset = offset, .bytes = bytes };
    Qcow2Bitmaps *set = q->bitmaps;

    spin_lock(&set->wait_lock);
    w.next = set->waits;
    set->waits = &w;
    spin_unlock(&set->wait_lock);

    co_mutex_lock(&q->bitmaps->lock);
    if (!w.done) {
        TrackWait *list = take_waits(set);
        int ret = co_heat_list(q, list);

        for (TrackWait *i = list; i; i = i->next) {
            i->ret = ret;
            i->done = true;
        }
    }
    co_mutex_unlock(&q->bitmaps->lock);
    return w.ret;
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

static int coroutine_fn co_cool(Qcow2 *q, Bitmap *b, uint64_t r, uint64_t n)
{
    uint64_t within, i = entry_of(q, r, &within);
    g_autofree uint8_t *buf = g_try_malloc(n * BITMAP_REGION_BYTES);

    if (!buf) {
        return -ENOMEM;
    }
    if (!RULE_BROKEN(COLD_BEFORE_EXACT)) {
        set_states(b, r, n, COLD);
    }
    atomic_thread_fence(memory_order_seq_cst); /* INV-TRK-2 */
    if (!(b->table[i] & ~BITMAP_ALL_ONES)) {
        return 0; /* the whole cluster is set: that stays until the bitmap is stored anew */
    }
    if (n > 1) {
        CASE_MET(BITS_COOLED);
    }
    dirty_bits_store(b->bits, r * BITMAP_REGION_BITS, buf, n * BITMAP_REGION_BYTES);
    return co_write(q, b->table[i] + within, buf, n * BITMAP_REGION_BYTES);
}

/* Is it to be made cold? All are, or what has not been used since the last time. */
static bool gets_cold(Bitmap *b, uint64_t r, bool all)
{
    uint8_t state = atomic_load(&b->regions[r]);

    if (state == USED && !all) {
        atomic_store(&b->regions[r], HOT);
        return false;
    }
    return state != COLD && (all || !b->inexact);
}

static int coroutine_fn co_cool_one(Qcow2 *q, Bitmap *b, bool all)
{
    int ret = 0;

    for (uint64_t r = 0; r < b->n_regions && ret == 0;) {
        uint64_t n = 0, most = in_one_cluster(q, r, b->n_regions);

        while (n < most && gets_cold(b, r + n, all)) {
            n++;
        }
        if (n) {
            ret = co_cool(q, b, r, n);
        }
        r += n + (n < most);
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
    if (now - atomic_load(&q->bitmaps->cooled) < COOL_AFTER_US) {
        return 0;
    }
    co_mutex_lock(&q->bitmaps->lock);
    if (now - atomic_load(&q->bitmaps->cooled) >= COOL_AFTER_US) {
        atomic_store(&q->bitmaps->cooled, now);
        ret = co_cool_set(q, COOL_USED);
    }
    co_mutex_unlock(&q->bitmaps->lock);
    return ret;
}
