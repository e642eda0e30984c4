/* SPDX-License-Identifier: MIT */
/* Timers: order, moved, removed and freed from within callbacks, set again at once; sleeping
 * coroutines. */
/* Shows INV-TIMER-1. */
#include "util/aio.h"

#include <stdatomic.h>
#include <string.h>

#define MS INT64_C(1000000)

static char order[32];
static unsigned fired;

static void note(void *opaque)
{
    order[fired++] = *(const char *)opaque;
}

static void start_log(void)
{
    memset(order, 0, sizeof(order));
    fired = 0;
}

static void wait_fired(unsigned n)
{
    AIO_WAIT_WHILE(aio_current(), fired < n);
}

static void test_order(void)
{
    static const int ms[] = { 9, 3, 6, 1, 7, 3, 3, 12 };
    static const char *names = "hbfaecdg";
    AioTimer *t[8];
    int64_t now = aio_clock_ns();

    start_log();
    for (int i = 0; i < 8; i++) {
        t[i] = aio_timer_new(aio_current(), note, (void *)&names[i]);
        aio_timer_mod(t[i], now + ms[i] * MS);
    }
    wait_fired(8);
    /* by time; of equal times, as they were set */
    g_assert_cmpstr(order, ==, "abcdfehg");
    for (int i = 0; i < 8; i++) {
        aio_timer_free(t[i]);
    }
}

static void test_mod(void)
{
    AioTimer *a = aio_timer_new(aio_current(), note, (void *)"a");
    AioTimer *b = aio_timer_new(aio_current(), note, (void *)"b");
    int64_t now = aio_clock_ns();

    start_log();
    aio_timer_mod(a, now + 1 * MS);
    aio_timer_mod(b, now + 5 * MS);
    aio_timer_mod(a, now + 9 * MS); /* moved, not added */
    wait_fired(2);
    g_assert_cmpstr(order, ==, "ba");
    aio_timer_mod(a, 0); /* long past: at once */
    wait_fired(3);
    aio_timer_del(a);
    aio_timer_del(a);
    aio_timer_free(a);
    aio_timer_free(b);
    aio_timer_free(NULL);
    g_assert_cmpuint(fired, ==, 3);
}

typedef struct Self {
    AioTimer *timer, *other;
    int left;
} Self;

static void again(void *opaque)
{
    Self *s = opaque;

    if (--s->left > 0) {
        aio_timer_mod(s->timer, 0);
    }
}

/* A timer that sets itself to the past leaves room for others in between. */
static void test_again(void)
{
    Self s = { .left = 100 };

    s.timer = aio_timer_new(aio_current(), again, &s);
    aio_timer_mod(s.timer, 0);
    aio_poll(aio_current(), true);
    g_assert_cmpint(s.left, ==, 99);
    AIO_WAIT_WHILE(aio_current(), s.left > 0);
    aio_timer_free(s.timer);
}

static void free_both(void *opaque)
{
    Self *s = opaque;

    aio_timer_free(s->timer);
    aio_timer_free(s->other);
    s->left = 0;
}

static void test_free_within(void)
{
    Self s = { .left = 1 };

    start_log();
    s.timer = aio_timer_new(aio_current(), free_both, &s);
    s.other = aio_timer_new(aio_current(), note, (void *)"x");
    aio_timer_mod(s.timer, 1);
    aio_timer_mod(s.other, 2); /* due in the same round */
    AIO_WAIT_WHILE(aio_current(), s.left > 0);
    g_assert_cmpuint(fired, ==, 0);
}

static void coroutine_fn sleeper(void *opaque)
{
    int64_t ns = GPOINTER_TO_INT(opaque) * MS, start = aio_clock_ns();

    co_sleep_ns(ns);
    g_assert_cmpint(aio_clock_ns() - start, >=, ns);
    fired++;
}

static void test_sleep(void)
{
    start_log();
    for (int i = 0; i < 20; i++) {
        coroutine_enter(coroutine_create(sleeper, GINT_TO_POINTER(i % 7)));
    }
    wait_fired(20);
}

/* A timer that comes due between two looks at the clock is due, not never. */
static void test_near(void)
{
    AioTimer *t = aio_timer_new(aio_current(), note, (void *)"n");

    for (int i = 0; i < 30000; i++) {
        fired = 0;
        aio_timer_mod(t, aio_clock_ns() + i % 3000);
        AIO_WAIT_WHILE(aio_current(), fired < 1);
    }
    aio_timer_free(t);
}

/* A timer that sets itself again all the time, in a loop of its own, freed by another thread. */
typedef struct Ticker {
    AioTimer *t;
    AioContext *ctx;
    atomic_int ticks;
    atomic_bool quiet, freed;
} Ticker;

static void tick(void *opaque)
{
    Ticker *k = opaque;

    g_assert_false(atomic_load(&k->freed));
    atomic_fetch_add(&k->ticks, 1);
    aio_timer_mod(k->t, atomic_load(&k->quiet) ? aio_clock_ns() + 3600 * 1000 * MS : 0);
}

static void start_ticker(void *opaque)
{
    Ticker *k = opaque;

    k->t = aio_timer_new(aio_current(), tick, k);
    aio_timer_mod(k->t, 0);
}

static void test_free_elsewhere(void)
{
    for (int i = 0; i < 50; i++) {
        IoThread *thread = io_thread_new("ticker", NULL);
        Ticker k = { .ctx = io_thread_context(thread) };

        aio_bh_schedule_oneshot(k.ctx, start_ticker, &k);
        while (atomic_load(&k.ticks) < 3) {
            g_usleep(10);
        }
        if (i % 2) { /* the loop goes first */
            atomic_store(&k.quiet, true);
            io_thread_free(thread);
        }
        aio_timer_free(k.t);
        atomic_store(&k.freed, true);
        if (!(i % 2)) {
            g_usleep(100);
            io_thread_free(thread);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/timer/order", test_order);
    g_test_add_func("/timer/mod", test_mod);
    g_test_add_func("/timer/again", test_again);
    g_test_add_func("/timer/free-within", test_free_within);
    g_test_add_func("/timer/sleep", test_sleep);
    g_test_add_func("/timer/near", test_near);
    g_test_add_func("/timer/free-elsewhere", test_free_elsewhere);
    return g_test_run();
}
