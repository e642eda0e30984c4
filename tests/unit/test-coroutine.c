/* SPDX-License-Identifier: MIT */
/* Coroutines: entry, yield, nesting, many at once, stacks kept apart. */
/* Shows INV-CO-1, INV-CO-2. */
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

/* Coroutines made in one thread, for the first time entered in another, end in a third: their
 * stacks end up in pools of threads that never made one. */
static gpointer enter_once(gpointer co)
{
    coroutine_enter(co);
    return NULL;
}

static void test_move(void)
{
    bool stop = false;

    for (int i = 0; i < 50; i++) {
        Coroutine *co = coroutine_create(forever_entry, &stop);

        stop = false;
        g_thread_join(g_thread_new("a", enter_once, co));
        g_thread_join(g_thread_new("b", enter_once, co));
        stop = true;
        g_thread_join(g_thread_new("c", enter_once, co));
    }
}

static void coroutine_fn wake_entry(void *opaque)
{
    Coroutine **other = opaque;

    if (*other) {
        aio_co_wake(*other); /* not now: when we yield */
        *other = NULL;
    } else {
        *other = coroutine_self();
        coroutine_yield();
        g_assert_null(*other);
        *other = coroutine_self();
    }
}

static void test_wake_within(void)
{
    Coroutine *other = NULL, *first = coroutine_create(wake_entry, &other);

    coroutine_enter(first);
    g_assert_true(other == first);
    coroutine_enter(coroutine_create(wake_entry, &other));
    g_assert_true(other == first);
}

static __attribute__((noinline)) int dive(int depth)
{
    char buf[1024];

    buf[0] = (char)depth;
    __asm__ __volatile__("" ::"r"(buf) : "memory"); /* no loop made of it */
    return depth == 0 ? 0 : dive(depth - 1) + buf[0];
}

static void coroutine_fn dive_entry(void *opaque)
{
    *(int *)opaque = dive(*(int *)opaque);
}

/* Deep, but within the stack; then too deep: a fault, not another coroutine's data. */
static void test_guard(void)
{
    int depth = 200;

    if (g_test_subprocess()) {
        depth = 4000;
        coroutine_enter(coroutine_create(dive_entry, &depth));
        return;
    }
    coroutine_enter(coroutine_create(dive_entry, &depth));
    g_test_trap_subprocess(NULL, 60 * G_USEC_PER_SEC, 0);
    g_test_trap_assert_failed();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/coroutine/yield", test_yield);
    g_test_add_func("/coroutine/nest", test_nest);
    g_test_add_func("/coroutine/stacks", test_stacks);
    g_test_add_func("/coroutine/threads", test_threads);
    g_test_add_func("/coroutine/move", test_move);
    g_test_add_func("/coroutine/wake-within", test_wake_within);
    g_test_add_func("/coroutine/guard", test_guard);
    return g_test_run();
}
