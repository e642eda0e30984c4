/* SPDX-License-Identifier: MIT */
/*
 * Counts above the references are leaks: they are given back.
 *
 * INV-LEAK-1  A count falls to what is referred to, where that leaves the COPIED flags true. A
 *             cluster that was shared, whose only reference that is left is an active one without
 *             the flag, is moved instead (INV-CMP-3): its new place begins with a count of one and
 *             the flag, in one write of the entry.
 */
#include "compact.h"

#include "refcount.h"
#include "refcount-codec.h"
#include "reftable.h"

typedef struct Look {
    Compact *c;
    uint8_t *candidates; /* made for the first one */
    uint64_t lo, hi;     /* of them */
} Look;

static bool note_candidate(Look *l, uint64_t cluster)
{
    CompactMap *m = &l->c->map;

    if (!l->candidates) {
        l->candidates = g_try_malloc0(m->clusters / 8 + 1);
        l->lo = cluster;
    }
    if (!l->candidates) {
        return false;
    }
    l->candidates[cluster / 8] |= (uint8_t)(1u << cluster % 8);
    l->hi = cluster + 1;
    return true;
}

/* Count @count of @cluster. */
static int coroutine_fn co_compare(Look *l, Allocator *a, uint64_t cluster, uint64_t count)
    REQUIRES_LOCK(a->meta_lock)
{
    uint64_t refs = cluster < l->c->map.clusters ? l->c->map.refs[cluster] : 0;

    if (count == refs) {
        return 0;
    }
    if (count < refs) {
        return -EIO;
    }
    if (refs == 1) {
        return note_candidate(l, cluster) ? 0 : -ENOMEM;
    }
    return qcow2_refcount_co_lower(a, cluster, refs);
}

/* The clusters [first, first + n), one slice of a block; no block: nobody refers to them. */
static int coroutine_fn co_compare_slice(Look *l, Allocator *a, uint64_t first, uint64_t n)
    REQUIRES_LOCK(a->meta_lock)
{
    MetaSlice *s;
    uint64_t index;
    int ret = qcow2_refcount_co_slice(a, first, &s, &index);

    for (uint64_t i = 0; i < n && ret == 0; i++) {
        ret = co_compare(l, a, first + i,
                         s ? qcow2_refcount_codec_get(a->geo->refcount_order, s->data, index + i)
                           : 0);
    }
    if (s) {
        qcow2_cache_put(a->ref_cache, s);
    }
    return ret;
}

static int coroutine_fn co_compare_all(Look *l, Allocator *a) REQUIRES_LOCK(a->meta_lock)
{
    uint64_t per = qcow2_refcount_slice_entries(a);
    uint64_t end = MAX(a->reftable_entries << a->geo->refblock_bits, l->c->map.clusters);
    int ret = 0;

    for (uint64_t c = 0; c < end && ret == 0; c += per) {
        uint64_t k = c >> a->geo->refblock_bits;

        if ((k < a->reftable_entries && a->reftable[k]) || c < l->c->map.clusters) {
            ret = co_compare_slice(l, a, c, per);
        }
    }
    return ret;
}

/* The only reference to it may not tell that it is the only one. */
static bool is_lonely(Compact *c, const CompactRef *r)
{
    const CompactTable *t = r ? qcow2_compact_table(c, r->table) : NULL;

    return r && t->active && (t->kind == CO_L1 || t->kind == CO_L2) &&
           !(r->value & (L2E_COPIED | L2E_COMPRESSED));
}

/* Of the candidates in [lo, hi) those that are lonely stay; the others fall to one. */
static int coroutine_fn co_sort_out(Look *l, uint64_t lo, uint64_t hi, bool *any)
{
    Compact *c = l->c;
    int ret = 0;

    co_mutex_lock(&c->q->alloc.meta_lock);
    for (uint64_t i = lo; i < hi && ret == 0; i++) {
        if (!qcow2_compact_map_bit(l->candidates, i)) {
            continue;
        }
        if (is_lonely(c, qcow2_compact_index_first(&c->index, i))) {
            *any = true;
        } else {
            l->candidates[i / 8] &= (uint8_t) ~(1u << i % 8);
            ret = qcow2_refcount_co_lower(&c->q->alloc, i, 1);
        }
    }
    co_mutex_unlock(&c->q->alloc.meta_lock);
    return ret;
}

int coroutine_fn qcow2_compact_leaks_co_return(Compact *c, uint8_t **lonely)
{
    Allocator *a = &c->q->alloc;
    Look l = { .c = c };
    bool any = false;
    int ret;

    *lonely = NULL;
    co_mutex_lock(&a->meta_lock);
    ret = co_compare_all(&l, a);
    co_mutex_unlock(&a->meta_lock);
    for (uint64_t lo = l.lo, hi; lo < l.hi && ret == 0; lo = hi) {
        hi = l.hi;
        ret = qcow2_compact_index_co_make(c, lo, &hi, l.candidates);
        ret = ret < 0 ? ret : co_sort_out(&l, lo, hi, &any);
    }
    if (ret == 0 && any) {
        *lonely = l.candidates;
    } else {
        g_free(l.candidates);
    }
    return ret;
}

/* ---- Blocks that count nothing ---- */

static bool coroutine_fn co_is_empty(Allocator *a, uint64_t k) REQUIRES_LOCK(a->meta_lock)
{
    uint64_t per = qcow2_refcount_slice_entries(a), first = k << a->geo->refblock_bits;

    for (uint64_t c = first; c < first + (UINT64_C(1) << a->geo->refblock_bits); c += per) {
        MetaSlice *s;
        uint64_t index, zeroes;

        if (qcow2_refcount_co_slice(a, c, &s, &index) < 0 || !s) {
            return false;
        }
        zeroes = qcow2_refcount_codec_zero_run(a->geo->refcount_order, s->data, index, per);
        qcow2_cache_put(a->ref_cache, s);
        if (zeroes < per) {
            return false;
        }
    }
    return true;
}

int coroutine_fn qcow2_compact_leaks_co_drop_blocks(Compact *c, uint64_t end)
{
    Allocator *a = &c->q->alloc;
    int n = 0;

    co_mutex_lock(&a->meta_lock);
    for (uint64_t k = (end >> a->geo->refblock_bits) + 1; k < a->reftable_entries; k++) {
        uint64_t block = a->reftable[k];

        if (!block || !co_is_empty(a, k)) {
            continue;
        }
        a->reftable[k] = 0;
        qcow2_reftable_mark_dirty(a, k, k);
        qcow2_metadata_remove(a->metadata, block, a->geo->cluster_size);
        qcow2_cache_drop(a->ref_cache, block, a->geo->cluster_size);
        qcow2_quarantine_add(a->quarantine, block, a->geo->cluster_size, true); /* INV-W-4 */
        n++;
    }
    co_mutex_unlock(&a->meta_lock);
    return n;
}
