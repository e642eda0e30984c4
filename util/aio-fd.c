/* SPDX-License-Identifier: MIT */
/* fd handlers of an AioContext. A handler may remove itself or others while it runs. */
#include "util/aio-int.h"

#include <poll.h>

void aio_fd_init(AioContext *ctx)
{
    ctx->handlers = g_ptr_array_new_with_free_func(g_free);
}

void aio_fd_fini(AioContext *ctx)
{
    g_clear_pointer(&ctx->handlers, g_ptr_array_unref);
}

static AioHandler *find(AioContext *ctx, int fd)
{
    for (guint i = 0; i < ctx->handlers->len; i++) {
        AioHandler *h = g_ptr_array_index(ctx->handlers, i);

        if (h->fd == fd && (h->io_read || h->io_write)) {
            return h;
        }
    }
    return NULL;
}

static void sweep(AioContext *ctx)
{
    for (guint i = ctx->handlers->len; ctx->walking == 0 && i-- > 0;) {
        AioHandler *h = g_ptr_array_index(ctx->handlers, i);

        if (!h->io_read && !h->io_write) {
            g_ptr_array_remove_index(ctx->handlers, i);
        }
    }
}

void aio_set_fd_handler(AioContext *ctx, int fd, AioFunc *io_read, AioFunc *io_write, void *opaque)
{
    AioHandler *h = find(ctx, fd);
    GIOCondition cond = (io_read ? G_IO_IN : 0) | (io_write ? G_IO_OUT : 0);

    if (h && h->tag) {
        aio_source_remove_fd(ctx, h->tag);
        h->tag = NULL;
    }
    if (!h && cond) {
        h = g_new0(AioHandler, 1);
        h->fd = fd;
        g_ptr_array_add(ctx->handlers, h);
    }
    if (h) {
        h->io_read = io_read;
        h->io_write = io_write;
        h->opaque = opaque;
        h->tag = cond ? aio_source_add_fd(ctx, fd, cond) : NULL;
    }
    sweep(ctx);
}

bool aio_fd_dispatch(AioContext *ctx, const struct pollfd *fds, guint n)
{
    bool progress = false;

    ctx->walking++;
    for (guint i = 0; i < n; i++) {
        AioHandler *h = g_ptr_array_index(ctx->handlers, i);

        if (h->fd != fds[i].fd) {
            continue;
        }
        if ((fds[i].revents & (POLLIN | POLLHUP | POLLERR)) && h->io_read) {
            h->io_read(h->opaque);
            progress = true;
        }
        if ((fds[i].revents & (POLLOUT | POLLERR)) && h->io_write) {
            h->io_write(h->opaque);
            progress = true;
        }
    }
    ctx->walking--;
    sweep(ctx);
    return progress;
}
