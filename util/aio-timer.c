/* SPDX-License-Identifier: MIT */
/*
 * Timers of an AioContext: an array of those set, latest first. Few are ever set.
 *
 * INV-TIMER-1  Whoever ends a timer (an image that is closed in another thread than it was opened
 *              in) does so under timer_lock, and waits for its function to return, unless it is
 *              called by that.
 */
#include "util/aio-int.h"

#include <sched.h>

struct AioTimer {
    AioContext *ctx; /* a reference: the loop may be given up before its timers */
    AioFunc *fn;
    void *opaque;
    int64_t expire_ns;
    bool set;
};

AioTimer *aio_timer_new(AioContext *ctx, AioFunc *fn, void *opaque)
{
    AioTimer *t = g_new0(AioTimer, 1);

    t->ctx = aio_context_ref(ctx);
    t->fn = fn;
    t->opaque = opaque;
    return t;
}

static void unset(AioContext *ctx, AioTimer *t) REQUIRES_LOCK(ctx->timer_lock)
{
    if (t->set) {
        g_ptr_array_remove(ctx->timers, t);
        t->set = false;
        atomic_store_explicit(&ctx->timers_set, ctx->timers->len, memory_order_relaxed);
    }
}

/* The lock is dropped meanwhile: until @t's function does not run in another thread. */
static void wait_returned(AioTimer *t) REQUIRES_LOCK(t->ctx->timer_lock)
{
    while (t->ctx->timer_running == t && t->ctx->timer_thread != g_thread_self()) {
        spin_unlock(&t->ctx->timer_lock);
        sched_yield();
        spin_lock(&t->ctx->timer_lock);
    }
}

void aio_timer_del(AioTimer *t)
{
    spin_lock(&t->ctx->timer_lock);
    wait_returned(t);
    unset(t->ctx, t);
    spin_unlock(&t->ctx->timer_lock);
}

void aio_timer_mod(AioTimer *t, int64_t expire_ns)
{
    GPtrArray *a = t->ctx->timers;
    guint i;

    spin_lock(&t->ctx->timer_lock);
    unset(t->ctx, t);
    t->expire_ns = expire_ns;
    t->set = true;
    for (i = 0; i < a->len; i++) {
        if (((AioTimer *)g_ptr_array_index(a, i))->expire_ns <= expire_ns) {
            break; /* of equal ones the last set runs last */
        }
    }
    g_ptr_array_insert(a, (gint)i, t);
    atomic_store_explicit(&t->ctx->timers_set, a->len, memory_order_relaxed);
    spin_unlock(&t->ctx->timer_lock);
    aio_notify(t->ctx);
}

void aio_timer_free(AioTimer *t)
{
    if (t) {
        aio_timer_del(t);
        aio_context_unref(t->ctx);
        g_free(t);
    }
}

static AioTimer *earliest(AioContext *ctx)
{
    guint n = ctx->timers->len;

    return n ? g_ptr_array_index(ctx->timers, n - 1) : NULL;
}

int64_t aio_timer_next(AioContext *ctx)
{
    AioTimer *t;
    int64_t ns;

    if (!atomic_load_explicit(&ctx->timers_set, memory_order_relaxed)) {
        return -1;
    }
    spin_lock(&ctx->timer_lock);
    t = earliest(ctx);
    ns = t ? t->expire_ns : -1;
    spin_unlock(&ctx->timer_lock);
    return ns;
}

bool aio_timer_run(AioContext *ctx)
{
    bool progress = false;
    int64_t now = -1;
    AioTimer *t;
    guint left;

    if (!atomic_load_explicit(&ctx->timers_set, memory_order_relaxed)) {
        return false;
    }
    spin_lock(&ctx->timer_lock);
    left = ctx->timers->len; /* one that sets itself again at once runs in the next iteration */
    while (left-- > 0 && (t = earliest(ctx))) {
        AioTimer *outer = ctx->timer_running; /* a function may poll */
        AioFunc *fn = t->fn;
        void *opaque = t->opaque;

        now = now < 0 ? aio_clock_ns() : now;
        if (t->expire_ns > now) {
            break;
        }
        unset(ctx, t);
        ctx->timer_running = t;
        ctx->timer_thread = g_thread_self();
        spin_unlock(&ctx->timer_lock);
        fn(opaque); /* may free t */
        spin_lock(&ctx->timer_lock);
        ctx->timer_running = outer;
        progress = true;
    }
    spin_unlock(&ctx->timer_lock);
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
