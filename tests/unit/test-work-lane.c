/* SPDX-License-Identifier: MIT */
/* Lanes of the thread pool: one job at a time and in order, from several loops, and when a lane
 * pays. */
/* Shows INV-LANE-1, INV-LANE-2. */
#include "util/work-lane.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

typedef struct Shared {
    WorkLane *lane;
    atomic_int inside, left;
    int order[64], n; /* only touched inside of the lane */
} Shared;

typedef struct Job {
    Shared *s;
    int id;
} Job;

static int lane_job(void *opaque)
{
    Job *j = opaque;

    g_assert_cmpint(atomic_fetch_add(&j->s->inside, 1), ==, 0);
    j->s->order[j->s->n++ % 64] = j->id;
    usleep(100);
    g_assert_cmpint(atomic_fetch_sub(&j->s->inside, 1), ==, 1);
    return -j->id;
}

static void coroutine_fn lane_entry(void *opaque)
{
    Job *j = opaque;

    g_assert_cmpint(work_lane_co_run(j->s->lane, lane_job, j), ==, -j->id);
    atomic_fetch_sub(&j->s->left, 1);
}

static void test_order(void)
{
    Shared s = { .lane = work_lane_new(), .left = 64 };
    Job jobs[64];

    for (int i = 0; i < 64; i++) {
        jobs[i] = (Job){ &s, i };
        coroutine_enter(coroutine_create(lane_entry, &jobs[i]));
    }
    AIO_WAIT_WHILE(aio_current(), atomic_load(&s.left) > 0);
    for (int i = 0; i < 64; i++) {
        g_assert_cmpint(s.order[i], ==, i);
    }
    work_lane_unref(s.lane);
}

/* The lane comes to rest and starts again each time; it is given up right behind its last job. */
static void test_one_by_one(void)
{
    for (int i = 0; i < 200; i++) {
        Shared s = { .lane = work_lane_new(), .left = 2 };
        Job j = { &s, i };

        for (int k = 2; k > 0; k--) {
            coroutine_enter(coroutine_create(lane_entry, &j));
            AIO_WAIT_WHILE(aio_current(), atomic_load(&s.left) >= k);
        }
        work_lane_unref(s.lane);
    }
}

static atomic_bool begun, pushed;

/* Ends some time after another has been queued. */
static int long_job(void *opaque)
{
    Job *j = opaque;

    g_assert_cmpint(atomic_fetch_add(&j->s->inside, 1), ==, 0);
    atomic_store(&begun, true);
    while (!atomic_load(&pushed)) {
        usleep(100);
    }
    usleep(20000);
    g_assert_cmpint(atomic_fetch_sub(&j->s->inside, 1), ==, 1);
    return -j->id;
}

static void coroutine_fn long_entry(void *opaque)
{
    Job *j = opaque;

    g_assert_cmpint(work_lane_co_run(j->s->lane, long_job, j), ==, -j->id);
    atomic_fetch_sub(&j->s->left, 1);
}

/* One that comes while the last one runs waits for it. */
static void test_beside_the_last(void)
{
    Shared s = { .lane = work_lane_new(), .left = 2 };
    Job first = { &s, 1 }, second = { &s, 2 };

    coroutine_enter(coroutine_create(long_entry, &first));
    while (!atomic_load(&begun)) {
        usleep(100);
    }
    coroutine_enter(coroutine_create(lane_entry, &second));
    atomic_store(&pushed, true);
    AIO_WAIT_WHILE(aio_current(), atomic_load(&s.left) > 0);
    work_lane_unref(s.lane);
}

static void coroutine_fn many_entry(void *opaque)
{
    Job j = { opaque, 7 };

    for (int i = 0; i < 50; i++) {
        g_assert_cmpint(work_lane_co_run(j.s->lane, lane_job, &j), ==, -7);
    }
    atomic_fetch_sub(&j.s->left, 1);
}

static void test_loops(void)
{
    Shared s = { .lane = work_lane_new(), .left = 6 };
    IoThread *t[3];

    for (int i = 0; i < 3; i++) {
        t[i] = io_thread_new("lane", NULL);
        for (int k = 0; k < 2; k++) {
            aio_co_schedule(io_thread_context(t[i]), coroutine_create(many_entry, &s));
        }
    }
    while (atomic_load(&s.left) > 0) {
        usleep(100);
    }
    g_assert_cmpint(s.n, ==, 300);
    for (int i = 0; i < 3; i++) {
        io_thread_free(t[i]);
    }
    work_lane_unref(s.lane);
}

static void coroutine_fn pair_entry(void *opaque)
{
    Job j = { opaque, 3 };

    (void)work_lane_co_run(j.s->lane, lane_job, &j);
    atomic_fetch_sub(&j.s->left, 1);
}

static void run(Shared *s, int n)
{
    atomic_store(&s->left, n);
    for (int i = 0; i < n; i++) {
        coroutine_enter(coroutine_create(pair_entry, s));
    }
    AIO_WAIT_WHILE(aio_current(), atomic_load(&s->left) > 0);
}

static int refusals(Shared *s)
{
    int n = 0;

    while (!work_lane_pays(s->lane)) {
        n++;
    }
    return n;
}

/* One at a time: rarer and rarer tries; company: always. */
static void test_pays(void)
{
    Shared s = { .lane = work_lane_new() };
    int before = 0;

    g_assert_cmpint(refusals(&s), ==, 0);
    for (int i = 0; i < 12; i++) {
        int now;

        run(&s, 1);
        now = refusals(&s);
        g_assert_cmpint(now, >, 0);
        g_assert_cmpint(now, >=, before);
        g_assert_cmpint(now, <=, 1024);
        before = now;
    }
    /* Of two, the last has no company: the lane learns from the first that it pays while it
     * runs. */
    run(&s, 1);
    atomic_store(&s.left, 2);
    for (int i = 0; i < 2; i++) {
        coroutine_enter(coroutine_create(pair_entry, &s));
        g_assert_true(work_lane_pays(s.lane));
    }
    AIO_WAIT_WHILE(aio_current(), atomic_load(&s.left) > 0);
    g_assert_cmpint(refusals(&s), <, before);
    work_lane_unref(s.lane);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/work-lane/order", test_order);
    g_test_add_func("/work-lane/one-by-one", test_one_by_one);
    g_test_add_func("/work-lane/beside-the-last", test_beside_the_last);
    g_test_add_func("/work-lane/loops", test_loops);
    g_test_add_func("/work-lane/pays", test_pays);
    return g_test_run();
}
