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

struct AioBh {
    AioFunc *fn;
    void *opaque;
    AioBh *next;
};

typedef struct AioHandler {
    int fd;
    AioFunc *io_read, *io_write; /* both NULL: removed, freed when nobody walks the list */
    void *opaque;
    gpointer tag; /* of g_source_add_unix_fd() */
} AioHandler;

typedef struct AioPoller AioPoller;

struct AioContext {
    /* Any thread: */
    atomic_int refs;  /* of users: the last one ends it */
    atomic_int holds; /* of its memory: one for all users, one for each source */
    atomic_bool dead; /* ended, or left behind by fork(): sources of it do nothing */
    _Atomic(AioBh *) bhs;
    _Atomic(Coroutine *) scheduled;
    SpinLock timer_lock;      /* guards the next three, and timers */
    atomic_uint timers_set;   /* the length of timers; looked at without the lock */
    AioTimer *timer_running;  /* its function has not returned yet */
    GThread *timer_thread;    /* ... where */
    atomic_bool poll_waits;   /* aio_poll() is about to block, or blocks */
    atomic_bool source_waits; /* the same for the main loop that has the source */
    atomic_bool notified;     /* the eventfd has been written */
    atomic_int event_fd;      /* -1: there was no descriptor to be had; waits are short */
    atomic_int requests;     /* that ended or will end in aio_done_push(), and were not delivered */
    atomic_uintptr_t runner; /* INV-RUN-1: the thread that runs it; 0: none */
    AioContext *next, **prev; /* list of all; its lock */
    bool is_thread_default;   /* others may run it while its thread does not (INV-RUN-2) */

    /* The thread that runs it: */
    unsigned depth;            /* how often runner holds it */
    AioBh *bh_batch;           /* taken from bhs, oldest first */
    Coroutine *co_batch;       /* taken from scheduled, oldest first */
    AioDone *done, **done_end; /* ended requests whose users do not know yet, in order */
    bool ending;               /* its thread ends: requests are refused */
    bool telling_refused;      /* ... and their users are told just now */
    GSource *source;           /* NULL: none yet; may be destroyed */
    gpointer event_tag;
    GPtrArray *handlers; /* AioHandler */
    int walking;         /* depth of walks over handlers */
    GArray *pollers;     /* of AioPoller; NULL: none yet */
    int walking_pollers;
    GPtrArray *timers;   /* AioTimer that are set, latest first; timer_lock */
    AioUring *uring;     /* NULL: not made yet, or refused */
    int uring_error;     /* -errno: refused */
    int64_t uring_retry; /* ... until then (monotonic, microseconds); 0: for good */
    gpointer uring_tag;
    int64_t poll_max_ns, poll_ns;
};

/* True if one of them found something. */
bool aio_pollers_run(AioContext *ctx);
void aio_pollers_fini(AioContext *ctx);
/* Something to run now? Whoever runs it. */
bool aio_has_work(AioContext *ctx);
/* Run what is ready: bottom halves, coroutines, timers, completions. True if anything ran. */
bool aio_run_ready(AioContext *ctx);
/* The thread's running context, or NULL; never makes one. */
AioContext *aio_current_peek(void);
void aio_forget_thread_default(void); /* of this thread, after fork() */
/* Wait for events, for @timeout_ns at most (-1: any time), and call the handlers of descriptors. */
bool aio_block(AioContext *ctx, int64_t timeout_ns);
void aio_event_read(AioContext *ctx);
/* Try to have an eventfd, if there is none. */
void aio_event_ensure(AioContext *ctx);
/* One iteration that blocks for @max_ns at most (0: not, -1: any time). The context is held. */
bool aio_poll_held(AioContext *ctx, int64_t max_ns);

/* aio-run.c */
bool aio_try_acquire(AioContext *ctx);
void aio_release_quietly(AioContext *ctx); /* wakes no main loop */
/* Call @fn while nobody, or another thread, runs the context that the caller holds. */
void aio_call_out(AioContext *ctx, AioFunc *fn, void *opaque);
/* Block in @ctx, which is held, for a short time; if nothing happens, run the loops of threads that
 * do not run them themselves. */
void aio_wait_helping(AioContext *ctx);
void aio_run_register(AioContext *ctx);
void aio_run_unregister(AioContext *ctx);
void aio_run_lend(AioContext *ctx); /* a thread's own: INV-RUN-2 */

/* aio-source.c: the source takes up a descriptor, or lets go of it; the context is held. */
gpointer aio_source_add_fd(AioContext *ctx, int fd, GIOCondition cond);
void aio_source_remove_fd(AioContext *ctx, gpointer tag);
void aio_source_drop(AioContext *ctx); /* destroys it */
void aio_context_drop_hold(AioContext *ctx);

/* aio-done.c: up to @max users are told of their requests; the context is held, but not while they
 * run. True if any was told. */
bool aio_done_deliver(AioContext *ctx, unsigned max);

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
/* ... at rest from one to the other, around fork(); in the child there is no worker yet. */
void thread_pool_fork_lock(void);
void thread_pool_fork_unlock(bool child);

/* aio-uring.c */
int aio_uring_fd(AioContext *ctx);       /* to wait for completions; -1: none are due */
int aio_uring_ring_fd(AioContext *ctx);  /* -1: no ring */
bool aio_uring_pending(AioContext *ctx); /* completions to reap */
bool aio_uring_reap(AioContext *ctx);
void aio_uring_flush(AioContext *ctx);       /* submit what is queued */
bool aio_uring_unsubmitted(AioContext *ctx); /* the kernel had no room: flush again soon */
void aio_uring_fini(AioContext *ctx);

#endif
