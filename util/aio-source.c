/* SPDX-License-Identifier: MIT */
/*
 * An AioContext as a GSource. Sources come and go, the context stays: a source whose main context
 * is gone is dead, and the next one takes up what the context waits for.
 *
 * INV-SOURCE-1  A source never waits for a context that another thread runs: that one looks at the
 *               same events, and wakes the main loop at the end if it left something.
 */
#include "util/aio-int.h"

#define BUSY_MS 1        /* another thread runs it */
#define RETRY_MS 1       /* no room in the kernel, or no descriptor to be woken by */
#define DONE_PER_TURN 64 /* users that are told; other sources are to have their turn too */

typedef struct LoopSource {
    GSource source;
    AioContext *ctx; /* a hold */
} LoopSource;

static bool is_due(int64_t ns)
{
    return ns >= 0 && ns <= aio_clock_ns();
}

static gint limit(gint timeout, gint ms)
{
    return timeout < 0 || timeout > ms ? ms : timeout;
}

static bool prepare_held(AioContext *ctx, gint *timeout)
{
    int64_t next = aio_timer_next(ctx);

    aio_uring_flush(ctx);
    aio_event_ensure(ctx);
    if (next >= 0) {
        int64_t left = next - aio_clock_ns();

        *timeout = left <= 0 ? 0 : (gint)MIN((left + 999999) / 1000000, G_MAXINT);
    }
    if (aio_uring_unsubmitted(ctx) || atomic_load(&ctx->event_fd) < 0) {
        *timeout = limit(*timeout, RETRY_MS);
    }
    atomic_store(&ctx->source_waits, true); /* INV-AIO-1 */
    atomic_thread_fence(memory_order_seq_cst);
    return aio_has_work(ctx) || ctx->done || aio_uring_pending(ctx) || *timeout == 0;
}

static gboolean source_prepare(GSource *source, gint *timeout)
{
    AioContext *ctx = ((LoopSource *)source)->ctx;
    bool ready = false;

    *timeout = -1;
    if (atomic_load(&ctx->dead)) {
        return FALSE;
    }
    if (!aio_try_acquire(ctx)) {
        *timeout = BUSY_MS;
        return FALSE;
    }
    if (!atomic_load(&ctx->dead)) {
        ready = prepare_held(ctx, timeout);
    }
    aio_release_quietly(ctx);
    return ready;
}

static bool check_held(AioContext *ctx, GSource *source)
{
    if (ctx->source == source && ctx->event_tag && g_source_query_unix_fd(source, ctx->event_tag)) {
        aio_event_read(ctx);
    }
    if (aio_has_work(ctx) || ctx->done || aio_uring_pending(ctx) || is_due(aio_timer_next(ctx))) {
        return true;
    }
    for (guint i = 0; ctx->source == source && i < ctx->handlers->len; i++) {
        AioHandler *h = g_ptr_array_index(ctx->handlers, i);

        if (h->tag && g_source_query_unix_fd(source, h->tag)) {
            return true;
        }
    }
    return false;
}

static gboolean source_check(GSource *source)
{
    AioContext *ctx = ((LoopSource *)source)->ctx;
    bool ready;

    atomic_store(&ctx->source_waits, false);
    if (atomic_load(&ctx->dead) || !aio_try_acquire(ctx)) {
        return FALSE;
    }
    ready = !atomic_load(&ctx->dead) && check_held(ctx, source);
    aio_release_quietly(ctx);
    return ready;
}

static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    AioContext *ctx = ((LoopSource *)source)->ctx, *old;

    if (atomic_load(&ctx->dead) || !aio_try_acquire(ctx)) {
        return G_SOURCE_CONTINUE;
    }
    if (!atomic_load(&ctx->dead)) {
        old = aio_set_current(ctx);
        atomic_store(&ctx->source_waits, false);
        aio_run_ready(ctx);
        if (ctx->handlers->len > 0) {
            aio_block(ctx, 0);
        }
        aio_uring_flush(ctx);
        aio_done_deliver(ctx, DONE_PER_TURN);
        aio_set_current(old);
    }
    aio_release_quietly(ctx);
    return G_SOURCE_CONTINUE;
}

static void source_finalize(GSource *source)
{
    aio_context_drop_hold(((LoopSource *)source)->ctx);
}

static GSourceFuncs source_funcs = {
    .prepare = source_prepare,
    .check = source_check,
    .dispatch = source_dispatch,
    .finalize = source_finalize,
};

static bool is_live(AioContext *ctx)
{
    return ctx->source && !g_source_is_destroyed(ctx->source);
}

gpointer aio_source_add_fd(AioContext *ctx, int fd, GIOCondition cond)
{
    return is_live(ctx) ? g_source_add_unix_fd(ctx->source, fd, cond) : NULL;
}

void aio_source_remove_fd(AioContext *ctx, gpointer tag)
{
    if (tag && is_live(ctx)) {
        g_source_remove_unix_fd(ctx->source, tag);
    }
}

void aio_source_drop(AioContext *ctx)
{
    if (ctx->source) {
        g_source_destroy(ctx->source);
        g_clear_pointer(&ctx->source, g_source_unref);
    }
}

/* All that the context waits for. */
static void add_all(AioContext *ctx)
{
    int event_fd = atomic_load(&ctx->event_fd), ring = aio_uring_ring_fd(ctx);

    ctx->event_tag = event_fd >= 0 ? aio_source_add_fd(ctx, event_fd, G_IO_IN) : NULL;
    ctx->uring_tag = ring >= 0 ? aio_source_add_fd(ctx, ring, G_IO_IN) : NULL;
    for (guint i = 0; i < ctx->handlers->len; i++) {
        AioHandler *h = g_ptr_array_index(ctx->handlers, i);
        GIOCondition cond = (h->io_read ? G_IO_IN : 0) | (h->io_write ? G_IO_OUT : 0);

        h->tag = cond ? aio_source_add_fd(ctx, h->fd, cond) : NULL;
    }
}

GSource *aio_context_source(AioContext *ctx)
{
    GSource *source;

    aio_acquire(ctx);
    if (!is_live(ctx)) {
        g_clear_pointer(&ctx->source, g_source_unref);
        ctx->source = g_source_new(&source_funcs, sizeof(LoopSource));
        atomic_fetch_add(&ctx->holds, 1);
        ((LoopSource *)ctx->source)->ctx = ctx;
        g_source_set_can_recurse(ctx->source, TRUE);
        add_all(ctx);
    }
    source = ctx->source;
    aio_release(ctx);
    return source;
}
