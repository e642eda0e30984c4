/* SPDX-License-Identifier: MIT */
/* The thread pool: results, jobs that run at the same time, many more jobs than threads, several
 * loops, and a loop that ends right behind its last job. */
/* Shows INV-POOL-1. */
#include "sandbox.h"

#include "util/aio.h"
#include "util/work-lane.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

typedef struct Shared {
    pthread_mutex_t lock; /* not GLib's, which TSan cannot see */
    pthread_cond_t cond;
    int inside, most, meet;
    atomic_int left, sum;
    WorkLane *lane;
} Shared;

static int meet_job(void *opaque)
{
    Shared *s = opaque;

    pthread_mutex_lock(&s->lock);
    s->inside++;
    s->most = MAX(s->most, s->inside);
    pthread_cond_broadcast(&s->cond);
    while (s->inside < s->meet) {
        pthread_cond_wait(&s->cond, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return -EILSEQ;
}

static void coroutine_fn meet_entry(void *opaque)
{
    Shared *s = opaque;

    g_assert_cmpint(co_thread_pool_run(meet_job, s), ==, -EILSEQ);
    atomic_fetch_sub(&s->left, 1);
}

/* Each job waits for all of the others: they need a thread each. */
static void test_parallel(void)
{
    Shared s = { .meet = 16, .left = 16 };

    pthread_mutex_init(&s.lock, NULL);
    pthread_cond_init(&s.cond, NULL);
    for (int i = 0; i < 16; i++) {
        coroutine_enter(coroutine_create(meet_entry, &s));
    }
    AIO_WAIT_WHILE(aio_current(), atomic_load(&s.left) > 0);
    g_assert_cmpint(s.most, ==, 16);
    pthread_mutex_destroy(&s.lock);
    pthread_cond_destroy(&s.cond);
}

static int add_job(void *opaque)
{
    Shared *s = opaque;

    return atomic_fetch_add(&s->sum, 1) >= 0 ? 0 : -EIO;
}

static void coroutine_fn add_entry(void *opaque)
{
    Shared *s = opaque;

    for (int i = 0; i < 10; i++) {
        AioContext *home = coroutine_home(coroutine_self());

        g_assert_cmpint(co_thread_pool_run(add_job, s), ==, 0);
        g_assert_true(aio_current() == home);
    }
    atomic_fetch_sub(&s->left, 1);
}

static void test_many(void)
{
    Shared s = { .left = 600 };
    IoThread *t[3];

    for (int i = 0; i < 3; i++) {
        t[i] = io_thread_new("loop", NULL);
    }
    for (int i = 0; i < 600; i++) {
        aio_co_schedule(io_thread_context(t[i % 3]), coroutine_create(add_entry, &s));
    }
    while (atomic_load(&s.left) > 0) {
        g_usleep(1000);
    }
    for (int i = 0; i < 3; i++) {
        io_thread_free(t[i]);
    }
    g_assert_cmpint(s.sum, ==, 6000);
}

static void coroutine_fn once_entry(void *opaque)
{
    Shared *s = opaque;

    g_assert_cmpint(co_thread_pool_run(add_job, s), ==, 0);
    atomic_fetch_sub(&s->left, 1);
}

/* The worker wakes a loop that may be gone the moment the job is seen done. */
static void test_loop_ends(void)
{
    for (int i = 0; i < 300; i++) {
        IoThread *t = io_thread_new("short", NULL);
        Shared s = { .left = 1 };

        aio_co_schedule(io_thread_context(t), coroutine_create(once_entry, &s));
        while (atomic_load(&s.left) > 0) {
        }
        io_thread_free(t);
    }
}

static int coroutine_fn one_job(void *opaque)
{
    return co_thread_pool_run(add_job, opaque);
}

static int coroutine_fn lane_job(void *opaque)
{
    return work_lane_co_run(((Shared *)opaque)->lane, add_job, opaque);
}

/* No thread to be had: the job is done all the same. */
static void test_no_threads(void)
{
    Shared s = { .left = 1 };

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 20 * G_USEC_PER_SEC, 0);
        g_test_trap_assert_passed();
        return;
    }
    sandbox_refuse(__NR_clone3, EAGAIN);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(co_run_sync(one_job, &s), ==, 0);
    }
    g_assert_cmpint(s.sum, ==, 3);
    s.lane = work_lane_new();
    g_assert_cmpint(co_run_sync(lane_job, &s), ==, 0);
    g_assert_cmpint(s.sum, ==, 4);
    work_lane_unref(s.lane);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/thread-pool/parallel", test_parallel);
    g_test_add_func("/thread-pool/many", test_many);
    g_test_add_func("/thread-pool/loop-ends", test_loop_ends);
    g_test_add_func("/thread-pool/no-threads", test_no_threads);
    return g_test_run();
}
