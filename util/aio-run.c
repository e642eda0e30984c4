/* SPDX-License-Identifier: MIT */
/*
 * Who runs a context: one thread at a time, its own as a rule.
 *
 * INV-RUN-1  Coroutines of a context run, and its fields are used, by the thread that `runner`
 *            names. Users' functions are called without it (INV-DONE-1).
 * INV-RUN-2  A thread that waits for a request, and sees nothing happen for a while, runs the loops
 *            of threads that have requests under way and do not run them now: they may hold what it
 *            waits for, and sleep elsewhere, or never come back. What such a request tells its user
 *            stays for its own thread.
 * INV-RUN-3  After fork() the child has nothing of the parent's contexts: their descriptors stand
 *            for nothing, and no thread is theirs.
 */
#include "util/aio-int.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define HELP_AFTER_NS 10000000
#define HELPED_AT_ONCE 64
#define SPINS 100
#define ACQUIRE_SLEEP_US 50

static struct {
    SpinLock lock;
    AioContext *head;           /* all contexts; lock */
    atomic_uint thread_default; /* how many of them are threads' own */
} all;

/* ---- The runner ---- */

static uintptr_t self_id(void)
{
    static __thread char mark; /* its address is the thread */

    return (uintptr_t)&mark;
}

bool aio_try_acquire(AioContext *ctx)
{
    uintptr_t me = self_id(), none = 0;

    if (atomic_load_explicit(&ctx->runner, memory_order_relaxed) == me) {
        ctx->depth++;
        return true;
    }
    if (!atomic_compare_exchange_strong_explicit(&ctx->runner, &none, me, memory_order_acquire,
                                                 memory_order_relaxed)) {
        return false;
    }
    ctx->depth = 1;
    return true;
}

/* Another thread runs it: for a short time as a rule. */
static void wait_acquire(AioContext *ctx)
{
    for (unsigned n = 0; !aio_try_acquire(ctx); n++) {
        if (n < SPINS) {
            spin_pause();
        } else {
            g_usleep(ACQUIRE_SLEEP_US);
        }
    }
}

void aio_acquire(AioContext *ctx)
{
    if (unlikely(!aio_try_acquire(ctx))) {
        wait_acquire(ctx);
    }
}

void aio_release_quietly(AioContext *ctx)
{
    if (--ctx->depth == 0) {
        atomic_store_explicit(&ctx->runner, 0, memory_order_release);
    }
}

void aio_release(AioContext *ctx)
{
    bool left = ctx->depth == 1 && (ctx->done || aio_has_work(ctx) || aio_uring_unsubmitted(ctx));

    aio_release_quietly(ctx);
    if (unlikely(left)) {
        aio_notify(ctx); /* it may be the main loop's turn */
    }
}

void aio_call_out(AioContext *ctx, AioFunc *fn, void *opaque)
{
    unsigned depth = ctx->depth;

    ctx->depth = 1;
    aio_release_quietly(ctx);
    fn(opaque);
    aio_acquire(ctx);
    ctx->depth = depth;
}

/* ---- All contexts ---- */

static void fork_init(void);

void aio_run_register(AioContext *ctx)
{
    fork_init();
    spin_lock(&all.lock);
    ctx->next = all.head;
    ctx->prev = &all.head;
    if (ctx->next) {
        ctx->next->prev = &ctx->next;
    }
    all.head = ctx;
    spin_unlock(&all.lock);
}

void aio_run_unregister(AioContext *ctx)
{
    spin_lock(&all.lock);
    if (ctx->prev) {
        *ctx->prev = ctx->next;
        if (ctx->next) {
            ctx->next->prev = ctx->prev;
        }
        ctx->prev = NULL;
    }
    spin_unlock(&all.lock);
    if (ctx->is_thread_default) {
        atomic_fetch_sub(&all.thread_default, 1);
    }
}

void aio_run_lend(AioContext *ctx)
{
    spin_lock(&all.lock);
    ctx->is_thread_default = true;
    spin_unlock(&all.lock);
    atomic_fetch_add(&all.thread_default, 1);
}

/* A reference that is not the last: somebody holds one, or it is being ended. */
static bool try_ref(AioContext *ctx)
{
    int refs = atomic_load(&ctx->refs);

    while (refs > 0 && !atomic_compare_exchange_weak(&ctx->refs, &refs, refs + 1)) {
    }
    return refs > 0;
}

static bool needs_help(AioContext *ctx, AioContext *self)
{
    return ctx != self && ctx->is_thread_default && atomic_load(&ctx->requests) > 0 &&
           !atomic_load(&ctx->runner);
}

static void help(AioContext *ctx)
{
    AioContext *old;

    if (aio_try_acquire(ctx)) {
        old = aio_set_current(ctx);
        (void)aio_poll_held(ctx, 0);
        aio_set_current(old);
        aio_release(ctx);
    }
}

static void help_others(AioContext *self)
{
    AioContext *found[HELPED_AT_ONCE];
    unsigned n = 0;

    spin_lock(&all.lock);
    for (AioContext *c = all.head; c && n < HELPED_AT_ONCE; c = c->next) {
        if (needs_help(c, self) && try_ref(c)) {
            found[n++] = c;
        }
    }
    spin_unlock(&all.lock);
    for (unsigned i = 0; i < n; i++) {
        help(found[i]);
        aio_context_unref(found[i]);
    }
}

void aio_wait_helping(AioContext *ctx)
{
    bool alone = atomic_load_explicit(&all.thread_default, memory_order_relaxed) <= 1;

    if (!aio_poll_held(ctx, alone ? -1 : HELP_AFTER_NS) && !alone) {
        help_others(ctx); /* INV-RUN-2 */
    }
}

/* ---- fork() ---- */

#define LAYERS 4

static SpinLock layers_lock; /* held over a fork: who was locked is who is unlocked */
static struct {
    void (*lock)(void);
    void (*unlock)(bool child);
} layers[LAYERS];
static unsigned nlayers;
static atomic_uint generation;

unsigned aio_fork_generation(void)
{
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

void aio_at_fork(void (*lock)(void), void (*unlock)(bool child))
{
    spin_lock(&layers_lock);
    g_assert(nlayers < LAYERS);
    layers[nlayers].lock = lock;
    layers[nlayers].unlock = unlock;
    nlayers++;
    spin_unlock(&layers_lock);
}

static void before_fork(void) UNCHECKED_LOCKS
{
    spin_lock(&layers_lock);
    for (unsigned i = nlayers; i-- > 0;) { /* upper layers first */
        if (layers[i].lock) {
            layers[i].lock();
        }
    }
    thread_pool_fork_lock();
    spin_lock(&all.lock);
    coroutine_fork_lock();
}

static void after_fork(bool child) UNCHECKED_LOCKS
{
    coroutine_fork_unlock();
    spin_unlock(&all.lock);
    thread_pool_fork_unlock(child);
    for (unsigned i = 0; i < nlayers; i++) {
        layers[i].unlock(child);
    }
    spin_unlock(&layers_lock);
}

static void after_fork_parent(void)
{
    after_fork(false);
}

/* In its place a descriptor of our own on which nothing ever happens: a main loop that goes on in
 * the child has it in its list. */
static void replace(int fd, int idle)
{
    if (fd >= 0 && idle >= 0) {
        (void)dup3(idle, fd, O_CLOEXEC);
    } else if (fd >= 0) {
        close(fd);
    }
}

static void after_fork_child(void)
{
    int idle = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    for (AioContext *c = all.head, *next; c; c = next) {
        next = c->next;
        c->next = NULL;
        c->prev = NULL;
        atomic_store(&c->dead, true);
        atomic_store(&c->runner, 0); /* whoever held it is not here, or comes back to it */
        replace(atomic_load(&c->event_fd), idle);
        replace(aio_uring_ring_fd(c), idle);
    }
    if (idle >= 0) {
        close(idle);
    }
    all.head = NULL;
    atomic_store(&all.thread_default, 0);
    atomic_fetch_add(&generation, 1);
    aio_forget_thread_default();
    after_fork(true);
}

static gpointer fork_register(gpointer unused)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
    return NULL;
}

static void fork_init(void)
{
    static GOnce once = G_ONCE_INIT;

    g_once(&once, fork_register, NULL);
}
