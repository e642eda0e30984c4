/* SPDX-License-Identifier: MIT */
/* IoThread: a thread that runs one AioContext until it is told to stop. */
#include "util/aio-int.h"

struct IoThread {
    AioContext *ctx;
    GThread *thread;
    atomic_bool stop;
};

static gpointer run(gpointer opaque)
{
    IoThread *t = opaque;

    aio_set_current(t->ctx);
    while (!atomic_load(&t->stop)) {
        aio_poll(t->ctx, true);
    }
    while (aio_poll(t->ctx, false)) {
    }
    aio_set_current(NULL);
    return NULL;
}

IoThread *io_thread_new(const char *name, GError **errp)
{
    IoThread *t = g_new0(IoThread, 1);

    t->ctx = aio_context_new(errp);
    if (t->ctx) {
        t->thread = g_thread_try_new(name, run, t, errp);
    }
    if (!t->thread) {
        aio_context_unref(t->ctx);
        g_free(t);
        return NULL;
    }
    return t;
}

AioContext *io_thread_context(IoThread *t)
{
    return t->ctx;
}

static void nothing(void *opaque)
{
}

void io_thread_free(IoThread *t)
{
    if (!t) {
        return;
    }
    atomic_store(&t->stop, true);
    aio_bh_schedule_oneshot(t->ctx, nothing, NULL); /* wakes the loop for certain */
    g_thread_join(t->thread);
    aio_context_unref(t->ctx);
    g_free(t);
}
