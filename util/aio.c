/* SPDX-License-Identifier: MIT */
/*
 * AioContext: the loop itself: its blocking poll, bottom halves, scheduled coroutines.
 *
 * INV-AIO-1  Whoever adds work from another thread adds it first and then looks at poll_waits and
 *            source_waits; whoever is about to block sets one of them first and then looks for
 *            work. One of them sees the other, so no wake-up is lost and the eventfd is written
 *            only for a blocked loop.
 * INV-AIO-2  Submissions go to the kernel before the loop blocks.
 * INV-AIO-3  What was taken to be run is in the context, not on a stack: a poll inside of a
 *            function that the loop calls goes on where the loop was.
 */
#include "util/aio-int.h"
#include "util/coroutine-int.h"

#include "util/error.h"
#include "util/spinlock.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define POLL_MAX_NS_DEFAULT 32000
#define POLL_MIN_NS 1000
#define RETRY_NS 1000000 /* when the kernel had no room for a submission */

static __thread AioContext *current_ctx;
static void thread_ends(gpointer p);
static GPrivate default_ctx = G_PRIVATE_INIT(thread_ends);

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
        aio_run_lend(ctx);
        g_private_set(&default_ctx, ctx);
    }
    return ctx;
}

AioContext *aio_set_current(AioContext *ctx)
{
    AioContext **slot = current_slot();
    AioContext *old = *slot;

    *slot = ctx && likely(!atomic_load_explicit(&ctx->dead, memory_order_relaxed)) ? ctx : NULL;
    return old;
}

void aio_forget_thread_default(void)
{
    *current_slot() = NULL;
    g_private_set(&default_ctx, NULL); /* not freed: the parent's, to the child */
}

/* The thread waits for what it began, and its users are told, as if its loop ran once more. */
static void thread_ends(gpointer p)
{
    AioContext *ctx = p, *old = aio_set_current(ctx);

    aio_acquire(ctx);
    ctx->ending = true;
    while (atomic_load(&ctx->requests) > 0) {
        if (!aio_done_deliver(ctx, G_MAXUINT)) {
            aio_wait_helping(ctx);
        }
    }
    aio_release_quietly(ctx);
    aio_set_current(old);
    aio_context_unref(ctx);
}

/* ---- Work from anywhere ---- */

void aio_notify(AioContext *ctx)
{
    atomic_thread_fence(memory_order_seq_cst); /* INV-AIO-1 */
    if ((atomic_load_explicit(&ctx->poll_waits, memory_order_relaxed) ||
         atomic_load_explicit(&ctx->source_waits, memory_order_relaxed)) &&
        !atomic_exchange(&ctx->notified, true)) {
        int fd = atomic_load(&ctx->event_fd);
        uint64_t one = 1;
        ssize_t n;

        do {
            n = write(fd, &one, sizeof(one)); /* without one, waits are short */
        } while (n < 0 && errno == EINTR);
    }
}

void aio_event_ensure(AioContext *ctx)
{
    int fd = atomic_load_explicit(&ctx->event_fd, memory_order_relaxed);

    if (likely(fd >= 0)) {
        return;
    }
    fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd >= 0) {
        atomic_store(&ctx->notified, false);
        atomic_store(&ctx->event_fd, fd);
        ctx->event_tag = aio_source_add_fd(ctx, fd, G_IO_IN);
    }
}

void aio_event_read(AioContext *ctx)
{
    uint64_t v;
    ssize_t n;

    do {
        n = read(atomic_load(&ctx->event_fd), &v, sizeof(v));
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

typedef struct Move {
    Coroutine *co;
    AioContext *to;
} Move;

/* In the loop that it leaves, when it has yielded there. */
static void move_bh(void *opaque)
{
    Move m = *(Move *)opaque; /* on the coroutine's stack, which may run at once */

    coroutine_set_home(m.co, m.to);
    aio_co_schedule(m.to, m.co);
}

void coroutine_fn co_move_to(AioContext *ctx)
{
    Move m = { coroutine_self(), ctx };
    AioContext *from = coroutine_home(m.co);

    if (from != ctx) {
        aio_bh_schedule_oneshot(from, move_bh, &m);
        coroutine_yield();
    }
}

/* New ones after those that an outer call left in the batch. */
static void take_bhs(AioContext *ctx)
{
    AioBh *bh = atomic_exchange_explicit(&ctx->bhs, NULL, memory_order_acquire), *list = NULL;
    AioBh **end = &ctx->bh_batch;

    while (bh) { /* oldest first */
        AioBh *next = bh->next;

        bh->next = list;
        list = bh;
        bh = next;
    }
    while (*end) {
        end = &(*end)->next;
    }
    *end = list;
}

static bool run_bhs(AioContext *ctx)
{
    bool progress = false;

    if (atomic_load_explicit(&ctx->bhs, memory_order_relaxed)) {
        take_bhs(ctx);
    }
    while (ctx->bh_batch) { /* INV-AIO-3 */
        AioBh *bh = ctx->bh_batch;
        AioBh b = *bh;

        ctx->bh_batch = bh->next;
        g_free(bh);
        b.fn(b.opaque);
        progress = true;
    }
    return progress;
}

static void take_scheduled(AioContext *ctx)
{
    Coroutine *co = atomic_exchange_explicit(&ctx->scheduled, NULL, memory_order_acquire);
    Coroutine *list = NULL, **end = &ctx->co_batch;

    while (co) {
        Coroutine *next = co->next;

        co->next = list;
        list = co;
        co = next;
    }
    while (*end) {
        end = &(*end)->next;
    }
    *end = list;
}

static bool run_scheduled(AioContext *ctx)
{
    bool progress = false;

    if (atomic_load_explicit(&ctx->scheduled, memory_order_relaxed)) {
        take_scheduled(ctx);
    }
    while (ctx->co_batch) { /* INV-AIO-3 */
        Coroutine *co = ctx->co_batch;

        ctx->co_batch = co->next;
        co->next = NULL;
        atomic_store(&co->scheduled, false);
        coroutine_enter(co);
        progress = true;
    }
    return progress;
}

bool aio_has_work(AioContext *ctx)
{
    return atomic_load_explicit(&ctx->bhs, memory_order_relaxed) ||
           atomic_load_explicit(&ctx->scheduled, memory_order_relaxed) || ctx->bh_batch ||
           ctx->co_batch;
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
        if (aio_has_work(ctx) || aio_uring_pending(ctx) || aio_pollers_run(ctx)) {
            ctx->poll_ns = MIN(ctx->poll_ns * 2, ctx->poll_max_ns);
            return true;
        }
        spin_pause();
    } while (aio_clock_ns() < end);
    ctx->poll_ns = MAX(ctx->poll_ns / 2, MIN(POLL_MIN_NS, ctx->poll_max_ns));
    return false;
}

bool aio_block(AioContext *ctx, int64_t timeout_ns)
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
    aio_event_ensure(ctx);
    fds[n++] = (struct pollfd){ .fd = atomic_load(&ctx->event_fd), .events = POLLIN };
    if (fds[0].fd < 0 && (timeout_ns < 0 || timeout_ns > RETRY_NS)) {
        timeout_ns = RETRY_NS; /* nobody can wake us */
    }
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
            aio_event_read(ctx);
            progress = true;
        }
        progress |= aio_fd_dispatch(ctx, fds + first, n - first);
    }
    return progress;
}

/* Sleep until something happens, for @max_ns at most (-1: any time). */
static bool sleep_until_event(AioContext *ctx, int64_t max_ns)
{
    int64_t next = aio_timer_next(ctx), timeout = 0;
    bool progress;

    atomic_store(&ctx->poll_waits, true); /* INV-AIO-1 */
    atomic_thread_fence(memory_order_seq_cst);
    if (!aio_has_work(ctx)) {
        int64_t left = next - aio_clock_ns(); /* once: MAX would look at the clock again */

        timeout = next < 0 ? -1 : MAX(left, 0);
    }
    if (aio_uring_unsubmitted(ctx) && (timeout < 0 || timeout > RETRY_NS)) {
        timeout = RETRY_NS;
    }
    if (max_ns >= 0 && (timeout < 0 || timeout > max_ns)) {
        timeout = max_ns;
    }
    progress = aio_block(ctx, timeout);
    atomic_store(&ctx->poll_waits, false);
    return progress;
}

bool aio_poll_held(AioContext *ctx, int64_t max_ns)
{
    bool progress = aio_run_ready(ctx);

    aio_uring_flush(ctx); /* INV-AIO-2 */
    if (!progress && max_ns != 0 && spin(ctx)) {
        progress = true; /* of a poller's, if nothing else */
        aio_run_ready(ctx);
        aio_uring_flush(ctx);
    }
    if (!progress && max_ns != 0) {
        progress |= sleep_until_event(ctx, max_ns);
        progress |= aio_run_ready(ctx);
        aio_uring_flush(ctx);
    } else if (ctx->handlers->len > 0) { /* in each iteration: busy coroutines do not starve them */
        progress |= aio_block(ctx, 0);
    }
    return progress;
}

bool aio_poll(AioContext *ctx, bool blocking)
{
    AioContext *old = aio_set_current(ctx);
    bool progress;

    aio_acquire(ctx);
    progress = aio_poll_held(ctx, blocking ? -1 : 0);
    aio_release(ctx);
    aio_set_current(old);
    return progress;
}

void aio_context_set_poll(AioContext *ctx, int64_t max_ns)
{
    ctx->poll_max_ns = max_ns;
    ctx->poll_ns = MIN(max_ns, POLL_MIN_NS);
}

/* ---- Life ---- */

AioContext *aio_context_new(GError **errp)
{
    AioContext *ctx = g_new0(AioContext, 1);

    atomic_init(&ctx->refs, 1);
    atomic_init(&ctx->holds, 1);
    aio_fd_init(ctx);
    ctx->timers = g_ptr_array_new();
    ctx->done_end = &ctx->done;
    atomic_init(&ctx->event_fd, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    aio_context_set_poll(ctx, POLL_MAX_NS_DEFAULT);
    aio_run_register(ctx);
    return ctx;
}

AioContext *aio_context_ref(AioContext *ctx)
{
    atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    return ctx;
}

void aio_context_drop_hold(AioContext *ctx)
{
    if (atomic_fetch_sub_explicit(&ctx->holds, 1, memory_order_acq_rel) == 1) {
        g_free(ctx);
    }
}

/* No user is left; a main loop of another thread may just be looking at its source. */
static void context_end(AioContext *ctx)
{
    int fd = atomic_load(&ctx->event_fd);

    aio_run_unregister(ctx);
    aio_acquire(ctx);
    run_bhs(ctx);
    atomic_store(&ctx->dead, true);
    aio_source_drop(ctx);
    aio_uring_fini(ctx);
    aio_timer_fini(ctx);
    aio_fd_fini(ctx);
    aio_pollers_fini(ctx);
    aio_release_quietly(ctx);
    if (fd >= 0) {
        close(fd);
    }
    aio_context_drop_hold(ctx);
}

void aio_context_unref(AioContext *ctx)
{
    if (ctx && atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) == 1) {
        context_end(ctx);
    }
}
