/* SPDX-License-Identifier: MIT */
/* The process's pool of worker threads for calls that block: GLib's, bounded, grown on demand. */
#include "util/aio-int.h"

#define MAX_THREADS 64

typedef struct PoolItem {
    ThreadPoolFunc *fn;
    void *opaque;
    Coroutine *co;
    int ret;
} PoolItem;

static void worker(gpointer data, gpointer user)
{
    PoolItem *item = data;

    item->ret = item->fn(item->opaque);
    aio_co_schedule(coroutine_home(item->co), item->co);
}

static gpointer pool_new(gpointer data)
{
    return g_thread_pool_new(worker, NULL, MAX_THREADS, FALSE, NULL);
}

int coroutine_fn co_thread_pool_run(ThreadPoolFunc *fn, void *opaque)
{
    static GOnce once = G_ONCE_INIT;
    PoolItem item = { fn, opaque, coroutine_self(), 0 };
    GThreadPool *pool = g_once(&once, pool_new, NULL);

    g_thread_pool_push(pool, &item, NULL); /* without a new thread, an old one takes it */
    coroutine_yield();
    return item.ret;
}
