/* SPDX-License-Identifier: MIT */
/*
 * io_uring, one ring per AioContext, made on first use.  Requests are queued while coroutines run
 * and go to the kernel together when the loop comes round.
 */
#include "util/aio-int.h"

#ifdef CONFIG_IO_URING
#include <liburing.h>

#define RING_ENTRIES 256

struct AioUring {
    struct io_uring ring;
    unsigned queued;    /* not yet submitted */
    unsigned in_flight; /* submitted, not yet reaped */
};

typedef struct UringRequest {
    Coroutine *co;
    int res;
} UringRequest;

static AioUring *get_ring(AioContext *ctx)
{
    g_autofree AioUring *u = NULL;
    static atomic_bool said;
    int ret;

    if (likely(ctx->uring != NULL) || ctx->uring_refused) {
        return ctx->uring;
    }
    u = g_new0(AioUring, 1);
    ret = io_uring_queue_init(RING_ENTRIES, &u->ring, 0);
    if (ret < 0) {
        ctx->uring_refused = true;
        if (!atomic_exchange(&said, true)) {
            g_debug("io_uring is refused (%s): using threads", g_strerror(-ret));
        }
        return NULL;
    }
    ctx->uring_tag = g_source_add_unix_fd(&ctx->source, u->ring.ring_fd, G_IO_IN);
    ctx->uring = g_steal_pointer(&u);
    return ctx->uring;
}

bool aio_uring_available(AioContext *ctx)
{
    return get_ring(ctx) != NULL;
}

int aio_uring_fd(AioContext *ctx)
{
    return ctx->uring && ctx->uring->in_flight ? ctx->uring->ring.ring_fd : -1;
}

bool aio_uring_pending(AioContext *ctx)
{
    return ctx->uring && io_uring_cq_ready(&ctx->uring->ring) > 0;
}

void aio_uring_flush(AioContext *ctx)
{
    AioUring *u = ctx->uring;

    while (u && u->queued) {
        int ret = io_uring_submit(&u->ring);

        if (ret < 0) {
            if (ret == -EINTR) {
                continue;
            }
            break; /* -EAGAIN, -EBUSY: the next iteration tries again */
        }
        u->queued -= MIN((unsigned)ret, u->queued);
        u->in_flight += (unsigned)ret;
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

static struct io_uring_sqe *coroutine_fn co_get_sqe(AioContext *ctx, AioUring *u)
{
    struct io_uring_sqe *sqe;

    while (!(sqe = io_uring_get_sqe(&u->ring))) {
        aio_uring_flush(ctx);
        sqe = io_uring_get_sqe(&u->ring);
        if (sqe) {
            break;
        }
        co_reschedule_self();
    }
    return sqe;
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
    u->queued++;
    coroutine_yield();
    return r.res;
}

#else /* !CONFIG_IO_URING */

bool aio_uring_available(AioContext *ctx)
{
    return false;
}

int aio_uring_fd(AioContext *ctx)
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
