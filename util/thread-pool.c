/* SPDX-License-Identifier: MIT */
/*
 * The process's pool of worker threads for calls that block: bounded, grown on demand; a thread
 * that is idle for some seconds ends.  (GLib's pool leaves a job in its queue for ever when no
 * thread can be made.)
 *
 * INV-POOL-1  A job is queued only while there is a thread, which looks into the queue before it
 *             ends; where there is none to be had, the caller does the job itself.
 */
#include "util/aio-int.h"
#include "util/thread-mutex.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#define MAX_THREADS 64
#define IDLE_SECONDS 10

typedef struct PoolItem { /* on the stack of its coroutine, or on the heap */
    ThreadPoolFunc *fn;
    void *opaque;
    Coroutine *co; /* who waits; NULL: nobody, the item is on the heap */
    int ret;
    struct PoolItem *next;
} PoolItem;

static struct {
    ThreadMutex lock; /* guards the fields below */
    pthread_cond_t cond;
    PoolItem *head, *tail;
    unsigned queued, threads, idle;
} pool = { .lock = THREAD_MUTEX_INIT, .cond = PTHREAD_COND_INITIALIZER };

/* NULL: none came for too long, the thread is to end. */
static PoolItem *pop(void) REQUIRES_LOCK(pool.lock)
{
    PoolItem *item;
    struct timespec until;
    bool late = false;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += IDLE_SECONDS;
    while (!pool.head && !late) {
        pool.idle++;
        late = pthread_cond_timedwait(&pool.cond, &pool.lock.m, &until) == ETIMEDOUT;
        pool.idle--;
    }
    item = pool.head;
    if (item) {
        pool.head = item->next;
        pool.queued--;
    }
    return item;
}

static void run(PoolItem *item)
{
    if (item->co) {
        item->ret = item->fn(item->opaque);
        aio_co_schedule(coroutine_home(item->co), item->co); /* the item is gone */
    } else {
        item->fn(item->opaque);
        g_free(item);
    }
}

static void *worker(void *unused)
{
    PoolItem *item;

    thread_mutex_lock(&pool.lock);
    while ((item = pop())) {
        thread_mutex_unlock(&pool.lock);
        run(item);
        thread_mutex_lock(&pool.lock);
    }
    pool.threads--;
    thread_mutex_unlock(&pool.lock);
    return NULL;
}

/* Under the lock, so that the count of threads is true. The embedder's signals are not for our
 * threads. */
static void add_thread(void) REQUIRES_LOCK(pool.lock)
{
    pthread_attr_t attr;
    sigset_t all, old;
    pthread_t t;

    if (pthread_attr_init(&attr) != 0) {
        return;
    }
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&t, &attr, worker, NULL) == 0) {
        pool.threads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
}

/* False: there is no thread. */
static bool push(PoolItem *item)
{
    bool queued;

    thread_mutex_lock(&pool.lock);
    if (pool.idle <= pool.queued && pool.threads < MAX_THREADS) {
        add_thread();
    }
    queued = pool.threads > 0;
    if (queued) {
        if (pool.head) {
            pool.tail->next = item;
        } else {
            pool.head = item;
        }
        pool.tail = item;
        pool.queued++;
        pthread_cond_signal(&pool.cond);
    }
    thread_mutex_unlock(&pool.lock);
    return queued;
}

void thread_pool_fork_lock(void) UNCHECKED_LOCKS
{
    thread_mutex_lock(&pool.lock);
}

void thread_pool_fork_unlock(bool child) UNCHECKED_LOCKS
{
    if (child) { /* the threads are the parent's, and so is what they wait for */
        pool.head = pool.tail = NULL;
        pool.queued = pool.threads = pool.idle = 0;
        pthread_cond_init(&pool.cond, NULL);
    }
    thread_mutex_unlock(&pool.lock);
}

int coroutine_fn co_thread_pool_run(ThreadPoolFunc *fn, void *opaque)
{
    PoolItem item = { .fn = fn, .opaque = opaque, .co = coroutine_self() };

    if (unlikely(!push(&item))) {
        return fn(opaque);
    }
    coroutine_yield();
    return item.ret;
}

void thread_pool_push(ThreadPoolFunc *fn, void *opaque)
{
    PoolItem *item = g_new0(PoolItem, 1);

    item->fn = fn;
    item->opaque = opaque;
    if (unlikely(!push(item))) {
        run(item);
    }
}
