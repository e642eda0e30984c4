/* SPDX-License-Identifier: MIT */
/*
 * Slabs of buffers: see slab.h.
 *
 * INV-SLAB-1  A slab is in its pool's list exactly while one of its buffers is free and one is not;
 *             with the last one back it is freed.
 *
 * Slabs are mappings of their own: the heap keeps what is freed below something in use, and a cache
 * that is cleaned is to leave memory.
 */
#include "slab.h"

#include "util/spinlock.h"

#include <sys/mman.h>
#include <unistd.h>

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
    size_t page;   /* of a mapping; 0: from the heap, which aligns as the node wants */
    SpinLock lock; /* guards the list and the slabs */
    Slab *partial;
};

struct Slab {
    SlabPool *pool;
    uint8_t *mem;
    uint64_t free; /* a bit for each buffer */
    Slab *next, **pprev;
};

SlabPool *qcow2_slab_pool_new(BlockDriverState *bs, size_t size)
{
    SlabPool *p = g_try_new0(SlabPool, 1);

    if (p) {
        p->bs = bs;
        p->size = size;
        p->per_slab = (unsigned)CLAMP(SLAB_BYTES / size, 1, SLAB_MAX);
        p->page = (size_t)sysconf(_SC_PAGESIZE);
        if (SLAB_MAX == 1 || bs->limits.opt_mem_alignment > p->page ||
            size * p->per_slab % p->page) {
            p->page = 0;
        }
        spin_init(&p->lock);
    }
    return p;
}

void qcow2_slab_pool_free(SlabPool *p)
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

static void *alloc_memory(SlabPool *p)
{
    size_t bytes = p->size * p->per_slab;
    void *mem;

    if (!p->page) {
        return bdrv_try_blockalign(p->bs, bytes);
    }
    mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mem == MAP_FAILED ? NULL : mem;
}

static void free_memory(SlabPool *p, void *mem)
{
    if (p->page) {
        munmap(mem, p->size * p->per_slab);
    } else {
        mem_align_free(mem);
    }
}

static Slab *slab_new(SlabPool *p)
{
    Slab *s = g_try_new0(Slab, 1);

    if (s) {
        s->pool = p;
        s->free = all_free(p);
        s->mem = alloc_memory(p);
        if (!s->mem) {
            g_clear_pointer(&s, g_free);
        }
    }
    return s;
}

/* A buffer of @s. */
static uint8_t *take(SlabPool *p, Slab *s) REQUIRES_LOCK(p->lock)
{
    unsigned i = (unsigned)__builtin_ctzll(s->free);

    g_assert(s->free);
    s->free &= s->free - 1;
    if (!s->free) {
        list_remove(s);
    }
    return s->mem + i * p->size;
}

uint8_t *qcow2_slab_get(SlabPool *p, Slab **slab)
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

void qcow2_slab_put(Slab *s, uint8_t *buf)
{
    SlabPool *p = s->pool;
    bool was_full, gone;

    g_assert(buf >= s->mem && buf < s->mem + p->size * p->per_slab);
    if (p->page && p->size % p->page == 0) {
        (void)madvise(buf, p->size, MADV_DONTNEED); /* others of the slab may stay for long */
    }
    spin_lock(&p->lock);
    was_full = !s->free;
    g_assert(!(s->free >> ((size_t)(buf - s->mem) / p->size) & 1));
    s->free |= UINT64_C(1) << ((size_t)(buf - s->mem) / p->size);
    gone = s->free == all_free(p);
    if (gone && !was_full) {
        list_remove(s);
    } else if (!gone && was_full) {
        list_add(p, s);
    }
    spin_unlock(&p->lock);
    if (gone) {
        free_memory(p, s->mem);
        g_free(s);
    }
}
