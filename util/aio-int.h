/* SPDX-License-Identifier: MIT */
/* Inside of the event loop: what aio*.c share. */
#ifndef UTIL_AIO_INT_H
#define UTIL_AIO_INT_H

#include "util/aio.h"
#include "util/coroutine-int.h"
#include "util/spinlock.h"

#include <poll.h>

typedef struct AioBh AioBh;
typedef struct AioUring AioUring;

typedef struct AioHandler {
    int fd;
    AioFunc *io_read, *io_write; /* both NULL: removed, freed when nobody walks the list */
    void *opaque;
    gpointer tag; /* of g_source_add_unix_fd() */
} AioHandler;

struct AioContext {
    GSource source; /* first: the context is its source */

    /* Any thread: */
    atomic_int refs; /* all of them hold one reference to the source */
    _Atomic(AioBh *) bhs;
    _Atomic(Coroutine *) scheduled;
    SpinLock timer_lock;     /* guards the next three, and timers */
    atomic_uint timers_set;  /* the length of timers; looked at without the lock */
    AioTimer *timer_running; /* its function has not returned yet */
    GThread *timer_thread;   /* ... where */
    atomic_bool notify_me;   /* the loop is about to block, or blocks */
    atomic_bool notified;    /* the eventfd has been written */
    int event_fd;

    /* The thread that runs it: */
    gpointer event_tag;
    GPtrArray *handlers; /* AioHandler */
    int walking;         /* depth of walks over handlers */
    GPtrArray *timers;   /* AioTimer that are set, latest first; timer_lock */
    AioUring *uring;     /* NULL: not made yet, or refused */
    int uring_error;     /* -errno: refused */
    int64_t uring_retry; /* ... until then (monotonic, microseconds); 0: for good */
    gpointer uring_tag;
    int64_t poll_max_ns, poll_ns;
};

/* Something to run now? Any thread. */
bool aio_has_work(AioContext *ctx);
/* Run what is ready: bottom halves, coroutines, timers, completions. True if anything ran. */
bool aio_run_ready(AioContext *ctx);
/* The thread's running context, or NULL; never makes one. */
AioContext *aio_current_peek(void);

/* aio-fd.c */
void aio_fd_init(AioContext *ctx);
void aio_fd_fini(AioContext *ctx);
bool aio_fd_dispatch(AioContext *ctx, const struct pollfd *fds, guint n);

/* aio-timer.c */
int64_t aio_timer_next(AioContext *ctx); /* ns of the earliest, -1: none */
bool aio_timer_run(AioContext *ctx);
void aio_timer_fini(AioContext *ctx);

/* thread-pool.c: run @fn in a worker some time; nobody waits for it. (At once, here, if no thread
 * can be had.) */
void thread_pool_push(ThreadPoolFunc *fn, void *opaque);

/* aio-uring.c */
int aio_uring_fd(AioContext *ctx);       /* -1: none */
bool aio_uring_pending(AioContext *ctx); /* completions to reap */
bool aio_uring_reap(AioContext *ctx);
void aio_uring_flush(AioContext *ctx);       /* submit what is queued */
bool aio_uring_unsubmitted(AioContext *ctx); /* the kernel had no room: flush again soon */
void aio_uring_fini(AioContext *ctx);

#endif
