/* SPDX-License-Identifier: MIT */
/*
 * Slabs of buffers: see slab.h.
 *
 * INV-SLAB-1  A slab is in its pool's list exactly while one of its buffers is free and one is not; with the
 *             last one back it is freed.
 */
#include "slab.h"

#include "util/spinlock.h"

#define SLAB_BYTES (256 * KiB)
#if defined(__SANITIZE_ADDRESS__)
#define SLAB_MAX 1 /* each buffer by itself, so that its bounds and its end are seen */
#else
#define SLAB_MAX 64
#endif

struct SlabPool {
    BlockDriverState *bs;
    size_t size;
    unsigned per_slab;
    SpinLock lock; /* guards the list and the slabs */
    Slab *partial;
};

struct Slab {
    SlabPool *pool;
    uint8_t *mem;
    uint64_t free; /* a bit for each buffer */
    Slab *next, **pprev;
};

SlabPool *slab_pool_new(BlockDriverState *bs, size_t size)
{
    SlabPool *p = g_try_new0(SlabPool, 1);

    if (p) {
        p->bs = bs;
        p->size = size;
        p->per_slab = (unsigned)CLAMP(SLAB_BYTES / size, 1, SLAB_MAX);
        spin_init(&p->lock);
    }
    return p;
}

void slab_pool_free(SlabPool *p)
{
    g_assert(!p || !p->partial);
    g_free(p);
}

static uint64_t all_free(const SlabPool *p)
{
    return UINT64_MAX >> (64 - p->per_slab);
}

static void list_add(SlabPool *p, Slab *s)
{
    s->next = p->partial;
    s->pprev = &p->partial;
    if (s->next) {
        s->next->pprev = &s->next;
    }
    p->partial = s;
}

static void list_remove(Slab *s)
{
    *s->pprev = s->next;
    if (s->next) {
        s->next->pprev = s->pprev;
    }
}

static Slab *slab_new(SlabPool *p)
{
    Slab *s = g_try_new0(Slab, 1);

    if (s) {
        s->pool = p;
        s->free = all_free(p);
        s->mem = bdrv_try_blockalign(p->bs, p->size * p->per_slab);
        if (!s->mem) {
            g_clear_pointer(&s, g_free);
        }
    }
    return s;
}

/* A buffer of @s; lock held. */
static uint8_t *take(SlabPool *p, Slab *s)
{
    unsigned i = (unsigned)__builtin_ctzll(s->free);

    s->free &= s->free - 1;
    if (!s->free) {
        list_remove(s);
    }
    return s->mem + i * p->size;
}

uint8_t *slab_get(SlabPool *p, Slab **slab)
{
    uint8_t *buf = NULL;
    Slab *s;

    spin_lock(&p->lock);
    s = p->partial;
    if (s) {
        buf = take(p, s);
    }
    spin_unlock(&p->lock);
    if (!buf) {
        s = slab_new(p);
        if (!s) {
            return NULL;
        }
        spin_lock(&p->lock);
        list_add(p, s);
        buf = take(p, s);
        spin_unlock(&p->lock);
    }
    *slab = s;
    return buf;
}

void slab_put(Slab *s, uint8_t *buf)
{
    SlabPool *p = s->pool;
    bool was_full, gone;

    spin_lock(&p->lock);
    was_full = !s->free;
    s->free |= UINT64_C(1) << ((size_t)(buf - s->mem) / p->size);
    gone = s->free == all_free(p);
    if (gone && !was_full) {
        list_remove(s);
    } else if (!gone && was_full) {
        list_add(p, s);
    }
    spin_unlock(&p->lock);
    if (gone) {
        mem_align_free(s->mem);
        g_free(s);
    }
}
