/* SPDX-License-Identifier: MIT */
/*
 * io_uring, one ring per AioContext, made on first use.  Requests are queued while coroutines run
 * and go to the kernel together when the loop comes round.
 */
#include "util/aio-int.h"

#ifdef CONFIG_IO_URING
#include <liburing.h>
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif

#define RING_ENTRIES 256

typedef struct UringRequest UringRequest; /* lives on the stack of its coroutine */

struct AioUring {
    struct io_uring ring;
    UringRequest *head, **tail; /* not yet submitted, in the order of the ring */
    unsigned queued;            /* ... how many */
    unsigned in_flight;         /* submitted, not yet reaped */
};

struct UringRequest {
    Coroutine *co;
    UringRequest *next;
    int res;
};

#define RETRY_AFTER G_USEC_PER_SEC

/* From now on callers are told -ENOSYS, and use threads: for good, or for a while where the error
 * tells of the moment and not of the kernel. */
static void refuse(AioContext *ctx, int err)
{
    static atomic_bool said;
    bool passing = err == -EMFILE || err == -ENFILE || err == -ENOMEM || err == -EAGAIN;

    ctx->uring_error = err;
    ctx->uring_retry = passing && !ctx->uring ? g_get_monotonic_time() + RETRY_AFTER : 0;
    if (!atomic_exchange(&said, true)) {
        g_debug("io_uring is refused (%s): using threads", g_strerror(-err));
    }
}

/* A first request that does nothing: a filter may allow the ring and refuse its use. 0 or
 * -errno. */
static int try_ring(struct io_uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    struct io_uring_cqe *cqe;
    int ret;

    io_uring_prep_nop(sqe);
    do {
        ret = io_uring_submit_and_wait(ring, 1);
    } while (ret == -EINTR);
    ret = ret < 0 ? ret : io_uring_peek_cqe(ring, &cqe);
    if (ret == 0) {
        io_uring_cqe_seen(ring, cqe);
    }
    return ret;
}

static AioUring *get_ring(AioContext *ctx)
{
    g_autofree AioUring *u = NULL;
    int ret;

    if (unlikely(ctx->uring_error)) {
        if (ctx->uring_retry == 0 || g_get_monotonic_time() < ctx->uring_retry) {
            return NULL;
        }
        ctx->uring_error = 0;
    }
    if (likely(ctx->uring != NULL)) {
        return ctx->uring;
    }
    u = g_new0(AioUring, 1);
    u->tail = &u->head;
    ret = io_uring_queue_init(RING_ENTRIES, &u->ring, 0);
    if (ret == 0) {
        ret = try_ring(&u->ring);
        if (ret < 0) {
            io_uring_queue_exit(&u->ring);
        }
    }
    if (ret < 0) {
        refuse(ctx, ret);
        return NULL;
    }
    ctx->uring_tag = aio_source_add_fd(ctx, u->ring.ring_fd, G_IO_IN);
    ctx->uring = g_steal_pointer(&u);
    return ctx->uring;
}

bool aio_uring_available(AioContext *ctx)
{
    return get_ring(ctx) != NULL;
}

int aio_uring_error(AioContext *ctx)
{
    return get_ring(ctx) ? 0 : ctx->uring_error;
}

int aio_uring_fd(AioContext *ctx)
{
    return ctx->uring && ctx->uring->in_flight ? ctx->uring->ring.ring_fd : -1;
}

int aio_uring_ring_fd(AioContext *ctx)
{
    return ctx->uring ? ctx->uring->ring.ring_fd : -1;
}

bool aio_uring_pending(AioContext *ctx)
{
    return ctx->uring && io_uring_cq_ready(&ctx->uring->ring) > 0;
}

bool aio_uring_unsubmitted(AioContext *ctx)
{
    return ctx->uring && ctx->uring->queued > 0;
}

static UringRequest *pop_queued(AioUring *u)
{
    UringRequest *r = u->head;

    u->head = r->next;
    if (!u->head) {
        u->tail = &u->head;
    }
    u->queued--;
    return r;
}

/* A sandbox closed io_uring_enter() to us after the ring was made: nothing is ever submitted again;
 * what is in flight is still reaped. */
static void give_up(AioContext *ctx, int err)
{
    AioUring *u = ctx->uring;

    refuse(ctx, err);
    while (u->queued) {
        UringRequest *r = pop_queued(u);

        r->res = -ENOSYS;
        aio_co_schedule(ctx, r->co);
    }
}

void aio_uring_flush(AioContext *ctx)
{
    AioUring *u = ctx->uring;

    while (u && u->queued) {
        int ret = io_uring_submit(&u->ring);

        if (ret == -EINTR) {
            continue;
        }
        if (ret == 0 || ret == -EAGAIN || ret == -EBUSY) {
            break; /* no room: the next iteration tries again */
        }
        if (ret < 0) {
            give_up(ctx, ret);
            break;
        }
        for (int i = 0; i < ret && u->queued; i++) {
            pop_queued(u);
            u->in_flight++;
        }
    }
}

bool aio_uring_reap(AioContext *ctx)
{
    AioUring *u = ctx->uring;
    struct io_uring_cqe *cqe;
    bool progress = false;

    if (!u) {
        return false;
    }
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        UringRequest *r = io_uring_cqe_get_data(cqe);

        r->res = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        u->in_flight--;
        progress = true;
        aio_co_wake(r->co);
    }
    return progress;
}

void aio_uring_fini(AioContext *ctx)
{
    if (ctx->uring) {
        io_uring_queue_exit(&ctx->uring->ring);
        g_clear_pointer(&ctx->uring, g_free);
    }
}

/* NULL: the ring was given up meanwhile. */
static struct io_uring_sqe *coroutine_fn co_get_sqe(AioContext *ctx, AioUring *u)
{
    struct io_uring_sqe *sqe;

    while (!(sqe = io_uring_get_sqe(&u->ring))) {
        aio_uring_flush(ctx);
        if (unlikely(ctx->uring_error)) {
            return NULL;
        }
        sqe = io_uring_get_sqe(&u->ring);
        if (sqe) {
            break;
        }
        co_reschedule_self();
        if (unlikely(ctx->uring_error)) {
            return NULL;
        }
    }
    return sqe;
}

/* The kernel wrote @n bytes where valgrind saw no system call do it. */
static void tell_valgrind(const struct iovec *iov, ssize_t n)
{
#ifdef VALGRIND_MAKE_MEM_DEFINED
    for (; n > 0; n -= (ssize_t)iov->iov_len, iov++) {
        VALGRIND_MAKE_MEM_DEFINED(iov->iov_base, MIN((size_t)n, iov->iov_len));
    }
#endif
}

ssize_t coroutine_fn aio_uring_co_rw(AioOp op, int fd, const struct iovec *iov, int niov,
                                     int64_t offset, bool force_async)
{
    AioContext *ctx = coroutine_home(coroutine_self());
    AioUring *u = get_ring(ctx);
    UringRequest r = { .co = coroutine_self() };
    struct io_uring_sqe *sqe;

    if (!u) {
        return -ENOSYS;
    }
    sqe = co_get_sqe(ctx, u);
    if (unlikely(!sqe)) {
        return -ENOSYS;
    }
    switch (op) {
    case AIO_OP_READ:
        io_uring_prep_readv(sqe, fd, iov, (unsigned)niov, (uint64_t)offset);
        break;
    case AIO_OP_WRITE:
        io_uring_prep_writev(sqe, fd, iov, (unsigned)niov, (uint64_t)offset);
        break;
    case AIO_OP_FSYNC:
        io_uring_prep_fsync(sqe, fd, 0);
        break;
    case AIO_OP_FDATASYNC:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    }
    if (force_async) {
        io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
    }
    io_uring_sqe_set_data(sqe, &r);
    *u->tail = &r;
    u->tail = &r.next;
    u->queued++;
    coroutine_yield();
    if (op == AIO_OP_READ) {
        tell_valgrind(iov, r.res);
    }
    return r.res;
}

#else /* !CONFIG_IO_URING */

bool aio_uring_available(AioContext *ctx)
{
    return false;
}

int aio_uring_error(AioContext *ctx)
{
    return -ENOSYS;
}

int aio_uring_fd(AioContext *ctx)
{
    return -1;
}

int aio_uring_ring_fd(AioContext *ctx)
{
    return -1;
}

bool aio_uring_pending(AioContext *ctx)
{
    return false;
}

void aio_uring_flush(AioContext *ctx)
{
}

bool aio_uring_unsubmitted(AioContext *ctx)
{
    return false;
}

bool aio_uring_reap(AioContext *ctx)
{
    return false;
}

void aio_uring_fini(AioContext *ctx)
{
}

ssize_t coroutine_fn aio_uring_co_rw(AioOp op, int fd, const struct iovec *iov, int niov,
                                     int64_t offset, bool force_async)
{
    return -ENOSYS;
}

#endif
