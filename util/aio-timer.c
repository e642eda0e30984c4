/* SPDX-License-Identifier: MIT */
/* Timers of an AioContext: an array of those set, latest first. Few are ever set. */
#include "util/aio-int.h"

struct AioTimer {
    AioContext *ctx;
    AioFunc *fn;
    void *opaque;
    int64_t expire_ns;
    bool set;
};

AioTimer *aio_timer_new(AioContext *ctx, AioFunc *fn, void *opaque)
{
    AioTimer *t = g_new0(AioTimer, 1);

    t->ctx = ctx;
    t->fn = fn;
    t->opaque = opaque;
    return t;
}

void aio_timer_del(AioTimer *t)
{
    if (t->set) {
        g_ptr_array_remove(t->ctx->timers, t);
        t->set = false;
    }
}

void aio_timer_mod(AioTimer *t, int64_t expire_ns)
{
    GPtrArray *a = t->ctx->timers;
    guint i;

    aio_timer_del(t);
    t->expire_ns = expire_ns;
    t->set = true;
    for (i = 0; i < a->len; i++) {
        if (((AioTimer *)g_ptr_array_index(a, i))->expire_ns <= expire_ns) {
            break; /* of equal ones the last set runs last */
        }
    }
    g_ptr_array_insert(a, (gint)i, t);
    aio_notify(t->ctx);
}

void aio_timer_free(AioTimer *t)
{
    if (t) {
        aio_timer_del(t);
        g_free(t);
    }
}

int64_t aio_timer_next(AioContext *ctx)
{
    guint n = ctx->timers->len;

    return n ? ((AioTimer *)g_ptr_array_index(ctx->timers, n - 1))->expire_ns : -1;
}

bool aio_timer_run(AioContext *ctx)
{
    bool progress = false;
    guint left = ctx->timers->len; /* one that sets itself again at once runs in the next iteration */
    int64_t now;

    if (ctx->timers->len == 0) {
        return false;
    }
    now = aio_clock_ns();
    for (; left > 0 && ctx->timers->len > 0; left--) {
        AioTimer *t = g_ptr_array_index(ctx->timers, ctx->timers->len - 1);

        if (t->expire_ns > now) {
            break;
        }
        g_ptr_array_set_size(ctx->timers, (gint)ctx->timers->len - 1);
        t->set = false;
        t->fn(t->opaque); /* may free t */
        progress = true;
    }
    return progress;
}

void aio_timer_fini(AioContext *ctx)
{
    g_clear_pointer(&ctx->timers, g_ptr_array_unref);
}

static void sleep_over(void *opaque)
{
    aio_co_wake(opaque);
}

void coroutine_fn co_sleep_ns(int64_t ns)
{
    Coroutine *co = coroutine_self();
    AioTimer *t = aio_timer_new(coroutine_home(co), sleep_over, co);

    aio_timer_mod(t, aio_clock_ns() + ns);
    coroutine_yield();
    aio_timer_free(t);
}
