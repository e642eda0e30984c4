/* SPDX-License-Identifier: MIT */
/* Refcount blocks that nobody needs any more: see reftable-shrink.h. */
#include "reftable-shrink.h"

#include "flush.h"
#include "refcount-codec.h"
#include "refcount.h"
#include "reftable.h"
#include "rules.h"
#include "util/iov.h"

#define MAX_ROUNDS 8

/* Entries [first, first + n) of the table. */
typedef struct Tail {
    uint64_t first, n, blocks;
} Tail;

/* The slice has no count but, perhaps, @own's. */
static bool is_slice_empty(const Allocator *a, const MetaSlice *s, uint64_t first, uint64_t own)
{
    uint64_t n = qcow2_refcount_slice_entries(a);

    if (own - first >= n) {
        return buffer_is_zero(s->data, qcow2_cache_slice_size(a->ref_cache));
    }
    for (uint64_t i = 0; i < n; i++) {
        if (first + i != own && qcow2_refcount_codec_get(a->geo->refcount_order, s->data, i)) {
            return false;
        }
    }
    return true;
}

/* 1: block @i of the table counts nothing but itself; 0: it does; or -errno. */
static int coroutine_fn co_is_empty(Allocator *a, uint64_t i) REQUIRES_LOCK(a->meta_lock)
{
    uint64_t first = i << a->geo->refblock_bits,
             end = first + (UINT64_C(1) << a->geo->refblock_bits);
    uint64_t own = a->reftable[i] >> a->geo->cluster_bits;
    bool empty = true;

    for (uint64_t c = first; c < end && empty; c += qcow2_refcount_slice_entries(a)) {
        MetaSlice *s;
        uint64_t index;
        int ret = qcow2_refcount_co_slice(a, c, &s, &index);

        if (ret < 0) {
            return ret;
        }
        g_assert(s);
        empty = is_slice_empty(a, s, c, own);
        qcow2_cache_put(a->ref_cache, s);
    }
    return empty;
}

/* From the last entry down. Block 0 counts the header. */
static int coroutine_fn co_find(Allocator *a, Tail *t) REQUIRES_LOCK(a->meta_lock)
{
    uint64_t i = a->reftable_entries;

    while (i > 1 && !a->reftable[i - 1]) {
        i--;
    }
    *t = (Tail){ .first = i };
    while (t->first > 1) {
        int empty = a->reftable[t->first - 1] ? co_is_empty(a, t->first - 1) : 1;

        if (empty < 0) {
            return empty;
        }
        if (!empty) {
            break;
        }
        t->first--;
        t->blocks += a->reftable[t->first] != 0;
    }
    t->n = i - t->first;
    return 0;
}

static int coroutine_fn co_leave(Allocator *a, const Tail *t) REQUIRES_LOCK(a->meta_lock)
{
    g_autofree uint8_t *zeroes = g_try_malloc0(t->n * 8);
    int ret;

    g_assert(t->n > 0 && t->first > 0);
    if (!zeroes || RULE_BROKEN(REFBLOCK_LEFT_BEFORE_FREE)) {
        return zeroes ? 0 : -ENOMEM;
    }
    ret = bdrv_co_pwrite(a->file, a->hdr->reftable_offset + t->first * 8, t->n * 8, zeroes, 0);
    ret = ret < 0 ? ret : qcow2_health_co_sync(a->health, a->file->bs);
    if (ret < 0) {
        qcow2_reftable_mark_dirty(a, t->first, t->first + t->n - 1); /* INV-RS-1 */
    }
    return ret;
}

static void coroutine_fn co_free(Allocator *a, const Tail *t) REQUIRES_LOCK(a->meta_lock)
{
    for (uint64_t i = t->first; i < t->first + t->n; i++) {
        uint64_t block = a->reftable[i];

        if (block) {
            qcow2_refcount_co_free_unused(a, block, a->geo->cluster_size);
            a->reftable[i] = 0;
            qcow2_cache_drop(a->ref_cache, block, a->geo->cluster_size);
            qcow2_metadata_remove(a->metadata, block, a->geo->cluster_size);
        }
    }
}

/* No flush is under way that could write the table as it was. */
static int coroutine_fn co_shrink(Qcow2 *q, uint64_t *blocks)
    REQUIRES_LOCK(q->flush_lock, q->alloc.meta_lock)
{
    Allocator *a = &q->alloc;
    Tail t;
    int ret;

    *blocks = 0;
    if (a->reftable_dirty || a->reftable_new_offset || a->reftable_sealed_offset ||
        q->header_in_doubt || q->header_whole_in_doubt) {
        return 0; /* what is on disk is not what memory has: another time */
    }
    ret = co_find(&q->alloc, &t);
    if (ret < 0 || !t.blocks) {
        return ret;
    }
    ret = co_leave(&q->alloc, &t);
    if (ret == 0) {
        CASE_MET(REFBLOCKS_DROPPED);
        co_free(&q->alloc, &t);
        *blocks = t.blocks;
    }
    return ret;
}

int coroutine_fn qcow2_reftable_shrink_co_run(Qcow2 *q, uint64_t *gone)
{
    uint64_t blocks = 1;
    int ret = 0;

    *gone = 0;
    /* A block may be counted in another one, which is empty then. */
    for (int round = 0; round < MAX_ROUNDS && blocks && ret == 0; round++) {
        ret = qcow2_flush_co_all(q);
        if (ret == 0) {
            co_mutex_lock(&q->flush_lock);
            co_mutex_lock(&q->alloc.meta_lock);
            ret = co_shrink(q, &blocks);
            co_mutex_unlock(&q->alloc.meta_lock);
            co_mutex_unlock(&q->flush_lock);
            *gone += ret == 0 ? blocks : 0;
        }
    }
    return ret;
}
