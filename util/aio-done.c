/* SPDX-License-Identifier: MIT */
/*
 * Telling users: of requests that ended, and other calls of their functions.
 *
 * INV-DONE-1  A user's function runs on the thread's own stack, outside of any coroutine, and while
 *             it runs nothing of the loop is on that stack but the call: it may run a main loop,
 *             make blocking calls, or wait for other threads.
 */
#include "util/aio-int.h"

AioBegin aio_done_begin(AioContext *ctx, AioDone *d)
{
    if (unlikely(ctx->telling_refused)) {
        return AIO_BEGIN_FORGET;
    }
    atomic_fetch_add(&ctx->requests, 1);
    d->refused = ctx->ending;
    return d->refused ? AIO_BEGIN_REFUSE : AIO_BEGIN_RUN;
}

void aio_done_push(AioContext *ctx, AioDone *d)
{
    d->next = NULL;
    *ctx->done_end = d;
    ctx->done_end = &d->next;
}

typedef struct Telling {
    AioContext *ctx;
    AioDone *d;
} Telling;

static void call_back(void *opaque)
{
    Telling *t = opaque;

    t->d->fn(t->d);
    atomic_fetch_sub(&t->ctx->requests, 1); /* now: its thread may wait for this, and hold it */
}

/* The one that *@at points to. */
static void deliver(AioContext *ctx, AioDone **at)
{
    Telling t = { ctx, *at };

    *at = t.d->next;
    if (!t.d->next) {
        ctx->done_end = at;
    }
    ctx->telling_refused = t.d->refused;
    aio_call_out(ctx, call_back, &t);
    ctx->telling_refused = false;
}

bool aio_done_deliver(AioContext *ctx, unsigned max)
{
    bool any = false;

    while (!atomic_load_explicit(&ctx->dead, memory_order_relaxed) && ctx->done && max-- > 0) {
        deliver(ctx, &ctx->done);
        any = true;
    }
    return any;
}

static AioDone **find_tag(AioContext *ctx, const void *tag)
{
    AioDone **at = &ctx->done;

    while (*at && (*at)->tag != tag) {
        at = &(*at)->next;
    }
    return at;
}

void aio_done_deliver_tag(AioContext *ctx, const void *tag)
{
    unsigned left = 0; /* what is answered meanwhile comes from the loop */
    AioDone **at;

    aio_acquire(ctx);
    for (AioDone *d = ctx->done; d; d = d->next) {
        left += d->tag == tag;
    }
    for (; left > 0 && *(at = find_tag(ctx, tag)); left--) {
        deliver(ctx, at);
    }
    aio_release(ctx);
}

/* ---- From within a coroutine ---- */

typedef struct CallOut {
    AioFunc *fn;
    void *opaque;
    Coroutine *co;
} CallOut;

static void call_out_bh(void *opaque)
{
    CallOut *c = opaque;

    aio_call_out(coroutine_home(c->co), c->fn, c->opaque);
    aio_co_wake(c->co);
}

void coroutine_fn co_call_out(AioFunc *fn, void *opaque)
{
    CallOut c = { fn, opaque, coroutine_self() };

    aio_bh_schedule_oneshot(coroutine_home(c.co), call_out_bh, &c);
    coroutine_yield();
}
