/* SPDX-License-Identifier: MIT */
/*
 * Requests in flight, counted at the BlockBackend in stripes (a thread keeps to one cache line),
 * and drains, which hold new ones back.
 *
 * INV-DRAIN-1  A request counts itself, then looks at quiesce; a drain sets quiesce, then looks at
 *              the counts: one of them sees the other.
 */
#include "block/block-int.h"

static atomic_int next_stripe;
static _Thread_local int my_stripe = -1;

int blk_stripe(void)
{
    if (unlikely(my_stripe < 0)) {
        my_stripe = atomic_fetch_add(&next_stripe, 1) % BLK_STRIPES;
    }
    return my_stripe;
}

static int in_flight(BlockBackend *blk)
{
    int n = 0;

    for (int i = 0; i < BLK_STRIPES; i++) {
        n += atomic_load(&blk->in_flight[i].n);
    }
    return n;
}

void blk_leave_slow(BlockBackend *blk)
{
    spin_lock(&blk->lock);
    spin_unlock(&blk->lock); /* a drain is now before its look at the counts, or in the queue */
    co_queue_all(&blk->idle_queue);
}

void coroutine_fn blk_co_enter_slow(BlockBackend *blk)
{
    while (atomic_load(&blk->quiesce)) {
        atomic_fetch_sub(&blk->in_flight[blk_stripe()].n, 1);
        blk_leave_slow(blk);
        spin_lock(&blk->lock);
        while (atomic_load(&blk->quiesce)) {
            co_queue_wait_spin(&blk->resume_queue, &blk->lock);
        }
        spin_unlock(&blk->lock);
        atomic_fetch_add(&blk->in_flight[blk_stripe()].n, 1);
    }
}

void coroutine_fn blk_co_drain_begin(BlockBackend *blk)
{
    atomic_fetch_add(&blk->quiesce, 1);
    spin_lock(&blk->lock);
    while (in_flight(blk) > 0) {
        co_queue_wait_spin(&blk->idle_queue, &blk->lock);
    }
    spin_unlock(&blk->lock);
}

void blk_drain_end(BlockBackend *blk)
{
    spin_lock(&blk->lock);
    atomic_fetch_sub(&blk->quiesce, 1);
    spin_unlock(&blk->lock);
    co_queue_all(&blk->resume_queue);
}

static int coroutine_fn drain_fn(void *opaque)
{
    blk_co_drain_begin(opaque);
    return 0;
}

/* All BlockBackends above @bs. */
static void for_each_user(BlockDriverState *bs, void (*fn)(BlockBackend *))
{
    for (guint i = 0; i < bs->core->parents->len; i++) {
        BdrvChild *c = g_ptr_array_index(bs->core->parents, i);

        if (c->blk) {
            fn(c->blk);
        } else if (c->parent) {
            for_each_user(c->parent, fn);
        }
    }
}

static void begin_one(BlockBackend *blk)
{
    (void)co_run_sync(drain_fn, blk);
}

void bdrv_drained_begin(BlockDriverState *bs)
{
    for_each_user(bs, begin_one);
}

void bdrv_drained_end(BlockDriverState *bs)
{
    for_each_user(bs, blk_drain_end);
}

void blk_drain(BlockBackend *blk)
{
    begin_one(blk);
    blk_drain_end(blk);
}
