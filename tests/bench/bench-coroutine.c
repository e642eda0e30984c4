/* SPDX-License-Identifier: MIT */
/*
 * What the runtime costs: a switch in and out, a coroutine's life, locks, bottom halves.  The best
 * of some rounds, as others use the machine too.  Prints; nothing passes or fails.
 */
#include "util/aio.h"
#include "util/co-lock.h"

#include <stdio.h>

#define ROUNDS 15
#define N 200000

typedef struct Bench {
    const char *name;
    void (*run)(int n);
} Bench;

static bool stop;
static CoMutex mutex;

static void coroutine_fn forever_entry(void *opaque)
{
    while (!stop) {
        coroutine_yield();
    }
}

static void run_switch(int n)
{
    Coroutine *co = coroutine_create(forever_entry, NULL);

    stop = false;
    for (int i = 0; i < n; i++) {
        coroutine_enter(co);
    }
    stop = true;
    coroutine_enter(co);
}

static void coroutine_fn nothing_entry(void *opaque)
{
}

static void run_life(int n)
{
    for (int i = 0; i < n; i++) {
        coroutine_enter(coroutine_create(nothing_entry, NULL));
    }
}

static void coroutine_fn mutex_entry(void *opaque)
{
    for (int i = GPOINTER_TO_INT(opaque); i > 0; i--) {
        co_mutex_lock(&mutex);
        co_mutex_unlock(&mutex);
    }
}

static void run_mutex(int n)
{
    co_mutex_init(&mutex);
    coroutine_enter(coroutine_create(mutex_entry, GINT_TO_POINTER(n)));
}

static void count(void *opaque)
{
    --*(int *)opaque;
}

static void run_bh(int n)
{
    AioContext *ctx = aio_current();
    int left = n;

    for (int i = 0; i < n; i++) {
        aio_bh_schedule_oneshot(ctx, count, &left);
        if (i % 32 == 0) {
            aio_poll(ctx, false);
        }
    }
    AIO_WAIT_WHILE(ctx, left > 0);
}

static void coroutine_fn reschedule_entry(void *opaque)
{
    int *left = opaque;

    for (; *left > 0; --*left) {
        co_reschedule_self();
    }
}

static void run_reschedule(int n)
{
    int left = n;

    coroutine_enter(coroutine_create(reschedule_entry, &left));
    AIO_WAIT_WHILE(aio_current(), left > 0);
}

int main(void)
{
    static const Bench t[] = {
        { "switch in and out", run_switch },       { "create, run and end", run_life },
        { "mutex lock and unlock", run_mutex },    { "bottom half", run_bh },
        { "reschedule and poll", run_reschedule },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(t); i++) {
        double best = 1e9;

        for (int r = 0; r < ROUNDS; r++) {
            int64_t start = aio_clock_ns();

            t[i].run(N);
            best = MIN(best, (double)(aio_clock_ns() - start) / N);
        }
        printf("%-24s %6.1f ns\n", t[i].name, best);
    }
    return 0;
}
