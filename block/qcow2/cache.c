/* SPDX-License-Identifier: MIT */
/*
 * The cache of metadata slices: hash, clock, dirty list.  cache.h has the invariants.
 *
 * INV-CACHE-4  A slice is freed when it is out of the hash (dead), without references and with no
 *              sealed copy being written.
 */
#include "cache.h"
#include "oracle-slices.h"
#include "slab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WRITE (INT64_C(1) * MiB)

struct MetaCache {
    BdrvChild *file;
    size_t slice_size;
    unsigned slice_bits;
    uint64_t budget;
    BlkdebugEvent event;
    SlabPool *slabs; /* the slices' data */

    SpinLock lock; /* guards all below, and what cache.h says of slices */
    MetaSlice **buckets;
    size_t nbuckets; /* power of two */
    size_t count;    /* slices in the hash */
    size_t dirty_count;
    MetaSlice *clock_hand; /* a ring of all slices in the hash */
    MetaSlice *dirty_head;
    unsigned cleanings; /* calls of qcow2_cache_clean() */
    CoQueue load_queue; /* those who wait for a loading slice */
#ifdef CONFIG_ORACLES
    SliceOracle *oracle;
    unsigned steps;
#endif
};

MetaCache *qcow2_cache_new(BdrvChild *file, size_t slice_size, uint64_t budget, BlkdebugEvent event)
{
    MetaCache *c = g_try_new0(MetaCache, 1);

    if (!c) {
        return NULL;
    }
    c->file = file;
    c->slice_size = slice_size;
    c->slice_bits = (unsigned)__builtin_ctzll(slice_size);
    c->budget = budget;
    c->event = event;
    c->nbuckets = 64;
    while (c->nbuckets < budget / slice_size && c->nbuckets < (1u << 20)) {
        c->nbuckets *= 2;
    }
    c->buckets = g_try_new0(MetaSlice *, c->nbuckets);
    c->slabs = qcow2_slab_pool_new(file->bs, slice_size);
    if (!c->buckets || !c->slabs) {
        qcow2_slab_pool_free(c->slabs);
        g_free(c->buckets);
        g_free(c);
        return NULL;
    }
    spin_init(&c->lock);
    co_queue_init(&c->load_queue);
    ORACLE(c->oracle = qcow2_oracle_slices_new(slice_size));
    return c;
}

static void slice_free(MetaSlice *s)
{
    g_assert(s->refs == 0 && s->writing == 0);
    qcow2_slab_put(s->slab, s->data);
    g_free(s);
}

void qcow2_cache_free(MetaCache *c)
{
    if (!c) {
        return;
    }
    for (size_t i = 0; i < c->nbuckets; i++) {
        while (c->buckets[i]) {
            MetaSlice *s = c->buckets[i];

            c->buckets[i] = s->hash_next;
            slice_free(s);
        }
    }
    ORACLE(qcow2_oracle_slices_free(c->oracle));
    qcow2_slab_pool_free(c->slabs);
    g_free(c->buckets);
    g_free(c);
}

size_t qcow2_cache_slice_size(const MetaCache *c)
{
    return c->slice_size;
}

uint64_t qcow2_cache_budget(MetaCache *c)
{
    return c->budget;
}

size_t qcow2_cache_dirty_bytes(MetaCache *c)
{
    size_t n;

    spin_lock(&c->lock);
    n = c->dirty_count * c->slice_size;
    spin_unlock(&c->lock);
    return n;
}

static bool is_idle(const MetaSlice *s)
{
    return s->refs == 0 && s->writing == 0 && !s->dirty && !s->loading;
}

#ifdef CONFIG_ORACLES
/* ---- What must hold of the lists ---- */

#define WATCH_ALL 64 /* so many slices are looked at each time; more, now and then */

static void watch_lists(MetaCache *c) REQUIRES_LOCK(c->lock)
{
    size_t n = 0, dirty = 0;

    if (c->count > WATCH_ALL && c->steps++ % WATCH_ALL) {
        return;
    }
    for (MetaSlice *s = c->clock_hand; s && (n == 0 || s != c->clock_hand); s = s->lru_next) {
        g_assert(!s->dead && s->lru_next->lru_prev == s);
        g_assert(!s->dirty || (!s->loading && s->load_error == 0)); /* INV-CACHE-2 */
        n++;
    }
    for (MetaSlice *s = c->dirty_head; s; s = s->dirty_next) {
        g_assert(s->dirty && !s->dead && (!s->dirty_next || s->dirty_next->dirty_prev == s));
        dirty++;
    }
    g_assert(n == c->count && dirty == c->dirty_count);
}
#endif

/* ---- Hash, clock ring, dirty list ---- */

static MetaSlice **bucket_of(MetaCache *c, uint64_t offset)
{
    uint64_t h = (offset >> c->slice_bits) * UINT64_C(0x9e3779b97f4a7c15);

    return &c->buckets[(h >> 32) & (c->nbuckets - 1)];
}

static MetaSlice *lookup(MetaCache *c, uint64_t offset) REQUIRES_LOCK(c->lock)
{
    MetaSlice *s = *bucket_of(c, offset);

    while (s && s->offset != offset) {
        s = s->hash_next;
    }
    return s;
}

static void insert(MetaCache *c, MetaSlice *s) REQUIRES_LOCK(c->lock)
{
    MetaSlice **b = bucket_of(c, s->offset);

    g_assert(!s->dead && !s->dirty && IS_ALIGNED(s->offset, (uint64_t)c->slice_size));
    s->hash_next = *b;
    *b = s;
    if (c->clock_hand) {
        s->lru_next = c->clock_hand;
        s->lru_prev = c->clock_hand->lru_prev;
        s->lru_prev->lru_next = s;
        s->lru_next->lru_prev = s;
    } else {
        c->clock_hand = s->lru_next = s->lru_prev = s;
    }
    s->referenced = true;
    s->last_use = c->cleanings;
    c->count++;
}

static void set_clean(MetaCache *c, MetaSlice *s) REQUIRES_LOCK(c->lock)
{
    if (!s->dirty) {
        return;
    }
    if (s->dirty_prev) {
        s->dirty_prev->dirty_next = s->dirty_next;
    } else {
        c->dirty_head = s->dirty_next;
    }
    if (s->dirty_next) {
        s->dirty_next->dirty_prev = s->dirty_prev;
    }
    s->dirty_next = s->dirty_prev = NULL;
    s->dirty = false;
    c->dirty_count--;
}

static void set_dirty(MetaCache *c, MetaSlice *s) REQUIRES_LOCK(c->lock)
{
    if (s->dirty || s->dead) {
        return;
    }
    s->dirty = true;
    s->dirty_prev = NULL;
    s->dirty_next = c->dirty_head;
    if (c->dirty_head) {
        c->dirty_head->dirty_prev = s;
    }
    c->dirty_head = s;
    c->dirty_count++;
}

/* Out of the hash: nobody finds it any more. */
static void unhash(MetaCache *c, MetaSlice *s) REQUIRES_LOCK(c->lock)
{
    MetaSlice **b = bucket_of(c, s->offset);

    g_assert(!s->dead && c->count > 0);
    while (*b != s) {
        b = &(*b)->hash_next;
    }
    *b = s->hash_next;
    if (s->lru_next == s) {
        c->clock_hand = NULL;
    } else {
        s->lru_prev->lru_next = s->lru_next;
        s->lru_next->lru_prev = s->lru_prev;
        if (c->clock_hand == s) {
            c->clock_hand = s->lru_next;
        }
    }
    set_clean(c, s);
    s->dead = true;
    c->count--;
}

/* INV-CACHE-4; true if the caller is to slice_free() it once the lock is dropped. */
static bool may_free(const MetaSlice *s)
{
    return s->dead && s->refs == 0 && s->writing == 0;
}

/* When the budget is used up: a slice to take the place of, out of the hash; NULL: none, grow. */
static MetaSlice *evict(MetaCache *c) REQUIRES_LOCK(c->lock)
{
    if ((c->count + 1) * c->slice_size <= c->budget) {
        return NULL;
    }
    for (size_t i = 0; i < 2 * c->count; i++) {
        MetaSlice *s = c->clock_hand;

        c->clock_hand = s->lru_next;
        if (!is_idle(s)) {
            continue;
        }
        if (s->referenced) {
            s->referenced = false;
            continue;
        }
        g_assert(is_idle(s));
        ORACLE(qcow2_oracle_slices_leave(c->oracle, s->offset, s->data));
        unhash(c, s);
        return s;
    }
    return NULL;
}

/* ---- Get and put ---- */

static MetaSlice *slice_alloc(MetaCache *c)
{
    MetaSlice *s = g_try_new0(MetaSlice, 1);

    if (s) {
        s->data = qcow2_slab_get(c->slabs, &s->slab);
        if (!s->data) {
            g_clear_pointer(&s, g_free);
        }
    }
    return s;
}

/* An empty slice object, the lock dropped and taken again; NULL without memory. */
static MetaSlice *make_slice(MetaCache *c) REQUIRES_LOCK(c->lock)
{
    MetaSlice *s = evict(c), *spare;

    if (!s) {
        spin_unlock(&c->lock);
        s = slice_alloc(c);
        spin_lock(&c->lock);
        return s;
    }
    spare = evict(c); /* over the budget after a burst: one more goes with each load, until it is
                         kept again */
    if (unlikely(spare != NULL)) {
        spin_unlock(&c->lock);
        slice_free(spare);
        spin_lock(&c->lock);
    }
    *s = (MetaSlice){ .data = s->data, .slab = s->slab };
    return s;
}

/* Wait for @s, which somebody loads. */
static int coroutine_fn co_wait_loaded(MetaCache *c, MetaSlice *s) RELEASES_LOCK(c->lock)
{
    bool free_it;
    int ret;

    s->refs++;
    while (s->loading) {
        co_queue_wait_spin(&c->load_queue, &c->lock);
    }
    ret = s->load_error;
    if (ret < 0) {
        s->refs--;
    }
    free_it = ret < 0 && may_free(s);
    spin_unlock(&c->lock);
    if (free_it) {
        slice_free(s);
    }
    return ret;
}

/* Read @s, which is in the hash as loading with our reference. */
static int coroutine_fn co_load(MetaCache *c, MetaSlice *s)
{
    bool free_it = false;
    int ret;

    bdrv_co_debug_event(c->file, c->event);
    ret = bdrv_co_pread(c->file, (int64_t)s->offset, (int64_t)c->slice_size, s->data, 0);
    spin_lock(&c->lock);
    s->loading = false;
    s->load_error = ret;
    if (ret == 0 && !s->dead) {
        ORACLE(qcow2_oracle_slices_check(c->oracle, s->offset, s->data));
    }
    if (ret < 0) {
        if (!s->dead) {
            unhash(c, s);
        }
        s->refs--;
        free_it = may_free(s);
    }
    spin_unlock(&c->lock);
    co_queue_all(&c->load_queue);
    if (free_it) {
        slice_free(s);
    }
    return ret;
}

int coroutine_fn qcow2_cache_co_get(MetaCache *c, uint64_t offset, MetaSlice **ret)
{
    MetaSlice *s, *fresh;
    int r;

    offset = ALIGN_DOWN(offset, (uint64_t)c->slice_size);
    spin_lock(&c->lock);
    s = lookup(c, offset);
    if (!s) {
        fresh = make_slice(c);
        s = lookup(c, offset); /* the lock was dropped */
        if (fresh && !s) {
            fresh->offset = offset;
            fresh->refs = 1;
            fresh->loading = true;
            insert(c, fresh);
            spin_unlock(&c->lock);
            r = co_load(c, fresh);
            *ret = r < 0 ? NULL : fresh;
            return r;
        }
        if (fresh) {
            spin_unlock(&c->lock);
            slice_free(fresh);
            return qcow2_cache_co_get(c, offset, ret);
        }
        if (!s) {
            spin_unlock(&c->lock);
            *ret = NULL;
            return -ENOMEM;
        }
    }
    if (s->loading) {
        r = co_wait_loaded(c, s);
        *ret = r < 0 ? NULL : s;
        return r;
    }
    *ret = s;
    s->refs++;
    s->referenced = true;
    s->last_use = c->cleanings;
    spin_unlock(&c->lock);
    return 0;
}

int qcow2_cache_get_new(MetaCache *c, uint64_t offset, MetaSlice **ret)
{
    MetaSlice *s, *old;

    spin_lock(&c->lock);
    s = make_slice(c);
    if (!s) {
        spin_unlock(&c->lock);
        return -ENOMEM;
    }
    old = lookup(c, offset);
    ORACLE(qcow2_oracle_slices_forget(c->oracle, offset));
    if (old) {
        unhash(c, old);
        old = may_free(old) ? old : NULL;
    }
    memset(s->data, 0, c->slice_size);
    s->offset = offset;
    s->refs = 1;
    insert(c, s);
    spin_unlock(&c->lock);
    if (old) {
        slice_free(old);
    }
    *ret = s;
    return 0;
}

void qcow2_cache_put(MetaCache *c, MetaSlice *s)
{
    bool free_it;

    spin_lock(&c->lock);
    g_assert(s->refs > 0);
    s->refs--;
    free_it = may_free(s);
    ORACLE(watch_lists(c));
    spin_unlock(&c->lock);
    if (free_it) {
        slice_free(s);
    }
}

MetaSlice *qcow2_cache_peek_begin(MetaCache *c, uint64_t offset) UNCHECKED_LOCKS
{
    MetaSlice *s;

    spin_lock(&c->lock);
    s = lookup(c, ALIGN_DOWN(offset, (uint64_t)c->slice_size));
    if (unlikely(!s || s->loading)) {
        spin_unlock(&c->lock);
        return NULL;
    }
    if (!s->referenced) {
        s->referenced = true;
    }
    if (s->last_use != c->cleanings) {
        s->last_use = c->cleanings;
    }
    return s;
}

void qcow2_cache_lock(MetaCache *c) UNCHECKED_LOCKS
{
    spin_lock(&c->lock);
}

void qcow2_cache_peek_end(MetaCache *c) UNCHECKED_LOCKS
{
    spin_unlock(&c->lock);
}

void qcow2_cache_modify_begin(MetaCache *c, MetaSlice *s) UNCHECKED_LOCKS
{
    spin_lock(&c->lock);
    g_assert(s->refs > 0 && !s->loading);
}

void qcow2_cache_modify_end(MetaCache *c, MetaSlice *s) UNCHECKED_LOCKS
{
    set_dirty(c, s);
    ORACLE(qcow2_oracle_slices_forget(c->oracle, s->offset));
    ORACLE(watch_lists(c));
    spin_unlock(&c->lock);
}

void qcow2_cache_drop(MetaCache *c, uint64_t offset, uint64_t bytes)
{
    g_assert(bytes > 0);
    for (uint64_t end = offset + bytes; offset < end; offset += c->slice_size) {
        MetaSlice *s;

        spin_lock(&c->lock);
        s = lookup(c, offset);
        ORACLE(qcow2_oracle_slices_forget(c->oracle, offset));
        if (s) {
            unhash(c, s);
            s = may_free(s) && !s->loading ? s : NULL;
        }
        spin_unlock(&c->lock);
        if (s) {
            slice_free(s);
        }
    }
}

void qcow2_cache_clean(MetaCache *c)
{
    MetaSlice *gone = NULL;

    spin_lock(&c->lock);
    for (size_t i = 0; i < c->nbuckets; i++) {
        MetaSlice *next;

        for (MetaSlice *s = c->buckets[i]; s; s = next) {
            next = s->hash_next;
            if (is_idle(s) && s->last_use != c->cleanings) {
                g_assert(is_idle(s));
                ORACLE(qcow2_oracle_slices_leave(c->oracle, s->offset, s->data));
                unhash(c, s);
                s->hash_next = gone;
                gone = s;
            }
        }
    }
    c->cleanings++;
    spin_unlock(&c->lock);
    while (gone) {
        MetaSlice *next = gone->hash_next;

        slice_free(gone);
        gone = next;
    }
}

/* ---- Flush ---- */

static int by_offset(const void *a, const void *b)
{
    const MetaSlice *const *x = a, *const *y = b;

    return (*x)->offset < (*y)->offset ? -1 : (*x)->offset > (*y)->offset;
}

/* Dirty slices change under meta_lock only, which the caller holds: so the list stands still. */
int qcow2_cache_seal(MetaCache *c, SealedSet *set)
{
    size_t n = c->dirty_count, i = 0;
    g_autofree MetaSlice **list = g_try_new(MetaSlice *, MAX(n, 1));
    uint8_t *data;

    *set = (SealedSet){ .slice_size = c->slice_size };
    if (n == 0) {
        return 0;
    }
    set->slices = g_try_new0(SealedSlice, n);
    data = bdrv_try_blockalign(c->file->bs, n * c->slice_size);
    if (!list || !set->slices || !data) {
        mem_align_free(data);
        g_clear_pointer(&set->slices, g_free);
        return -ENOMEM;
    }
    for (MetaSlice *s = c->dirty_head; s; s = s->dirty_next) {
        list[i++] = s;
    }
    g_assert(i == n);
    qsort(list, n, sizeof(*list), by_offset);
    for (i = 0; i < n; i++) {
        MetaSlice *s = list[i];

        memcpy(data + i * c->slice_size, s->data, c->slice_size);
        set->slices[i] = (SealedSlice){ s->offset, data + i * c->slice_size, s };
        spin_lock(&c->lock);
        set_clean(c, s);
        s->writing++;
        spin_unlock(&c->lock);
    }
    set->count = n;
    return 0;
}

static void sealed_written(MetaCache *c, SealedSet *set, bool failed)
{
    for (size_t i = 0; i < set->count; i++) {
        MetaSlice *s = set->slices[i].slice;
        bool free_it;

        spin_lock(&c->lock);
        g_assert(s->writing > 0);
        s->writing--;
        if (failed) {
            set_dirty(c, s);
        }
        free_it = may_free(s);
        spin_unlock(&c->lock);
        if (free_it) {
            slice_free(s);
        }
    }
}

int coroutine_fn qcow2_cache_co_write_sealed(MetaCache *c, SealedSet *set, BlkdebugEvent event)
{
    int ret = 0;

    for (size_t i = 0, n; i < set->count && ret == 0; i += n) {
        for (n = 1; i + n < set->count && (int64_t)(n * c->slice_size) < MAX_WRITE; n++) {
            if (set->slices[i + n].offset != set->slices[i].offset + n * c->slice_size) {
                break;
            }
        }
        bdrv_co_debug_event(c->file, event);
        ret = bdrv_co_pwrite(c->file, (int64_t)set->slices[i].offset, (int64_t)(n * c->slice_size),
                             set->slices[i].data, 0);
    }
    sealed_written(c, set, ret < 0);
    return ret;
}

void qcow2_cache_unseal(MetaCache *c, SealedSet *set)
{
    sealed_written(c, set, true);
}

void qcow2_cache_sealed_clear(SealedSet *set)
{
    if (set->slices) {
        mem_align_free(set->slices[0].data);
    }
    g_clear_pointer(&set->slices, g_free);
    set->count = 0;
}
