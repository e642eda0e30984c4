/* SPDX-License-Identifier: MIT */
/* A BlockBackend from within. */
#ifndef BLOCK_BACKEND_BACKEND_INT_H
#define BLOCK_BACKEND_BACKEND_INT_H

#include "block/core.h"
#include "block/backend.h"

/* One cache line of a counter that many threads change. */
#define BLK_STRIPES 16
#define BLK_QUIESCED (1 << 30) /* in a count: a drain is on */
typedef struct BlkStripe {
    atomic_int n;
    char pad[64 - sizeof(atomic_int)];
} BlkStripe;

struct BlockBackend {
    BdrvChild *root;
    BlockDriverState *bs; /* == root->bs */
    atomic_int refcnt;    /* of this memory: its user's, and those who drain it */
    bool writable;
    void (*resized)(void *opaque); /* set before requests run */
    void *resized_opaque;
    BlockReportFunc *report; /* set before requests run */
    void *report_opaque;
    atomic_bool writethrough;
    CoMutex exclusive;    /* INV-DRAIN-2 */
    SpinLock lock;        /* of the next four */
    bool shut;            /* closed, or about to be: requests are refused */
    int quiesce;          /* drains that hold requests back */
    CoQueue idle_queue;   /* who drains */
    CoQueue resume_queue; /* requests held back */
    _Alignas(64) BlkStripe in_flight[BLK_STRIPES];
};

/* A user of @bs (the reference is taken over), who reads. NULL: refused. */
BlockBackend *coroutine_fn blk_on_node(BlockDriverState *bs, GError **errp);

/* ---- drain.c ---- */
int coroutine_fn blk_co_enter_slow(BlockBackend *blk);
/* Those that are held back, or come, get -ESHUTDOWN from now on; for the close, which follows. */
void coroutine_fn blk_co_refuse_requests(BlockBackend *blk);
void blk_leave_slow(BlockBackend *blk);
int blk_stripe(void);
/* Hold back new requests and wait for the others; the caller's own must not be counted. */
void coroutine_fn blk_co_drain_begin(BlockBackend *blk);
void blk_drain_end(BlockBackend *blk);

/* The same for a change of what all requests rely on: one at a time. */
void coroutine_fn blk_co_alone_begin(BlockBackend *blk);
void coroutine_fn blk_co_alone_end(BlockBackend *blk);

/* Guest requests run, but for instants; what needs the image alone waits (INV-DRAIN-2). */
BlockHold coroutine_fn blk_co_beside_begin(BlockBackend *blk);
void coroutine_fn blk_co_beside_end(BlockBackend *blk);

/* 0: the request is counted, and leaves by blk_leave(); -ESHUTDOWN: it is not, the image is being
 * closed. */
static inline int coroutine_fn blk_co_enter(BlockBackend *blk)
{
    if (unlikely(atomic_fetch_add(&blk->in_flight[blk_stripe()].n, 1) >= BLK_QUIESCED / 2)) {
        return blk_co_enter_slow(blk);
    }
    return 0;
}

/* The same, without waiting: false when requests are held back, or refused. */
static inline bool blk_try_enter(BlockBackend *blk)
{
    if (unlikely(atomic_fetch_add(&blk->in_flight[blk_stripe()].n, 1) >= BLK_QUIESCED / 2)) {
        blk_leave_slow(blk);
        return false;
    }
    return true;
}

static inline void blk_leave(BlockBackend *blk)
{
    atomic_int *n = &blk->in_flight[blk_stripe()].n;
    int old = atomic_load_explicit(n, memory_order_relaxed);

    while (likely(old < BLK_QUIESCED / 2)) {
        if (likely(atomic_compare_exchange_weak(n, &old, old - 1))) {
            return; /* @blk may be gone */
        }
    }
    blk_leave_slow(blk);
}

#endif
