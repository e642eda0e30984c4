/* SPDX-License-Identifier: MIT */
/*
 * Requests in flight, counted at the BlockBackend in stripes (a thread keeps to one cache line),
 * and drains, which hold new ones back.
 *
 * INV-DRAIN-1  A drain marks every stripe's count, under the lock. A request that finds the mark as
 *              it comes or goes takes the lock: so once a drain has seen no request under the lock,
 *              none touches the graph below any more.
 * INV-DRAIN-2  Whoever needs the image alone (a resize, a check, the close) holds exclusive too:
 *              two drains run at a time.
 * INV-DRAIN-3  A close refuses requests first, those that a drain holds back too, and its drain
 *              never ends: whoever comes at any moment finds the mark, and then the lock says why.
 */
#include "block/backend/backend-int.h"

#include <errno.h>

static atomic_int next_stripe;
static _Thread_local int my_stripe = -1;

int blk_stripe(void)
{
    if (unlikely(my_stripe < 0)) {
        my_stripe = atomic_fetch_add(&next_stripe, 1) % BLK_STRIPES;
    }
    return my_stripe;
}

static void count(BlockBackend *blk, int n)
{
    atomic_fetch_add(&blk->in_flight[blk_stripe()].n, n);
}

/* INV-DRAIN-1: every stripe is marked while there is a drain, once however many there are. */
static void check_marks(BlockBackend *blk) REQUIRES_LOCK(blk->lock)
{
    g_assert(blk->quiesce >= 0);
    for (int i = 0; i < BLK_STRIPES; i++) {
        int n = atomic_load(&blk->in_flight[i].n);

        g_assert((n >= BLK_QUIESCED / 2) == (blk->quiesce > 0));
        g_assert(n < BLK_QUIESCED + BLK_QUIESCED / 2);
    }
}

/* With the marks on. A stripe may be below zero: a request may leave in another thread than it came
 * in. */
static bool is_busy(BlockBackend *blk) REQUIRES_LOCK(blk->lock)
{
    int64_t n = 0;

    for (int i = 0; i < BLK_STRIPES; i++) {
        n += atomic_load(&blk->in_flight[i].n) - BLK_QUIESCED;
    }
    return n > 0;
}

static void mark(BlockBackend *blk, int by) REQUIRES_LOCK(blk->lock)
{
    for (int i = 0; i < BLK_STRIPES; i++) {
        atomic_fetch_add(&blk->in_flight[i].n, by);
    }
}

void blk_leave_slow(BlockBackend *blk)
{
    spin_lock(&blk->lock);
    count(blk, -1);
    co_queue_all(&blk->idle_queue);
    spin_unlock(&blk->lock); /* INV-DRAIN-1: the last touch */
}

int coroutine_fn blk_co_enter_slow(BlockBackend *blk)
{
    int ret = 0;

    spin_lock(&blk->lock);
    while (blk->quiesce && !blk->shut) {
        count(blk, -1);
        co_queue_all(&blk->idle_queue);
        co_queue_wait_spin(&blk->resume_queue, &blk->lock);
        count(blk, 1);
    }
    if (blk->shut) {
        count(blk, -1);
        co_queue_all(&blk->idle_queue);
        ret = -ESHUTDOWN;
    }
    spin_unlock(&blk->lock);
    return ret;
}

void coroutine_fn blk_co_refuse_requests(BlockBackend *blk)
{
    spin_lock(&blk->lock);
    blk->shut = true;
    co_queue_all(&blk->resume_queue);
    spin_unlock(&blk->lock);
}

void coroutine_fn blk_co_drain_begin(BlockBackend *blk)
{
    spin_lock(&blk->lock);
    check_marks(blk);
    if (blk->quiesce++ == 0) {
        mark(blk, BLK_QUIESCED);
    }
    check_marks(blk);
    while (is_busy(blk)) {
        co_queue_wait_spin(&blk->idle_queue, &blk->lock);
    }
    spin_unlock(&blk->lock);
}

void blk_drain_end(BlockBackend *blk)
{
    spin_lock(&blk->lock);
    check_marks(blk);
    if (--blk->quiesce == 0) {
        mark(blk, -BLK_QUIESCED);
    }
    check_marks(blk);
    co_queue_all(&blk->resume_queue);
    spin_unlock(&blk->lock);
}

void coroutine_fn blk_co_alone_begin(BlockBackend *blk) UNCHECKED_LOCKS
{
    co_mutex_lock(&blk->exclusive);
    blk_co_drain_begin(blk);
}

void coroutine_fn blk_co_alone_end(BlockBackend *blk) UNCHECKED_LOCKS
{
    blk_drain_end(blk);
    co_mutex_unlock(&blk->exclusive);
}

static void coroutine_fn co_hold(void *opaque)
{
    blk_co_drain_begin(opaque);
}

static void end_hold(void *opaque)
{
    blk_drain_end(opaque);
}

BlockHold coroutine_fn blk_co_beside_begin(BlockBackend *blk) UNCHECKED_LOCKS
{
    co_mutex_lock(&blk->exclusive);
    return (BlockHold){ .co_begin = co_hold, .end = end_hold, .opaque = blk };
}

void coroutine_fn blk_co_beside_end(BlockBackend *blk) UNCHECKED_LOCKS
{
    co_mutex_unlock(&blk->exclusive);
}

static int coroutine_fn drain_fn(void *opaque)
{
    blk_co_drain_begin(opaque);
    return 0;
}

void blk_drain(BlockBackend *blk)
{
    (void)co_run_sync(drain_fn, blk);
    blk_drain_end(blk);
}
