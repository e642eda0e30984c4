/* SPDX-License-Identifier: MIT */
/*
 * AioContext: the loop itself: a GSource, its blocking poll, bottom halves, scheduled coroutines.
 *
 * INV-AIO-1  Who adds work from another thread adds it first and then looks at notify_me; who is
 *            about to block sets notify_me first and then looks for work.  One of them sees the
 *            other, so no wake-up is lost and the eventfd is written only for a blocked loop.
 * INV-AIO-2  Submissions go to the kernel before the loop blocks.
 */
#include "util/aio-int.h"

#include "util/error.h"
#include "util/spinlock.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define POLL_MAX_NS_DEFAULT 32000
#define POLL_MIN_NS 1000
#define RETRY_NS 1000000 /* when the kernel had no room for a submission */

struct AioBh {
    AioFunc *fn;
    void *opaque;
    AioBh *next;
};

static __thread AioContext *current_ctx;
static GPrivate default_ctx = G_PRIVATE_INIT((GDestroyNotify)aio_context_unref);

int64_t aio_clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* ---- Which context does this thread run ---- */

static __attribute__((noinline)) AioContext **current_slot(void)
{
    AioContext **slot = &current_ctx;

    __asm__ __volatile__("" : "+r"(slot)::"memory");
    return slot;
}

AioContext *aio_current_peek(void)
{
    AioContext *ctx = *current_slot();

    return ctx ? ctx : g_private_get(&default_ctx);
}

AioContext *aio_current(void)
{
    AioContext *ctx = aio_current_peek();

    if (unlikely(!ctx)) {
        ctx = aio_context_new(NULL);
        g_private_set(&default_ctx, ctx);
    }
    return ctx;
}

AioContext *aio_set_current(AioContext *ctx)
{
    AioContext **slot = current_slot();
    AioContext *old = *slot;

    *slot = ctx;
    return old;
}

/* ---- Work from anywhere ---- */

void aio_notify(AioContext *ctx)
{
    atomic_thread_fence(memory_order_seq_cst); /* INV-AIO-1 */
    if (atomic_load_explicit(&ctx->notify_me, memory_order_relaxed) &&
        !atomic_exchange(&ctx->notified, true)) {
        uint64_t one = 1;
        ssize_t n;

        do {
            n = write(ctx->event_fd, &one, sizeof(one));
        } while (n < 0 && errno == EINTR);
    }
}

static void event_read(AioContext *ctx)
{
    uint64_t v;
    ssize_t n;

    do {
        n = read(ctx->event_fd, &v, sizeof(v));
    } while (n < 0 && errno == EINTR);
    atomic_store(&ctx->notified, false);
    atomic_thread_fence(memory_order_seq_cst); /* INV-AIO-1: look for work after this */
}

/* Who hands work to another loop keeps that loop alive until it is woken: the work may end, and the
 * loop be given up, in between. NULL: our own loop. */
static AioContext *hold_foreign(AioContext *ctx)
{
    return ctx == aio_current_peek() ? NULL : aio_context_ref(ctx);
}

void aio_bh_schedule_oneshot(AioContext *ctx, AioFunc *fn, void *opaque)
{
    AioBh *bh = g_new(AioBh, 1);
    AioBh *head = atomic_load_explicit(&ctx->bhs, memory_order_relaxed);
    G_GNUC_UNUSED g_autoptr(AioContext) held = hold_foreign(ctx);

    bh->fn = fn;
    bh->opaque = opaque;
    do {
        bh->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&ctx->bhs, &head, bh, memory_order_release,
                                                    memory_order_relaxed));
    aio_notify(ctx);
}

void aio_co_schedule(AioContext *ctx, Coroutine *co)
{
    Coroutine *head = atomic_load_explicit(&ctx->scheduled, memory_order_relaxed);
    bool was = atomic_exchange(&co->scheduled, true);
    G_GNUC_UNUSED g_autoptr(AioContext) held = hold_foreign(ctx);

    g_assert(!was);
    do {
        co->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&ctx->scheduled, &head, co,
                                                    memory_order_release, memory_order_relaxed));
    aio_notify(ctx);
}

void aio_co_wake(Coroutine *co)
{
    AioContext *ctx = coroutine_home(co);

    if (ctx != aio_current_peek()) {
        aio_co_schedule(ctx, co);
    } else if (in_coroutine()) {
        coroutine_wake_later(co);
    } else {
        coroutine_enter(co);
    }
}

void coroutine_fn co_reschedule_self(void)
{
    Coroutine *co = coroutine_self();

    aio_co_schedule(coroutine_home(co), co);
    coroutine_yield();
}

static bool run_bhs(AioContext *ctx)
{
    AioBh *bh, *list = NULL;

    if (!atomic_load_explicit(&ctx->bhs, memory_order_relaxed)) {
        return false;
    }
    bh = atomic_exchange_explicit(&ctx->bhs, NULL, memory_order_acquire);
    while (bh) { /* oldest first */
        AioBh *next = bh->next;

        bh->next = list;
        list = bh;
        bh = next;
    }
    while (list) {
        AioBh *next = list->next;
        AioBh b = *list;

        g_free(list);
        b.fn(b.opaque);
        list = next;
    }
    return true;
}

static bool run_scheduled(AioContext *ctx)
{
    Coroutine *co, *list = NULL;

    if (!atomic_load_explicit(&ctx->scheduled, memory_order_relaxed)) {
        return false;
    }
    co = atomic_exchange_explicit(&ctx->scheduled, NULL, memory_order_acquire);
    while (co) {
        Coroutine *next = co->next;

        co->next = list;
        list = co;
        co = next;
    }
    while (list) {
        Coroutine *next = list->next;

        list->next = NULL;
        atomic_store(&list->scheduled, false);
        coroutine_enter(list);
        list = next;
    }
    return true;
}

bool aio_has_work(AioContext *ctx)
{
    return atomic_load_explicit(&ctx->bhs, memory_order_relaxed) ||
           atomic_load_explicit(&ctx->scheduled, memory_order_relaxed);
}

bool aio_run_ready(AioContext *ctx)
{
    bool progress = false;

    progress |= run_bhs(ctx);
    progress |= run_scheduled(ctx);
    progress |= aio_uring_reap(ctx);
    progress |= aio_timer_run(ctx);
    return progress;
}

/* ---- The blocking poll ---- */

/* Spin for what completes within microseconds; true if something came. */
static bool spin(AioContext *ctx)
{
    int64_t end;

    if (ctx->poll_ns == 0) {
        return false;
    }
    end = aio_clock_ns() + ctx->poll_ns;
    do {
        if (aio_has_work(ctx) || aio_uring_pending(ctx)) {
            ctx->poll_ns = MIN(ctx->poll_ns * 2, ctx->poll_max_ns);
            return true;
        }
        spin_pause();
    } while (aio_clock_ns() < end);
    ctx->poll_ns = MAX(ctx->poll_ns / 2, MIN(POLL_MIN_NS, ctx->poll_max_ns));
    return false;
}

static bool block(AioContext *ctx, int64_t timeout_ns)
{
    struct pollfd stack_fds[16], *fds = stack_fds;
    guint n = 0, max = ctx->handlers->len + 2;
    g_autofree struct pollfd *heap_fds = NULL;
    struct timespec ts, *pts = NULL;
    bool progress = false;
    int ring = aio_uring_fd(ctx);
    guint first;

    if (max > G_N_ELEMENTS(stack_fds)) {
        heap_fds = g_new(struct pollfd, max);
        fds = heap_fds;
    }
    fds[n++] = (struct pollfd){ .fd = ctx->event_fd, .events = POLLIN };
    if (ring >= 0) {
        fds[n++] = (struct pollfd){ .fd = ring, .events = POLLIN };
    }
    first = n;
    for (guint i = 0; i < ctx->handlers->len; i++) {
        AioHandler *h = g_ptr_array_index(ctx->handlers, i);

        short events = (h->io_read ? POLLIN : 0) | (h->io_write ? POLLOUT : 0);

        fds[n++] = (struct pollfd){ .fd = events ? h->fd : -1, .events = events };
    }
    if (timeout_ns >= 0) {
        ts = (struct timespec){ timeout_ns / 1000000000, timeout_ns % 1000000000 };
        pts = &ts;
    }
    if (ppoll(fds, n, pts, NULL) > 0) {
        if (fds[0].revents) {
            event_read(ctx);
            progress = true;
        }
        progress |= aio_fd_dispatch(ctx, fds + first, n - first);
    }
    return progress;
}

bool aio_poll(AioContext *ctx, bool blocking)
{
    AioContext *old = aio_set_current(ctx);
    bool progress = aio_run_ready(ctx);
    int64_t timeout = 0;

    aio_uring_flush(ctx); /* INV-AIO-2 */
    if (!progress && blocking && spin(ctx)) {
        progress = aio_run_ready(ctx);
        aio_uring_flush(ctx);
    }
    if (!progress && blocking) {
        int64_t next = aio_timer_next(ctx);

        atomic_store(&ctx->notify_me, true); /* INV-AIO-1 */
        atomic_thread_fence(memory_order_seq_cst);
        if (!aio_has_work(ctx)) {
            int64_t left = next - aio_clock_ns(); /* once: MAX would look at the clock again */

            timeout = next < 0 ? -1 : MAX(left, 0);
        }
        if (aio_uring_unsubmitted(ctx) && (timeout < 0 || timeout > RETRY_NS)) {
            timeout = RETRY_NS;
        }
        progress |= block(ctx, timeout);
        atomic_store(&ctx->notify_me, false);
        progress |= aio_run_ready(ctx);
        aio_uring_flush(ctx);
    } else if (ctx->handlers->len > 0) { /* in each iteration: busy coroutines do not starve them */
        progress |= block(ctx, 0);
    }
    aio_set_current(old);
    return progress;
}

void aio_context_set_poll(AioContext *ctx, int64_t max_ns)
{
    ctx->poll_max_ns = max_ns;
    ctx->poll_ns = MIN(max_ns, POLL_MIN_NS);
}

/* ---- The GSource ---- */

static gboolean source_prepare(GSource *source, gint *timeout)
{
    AioContext *ctx = (AioContext *)source;
    int64_t next = aio_timer_next(ctx);

    aio_uring_flush(ctx);
    *timeout = -1;
    if (next >= 0) {
        int64_t left = next - aio_clock_ns();

        *timeout = left <= 0 ? 0 : (gint)MIN((left + 999999) / 1000000, G_MAXINT);
    }
    if (aio_uring_unsubmitted(ctx) && (*timeout < 0 || *timeout > RETRY_NS / 1000000)) {
        *timeout = RETRY_NS / 1000000;
    }
    atomic_store(&ctx->notify_me, true); /* INV-AIO-1 */
    atomic_thread_fence(memory_order_seq_cst);
    return aio_has_work(ctx) || aio_uring_pending(ctx) || *timeout == 0;
}

static gboolean source_check(GSource *source)
{
    AioContext *ctx = (AioContext *)source;
    int64_t next = aio_timer_next(ctx);

    atomic_store(&ctx->notify_me, false);
    if (g_source_query_unix_fd(source, ctx->event_tag)) {
        event_read(ctx);
    }
    if (aio_has_work(ctx) || aio_uring_pending(ctx) || (next >= 0 && next <= aio_clock_ns())) {
        return TRUE;
    }
    for (guint i = 0; i < ctx->handlers->len; i++) {
        AioHandler *h = g_ptr_array_index(ctx->handlers, i);

        if (h->tag && g_source_query_unix_fd(source, h->tag)) {
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    AioContext *ctx = (AioContext *)source;
    AioContext *old = aio_set_current(ctx);

    atomic_store(&ctx->notify_me, false);
    aio_run_ready(ctx);
    if (ctx->handlers->len > 0) {
        block(ctx, 0);
    }
    aio_uring_flush(ctx);
    aio_set_current(old);
    return G_SOURCE_CONTINUE;
}

static void source_finalize(GSource *source)
{
    AioContext *ctx = (AioContext *)source;

    aio_uring_fini(ctx);
    aio_timer_fini(ctx);
    aio_fd_fini(ctx);
    run_bhs(ctx);
    if (ctx->event_fd >= 0) {
        close(ctx->event_fd);
    }
}

static GSourceFuncs source_funcs = {
    .prepare = source_prepare,
    .check = source_check,
    .dispatch = source_dispatch,
    .finalize = source_finalize,
};

AioContext *aio_context_new(GError **errp)
{
    AioContext *ctx = (AioContext *)g_source_new(&source_funcs, sizeof(AioContext));

    atomic_init(&ctx->refs, 1);
    aio_fd_init(ctx);
    ctx->timers = g_ptr_array_new();
    ctx->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (ctx->event_fd < 0) {
        error_set_errno(errp, errno, "Could not make an event loop: eventfd failed");
        g_source_unref(&ctx->source);
        return NULL;
    }
    ctx->event_tag = g_source_add_unix_fd(&ctx->source, ctx->event_fd, G_IO_IN);
    g_source_set_can_recurse(&ctx->source, TRUE);
    aio_context_set_poll(ctx, POLL_MAX_NS_DEFAULT);
    return ctx;
}

AioContext *aio_context_ref(AioContext *ctx)
{
    atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    return ctx;
}

void aio_context_unref(AioContext *ctx)
{
    if (ctx && atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) == 1) {
        g_source_unref(&ctx->source);
    }
}

GSource *aio_context_source(AioContext *ctx)
{
    return &ctx->source;
}
