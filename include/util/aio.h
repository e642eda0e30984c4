/* SPDX-License-Identifier: MIT */
/*
 * AioContext: one event loop, as a GSource.
 *
 * An embedder attaches it to a GMainContext that it runs, or runs aio_poll()
 * itself, or has an IoThread run it.  One thread runs a context at a time.
 * Completions are reaped and submissions batched once per iteration.
 */
#ifndef UTIL_AIO_H
#define UTIL_AIO_H

#include "util/coroutine.h"
#include <sys/uio.h>

DRIVER_API_BEGIN

typedef void AioFunc(void *opaque);
typedef struct AioTimer AioTimer;

/* A reference-counted context. (It needs an eventfd to sleep well, and makes do without while none
 * is to be had; @errp for what the system may refuse one day.) */
AioContext *aio_context_new(GError **errp);
AioContext *aio_context_ref(AioContext *ctx);
void aio_context_unref(AioContext *ctx);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AioContext, aio_context_unref)

/* Its GSource, for g_source_attach(). No new reference. The same one until it is destroyed, by
 * g_source_destroy() or with its GMainContext; then a new one. */
GSource *aio_context_source(AioContext *ctx);

/* The context that this thread runs now; else the thread's own default
 * context, made on first use (never NULL once the process can make one). */
AioContext *aio_current(void);
/* Make @ctx the current one of this thread (NULL: the default again);
 * returns the one before. aio_poll() and dispatch do it themselves. */
AioContext *aio_set_current(AioContext *ctx);

/* One thread at a time runs a context: whoever enters a coroutine or polls holds it. Recursive;
 * acquire waits. aio_poll(), the source and co_run_sync() do it themselves. */
void aio_acquire(AioContext *ctx);
void aio_release(AioContext *ctx);

/* Run one iteration; with @blocking wait for an event. True if progress. */
bool aio_poll(AioContext *ctx, bool blocking);
/* aio_poll() until !cond. */
#define AIO_WAIT_WHILE(ctx, cond)                                                                  \
    do {                                                                                           \
        while (cond) {                                                                             \
            aio_poll((ctx), true);                                                                 \
        }                                                                                          \
    } while (0)

/* Wake a blocked aio_poll() / main loop. Any thread. */
void aio_notify(AioContext *ctx);
/* How long aio_poll() spins before it blocks, in ns: 0 never (default 32 us, adaptive). */
void aio_context_set_poll(AioContext *ctx, int64_t max_ns);

/* @fn looks for what a descriptor would report later, and handles it (true) or finds nothing. It is
 * called all the time while aio_poll() spins, never in its sleep: the descriptor's handler must
 * find all of it too. From the context's own thread; @fn may remove itself. */
typedef bool AioPollFunc(void *opaque);
void aio_add_poller(AioContext *ctx, AioPollFunc *fn, void *opaque);
void aio_remove_poller(AioContext *ctx, AioPollFunc *fn, void *opaque);

/* Bottom half: run @fn once, soon, in @ctx. Any thread. */
void aio_bh_schedule_oneshot(AioContext *ctx, AioFunc *fn, void *opaque);

/* fd handlers; NULL both removes. From the context's own thread. */
void aio_set_fd_handler(AioContext *ctx, int fd, AioFunc *io_read, AioFunc *io_write, void *opaque);

/* Timers, CLOCK_MONOTONIC ns. From the context's own thread; del and free from any, after which @fn
 * runs no more. */
AioTimer *aio_timer_new(AioContext *ctx, AioFunc *fn, void *opaque);
void aio_timer_mod(AioTimer *t, int64_t expire_ns);
void aio_timer_del(AioTimer *t);
void aio_timer_free(AioTimer *t);
int64_t aio_clock_ns(void);
void coroutine_fn co_sleep_ns(int64_t ns);

/* Enter @co in @ctx on its next iteration. Any thread. */
void aio_co_schedule(AioContext *ctx, Coroutine *co);
/* Wake @co in its home context: directly if that is current and no coroutine
 * runs, else as soon as the current one yields, else by schedule. Any thread. */
void aio_co_wake(Coroutine *co);
/* Yield and come back on the next iteration of the same loop. */
void coroutine_fn co_reschedule_self(void);

/* Go on in the loop of @ctx, until it moves again: locks, queues and requests that the coroutine
 * meets there wake it there. One that co_run_sync() waits for comes back before it returns. It must
 * hold nothing that belongs to a thread. */
void coroutine_fn co_move_to(AioContext *ctx);

/* ---- Thread pool (one per process, grown on demand, bounded) ---- */
typedef int ThreadPoolFunc(void *opaque); /* returns 0 or -errno */
/* Run @fn in a worker; the coroutine sleeps; @fn's return value. */
int coroutine_fn co_thread_pool_run(ThreadPoolFunc *fn, void *opaque);

/* ---- io_uring ---- */
typedef enum AioOp { AIO_OP_READ, AIO_OP_WRITE, AIO_OP_FSYNC, AIO_OP_FDATASYNC } AioOp;
#define AIO_OPS (AIO_OP_FDATASYNC + 1)
/* False where kernel or seccomp refuse; said once at debug level. */
bool aio_uring_available(AioContext *ctx);
int aio_uring_error(AioContext *ctx); /* 0, or -errno: why they refuse */
/* Submit through the current context's ring (batched; submitted before the
 * loop blocks) and sleep until done. Bytes done (may be short) or -errno; -ENOSYS if the
 * ring is not available. @iov must live until the return.
 * @force_async: have a kernel worker do it (large buffered copies). */
ssize_t coroutine_fn aio_uring_co_rw(AioOp op, int fd, const struct iovec *iov, int niov,
                                     int64_t offset, bool force_async);

/* ---- IoThread: a thread that runs one context ---- */
typedef struct IoThread IoThread;
IoThread *io_thread_new(const char *name, GError **errp);
AioContext *io_thread_context(IoThread *t);
void io_thread_free(IoThread *t); /* stops and joins; NULL is fine */

/* ---- Requests of users ---- */

/*
 * A request that ended: its user is told by @fn from the main loop that has the context's source,
 * on the thread's own stack, in order, a bounded number in each turn; never by aio_poll(). Part of
 * what the user allocated.
 */
typedef struct AioDone AioDone;
struct AioDone {
    void (*fn)(AioDone *d); /* may free @d */
    const void *tag;        /* what it belongs to */
    bool refused;           /* aio_done_begin() did not let it run */
    AioDone *next;
};
/* A request begins; the context is held. It runs, and ends in aio_done_push(); or it is refused,
 * because the thread ends, and is pushed at once; or is to be forgotten: a user that answers to
 * each refusal with another request would never let the thread end. */
typedef enum AioBegin { AIO_BEGIN_RUN, AIO_BEGIN_REFUSE, AIO_BEGIN_FORGET } AioBegin;
AioBegin aio_done_begin(AioContext *ctx, AioDone *d);
void aio_done_push(AioContext *ctx, AioDone *d);
/* Tell those that belong to @tag, and wait in @ctx by now. Not in a coroutine. */
void aio_done_deliver_tag(AioContext *ctx, const void *tag);

/* Call @fn, which is a user's and may do anything, on the thread's own stack; the coroutine
 * sleeps. */
void coroutine_fn co_call_out(AioFunc *fn, void *opaque);

/* Times that this process is a fork()'s child: what is older belongs to a parent. */
unsigned aio_fork_generation(void);
/* Locks of other layers that fork() must find at rest: @lock before (NULL: none), @unlock after, in
 * the child with true. Once per pair. */
void aio_at_fork(void (*lock)(void), void (*unlock)(bool child));

/* ---- Synchronous runner ---- */
typedef int coroutine_fn CoRunFunc(void *opaque);
/* Run @fn as a coroutine in aio_current() and poll until it returns. In a coroutine @fn is simply
 * called. Helps loops that nobody runs (INV-RUN-2). */
int co_run_sync(CoRunFunc *fn, void *opaque);

DRIVER_API_END

#endif
