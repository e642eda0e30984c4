/* SPDX-License-Identifier: MIT */
/* Coroutines: entry, yield, nesting, many at once, stacks kept apart. */
#include "util/aio.h"
#include "util/coroutine.h"

#include <string.h>

typedef struct Counter {
    int n, rounds;
    bool done;
} Counter;

static void coroutine_fn count_entry(void *opaque)
{
    Counter *c = opaque;

    g_assert_true(in_coroutine());
    for (int i = 0; i < c->rounds; i++) {
        c->n++;
        coroutine_yield();
    }
    c->done = true;
}

static void test_yield(void)
{
    Counter c = { .rounds = 5 };
    Coroutine *co = coroutine_create(count_entry, &c);

    g_assert_false(in_coroutine());
    for (int i = 0; i < 5; i++) {
        coroutine_enter(co);
        g_assert_cmpint(c.n, ==, i + 1);
        g_assert_false(c.done);
    }
    coroutine_enter(co);
    g_assert_true(c.done);
    g_assert_null(coroutine_self());
}

static void coroutine_fn nest_entry(void *opaque)
{
    int *depth = opaque;
    Coroutine *self = coroutine_self();

    if (++*depth < 50) {
        coroutine_enter(coroutine_create(nest_entry, depth));
    }
    g_assert_true(coroutine_self() == self);
}

static void test_nest(void)
{
    int depth = 0;

    coroutine_enter(coroutine_create(nest_entry, &depth));
    g_assert_cmpint(depth, ==, 50);
}

static void coroutine_fn stack_entry(void *opaque)
{
    uint8_t id = (uint8_t)GPOINTER_TO_UINT(opaque);
    volatile uint8_t buf[20000];
    double f = id * 1.5;

    memset((void *)buf, id, sizeof(buf));
    coroutine_yield();
    for (size_t i = 0; i < sizeof(buf); i++) {
        g_assert_cmpint(buf[i], ==, id);
    }
    g_assert_cmpfloat(f, ==, id * 1.5);
}

static void test_stacks(void)
{
    Coroutine *co[1000];

    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(co); i++) {
            co[i] = coroutine_create(stack_entry, GUINT_TO_POINTER(i));
            coroutine_enter(co[i]);
        }
        for (unsigned i = G_N_ELEMENTS(co); i-- > 0;) {
            coroutine_enter(co[i]);
        }
    }
}

static gpointer thread_entry(gpointer opaque)
{
    for (int i = 0; i < 2000; i++) {
        Counter c = { .rounds = 3 };
        Coroutine *co = coroutine_create(count_entry, &c);

        for (int k = 0; k < 4; k++) {
            coroutine_enter(co);
        }
        g_assert_true(c.done);
    }
    return NULL;
}

static void test_threads(void)
{
    GThread *t[4];

    for (unsigned i = 0; i < G_N_ELEMENTS(t); i++) {
        t[i] = g_thread_new("co", thread_entry, NULL);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(t); i++) {
        g_thread_join(t[i]);
    }
}

static void coroutine_fn forever_entry(void *opaque)
{
    bool *stop = opaque;

    while (!*stop) {
        coroutine_yield();
    }
}

/* Prints the cost of a switch; not a condition, machines differ. */
static void test_cost(void)
{
    bool stop = false;
    Coroutine *co = coroutine_create(forever_entry, &stop);
    int64_t start;
    int n = 1000000;

    start = aio_clock_ns();
    for (int i = 0; i < n; i++) {
        coroutine_enter(co);
    }
    g_test_message("enter and yield: %.1f ns", (double)(aio_clock_ns() - start) / n);
    stop = true;
    coroutine_enter(co);
    start = aio_clock_ns();
    for (int i = 0; i < n; i++) {
        coroutine_enter(coroutine_create(forever_entry, &stop));
    }
    g_test_message("create, run, end: %.1f ns", (double)(aio_clock_ns() - start) / n);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/coroutine/yield", test_yield);
    g_test_add_func("/coroutine/nest", test_nest);
    g_test_add_func("/coroutine/stacks", test_stacks);
    g_test_add_func("/coroutine/threads", test_threads);
    g_test_add_func("/coroutine/cost", test_cost);
    return g_test_run();
}
