/* SPDX-License-Identifier: MIT */
/* The process's pool of worker threads for calls that block: GLib's, bounded, grown on demand. */
#include "util/aio-int.h"

#ifdef CO_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#define MAX_THREADS 64

typedef struct PoolItem {
    ThreadPoolFunc *fn;
    void *opaque;
    Coroutine *co; /* who waits; NULL: nobody, the item is on the heap */
    int ret;
} PoolItem;

/* GLib's locks are not instrumented: tell TSan of the hand-over that they make. */
static void handed_over(PoolItem *item)
{
#ifdef CO_TSAN
    __tsan_release(item);
#endif
}

static void taken_over(PoolItem *item)
{
#ifdef CO_TSAN
    __tsan_acquire(item);
#endif
}

static void worker(gpointer data, gpointer user)
{
    PoolItem *item = data;

    taken_over(item);
    if (!item->co) {
        PoolItem it = *item;

        g_free(item);
        it.fn(it.opaque);
        return;
    }
    item->ret = item->fn(item->opaque);
    aio_co_schedule(coroutine_home(item->co), item->co);
}

static gpointer pool_new(gpointer data)
{
    return g_thread_pool_new(worker, NULL, MAX_THREADS, FALSE, NULL);
}

static void push(PoolItem *item)
{
    static GOnce once = G_ONCE_INIT;
    GThreadPool *pool = g_once(&once, pool_new, NULL);

    handed_over(item);
    g_thread_pool_push(pool, item, NULL); /* without a new thread, an old one takes it */
}

int coroutine_fn co_thread_pool_run(ThreadPoolFunc *fn, void *opaque)
{
    PoolItem item = { fn, opaque, coroutine_self(), 0 };

    push(&item);
    coroutine_yield();
    return item.ret;
}

void thread_pool_push(ThreadPoolFunc *fn, void *opaque)
{
    PoolItem *item = g_new0(PoolItem, 1);

    item->fn = fn;
    item->opaque = opaque;
    push(item);
}
