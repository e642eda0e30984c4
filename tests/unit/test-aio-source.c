/* SPDX-License-Identifier: MIT */
/*
 * An AioContext as a GSource of a real GMainLoop: each kind of event wakes it, from its own and
 * from other threads, among sources of the embedder's; and io_uring as sandboxes refuse it, before
 * and after its start.
 */
#include "sandbox.h"

#include "util/aio.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct Loop {
    GMainContext *main;
    GMainLoop *loop;
    AioContext *ctx, *old;
    int events, want;
    int fds[2];
} Loop;

static void setup(Loop *l)
{
    memset(l, 0, sizeof(*l));
    l->main = g_main_context_new();
    l->loop = g_main_loop_new(l->main, FALSE);
    l->ctx = aio_context_new(NULL);
    l->old = aio_set_current(l->ctx);
    g_source_attach(aio_context_source(l->ctx), l->main);
}

static void teardown(Loop *l)
{
    aio_set_current(l->old);
    g_source_destroy(aio_context_source(l->ctx));
    aio_context_unref(l->ctx);
    g_main_loop_unref(l->loop);
    g_main_context_unref(l->main);
}

static void event(void *opaque)
{
    Loop *l = opaque;

    g_assert_true(aio_current() == l->ctx);
    if (++l->events == l->want) {
        g_main_loop_quit(l->loop);
    }
}

static gboolean too_late(gpointer unused)
{
    g_error("the main loop was not woken");
    return G_SOURCE_REMOVE;
}

static void run_until(Loop *l, int want)
{
    GSource *end = g_timeout_source_new_seconds(30);

    g_source_set_callback(end, too_late, NULL, NULL);
    g_source_attach(end, l->main);
    l->want = want;
    l->events = 0;
    g_main_loop_run(l->loop);
    g_source_destroy(end);
    g_source_unref(end);
}

static gpointer bh_thread(gpointer opaque)
{
    Loop *l = opaque;

    for (int i = 0; i < 200; i++) {
        aio_bh_schedule_oneshot(l->ctx, event, l);
        if (i % 10 == 0) {
            g_usleep(500); /* the loop blocks meanwhile */
        }
    }
    return NULL;
}

static void test_bh(void)
{
    Loop l;
    GThread *t[2];

    setup(&l);
    aio_bh_schedule_oneshot(l.ctx, event, &l);
    run_until(&l, 1);
    for (int i = 0; i < 2; i++) {
        t[i] = g_thread_new("bh", bh_thread, &l);
    }
    run_until(&l, 400);
    for (int i = 0; i < 2; i++) {
        g_thread_join(t[i]);
    }
    teardown(&l);
}

static void test_timer(void)
{
    Loop l;
    AioTimer *t;
    int64_t start = aio_clock_ns();

    setup(&l);
    t = aio_timer_new(l.ctx, event, &l);
    aio_timer_mod(t, start + 20000000);
    run_until(&l, 1);
    g_assert_cmpint(aio_clock_ns() - start, >=, 20000000);
    aio_timer_mod(t, 0);
    run_until(&l, 1);
    aio_timer_free(t);
    teardown(&l);
}

static void drain_pipe(void *opaque)
{
    Loop *l = opaque;
    char c;

    g_assert_cmpint(read(l->fds[0], &c, 1), ==, 1);
    event(l);
}

static gboolean idle_write(gpointer opaque)
{
    Loop *l = opaque;

    g_assert_cmpint(write(l->fds[1], "x", 1), ==, 1);
    return G_SOURCE_REMOVE;
}

static void test_fd(void)
{
    Loop l;

    setup(&l);
    g_assert_cmpint(pipe(l.fds), ==, 0);
    aio_set_fd_handler(l.ctx, l.fds[0], drain_pipe, NULL, &l);
    for (int i = 0; i < 5; i++) {
        GSource *idle = g_idle_source_new();

        g_source_set_callback(idle, idle_write, &l, NULL);
        g_source_attach(idle, l.main);
        g_source_unref(idle);
    }
    run_until(&l, 5);
    aio_set_fd_handler(l.ctx, l.fds[0], NULL, NULL, NULL);
    aio_set_fd_handler(l.ctx, l.fds[1], NULL, event, &l); /* writable at once */
    run_until(&l, 1);
    aio_set_fd_handler(l.ctx, l.fds[1], NULL, NULL, NULL);
    close(l.fds[0]);
    close(l.fds[1]);
    teardown(&l);
}

static int job(void *opaque)
{
    return 3;
}

static void coroutine_fn io_entry(void *opaque)
{
    Loop *l = opaque;
    char buf[64], back[64];
    struct iovec w = { buf, sizeof(buf) }, r = { back, sizeof(back) };

    g_assert_cmpint(co_thread_pool_run(job, NULL), ==, 3);
    if (aio_uring_available(l->ctx)) {
        memset(buf, 5, sizeof(buf));
        g_assert_cmpint(aio_uring_co_rw(AIO_OP_WRITE, l->fds[0], &w, 1, 0, true), ==, 64);
        g_assert_cmpint(aio_uring_co_rw(AIO_OP_READ, l->fds[0], &r, 1, 0, false), ==, 64);
        g_assert_cmpmem(buf, 64, back, 64);
    }
    event(l);
}

static void test_io(void)
{
    g_autofree char *name = NULL;
    Loop l;

    setup(&l);
    l.fds[0] = g_file_open_tmp("cowlet-XXXXXX", &name, NULL);
    unlink(name);
    for (int i = 0; i < 20; i++) {
        coroutine_enter(coroutine_create(io_entry, &l));
    }
    run_until(&l, 20);
    close(l.fds[0]);
    teardown(&l);
}

/* Detached, it goes on with aio_poll(), for handlers and rings that are made only then too. */
static void test_detached(void)
{
    g_autofree char *name = NULL;
    Loop l;

    setup(&l);
    l.fds[0] = g_file_open_tmp("cowlet-XXXXXX", &name, NULL);
    unlink(name);
    g_source_destroy(aio_context_source(l.ctx));
    coroutine_enter(coroutine_create(io_entry, &l));
    AIO_WAIT_WHILE(l.ctx, l.events < 1);
    close(l.fds[0]);
    g_assert_cmpint(pipe(l.fds), ==, 0);
    aio_set_fd_handler(l.ctx, l.fds[0], drain_pipe, NULL, &l);
    idle_write(&l);
    AIO_WAIT_WHILE(l.ctx, l.events < 2);
    aio_set_fd_handler(l.ctx, l.fds[0], NULL, NULL, NULL);
    close(l.fds[0]);
    close(l.fds[1]);
    teardown(&l);
}

/* A coroutine that never rests does not keep a file descriptor waiting. */
static void coroutine_fn busy_entry(void *opaque)
{
    Loop *l = opaque;

    while (l->events == 0) {
        co_reschedule_self();
    }
    l->events++;
}

static void test_busy(void)
{
    AioContext *ctx = aio_current();
    Loop l = { .ctx = ctx };

    g_assert_cmpint(pipe(l.fds), ==, 0);
    aio_set_fd_handler(ctx, l.fds[0], drain_pipe, NULL, &l);
    idle_write(&l);
    coroutine_enter(coroutine_create(busy_entry, &l));
    AIO_WAIT_WHILE(ctx, l.events < 2);
    aio_set_fd_handler(ctx, l.fds[0], NULL, NULL, NULL);
    close(l.fds[0]);
    close(l.fds[1]);
}

/* ---- Sandboxes ---- */

static int coroutine_fn refused_read(void *opaque)
{
    char buf[16];
    struct iovec iov = { buf, sizeof(buf) };

    return (int)aio_uring_co_rw(AIO_OP_READ, GPOINTER_TO_INT(opaque), &iov, 1, 0, false);
}

static void test_refused_setup(void)
{
    if (g_test_subprocess()) {
        sandbox_refuse(__NR_io_uring_setup, EPERM);
        g_assert_false(aio_uring_available(aio_current()));
        g_assert_cmpint(co_run_sync(refused_read, GINT_TO_POINTER(0)), ==, -ENOSYS);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
}

/* No descriptor is free just now: that is no word on io_uring. */
static void test_no_descriptor(void)
{
    struct rlimit old, none;
    AioContext *ctx = aio_current();
    int64_t end;

    if (g_test_subprocess()) {
        g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
        none = (struct rlimit){ 0, old.rlim_max };
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
        g_assert_false(aio_uring_available(ctx));
        g_assert_cmpint(aio_uring_error(ctx), ==, -EMFILE);
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
        end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
        while (!aio_uring_available(ctx) && g_get_monotonic_time() < end) {
            g_usleep(20000);
        }
        g_assert_true(aio_uring_available(ctx));
        return;
    }
    if (!aio_uring_available(ctx)) {
        g_test_skip("io_uring is not available");
        return;
    }
    g_test_trap_subprocess(NULL, 40 * G_USEC_PER_SEC, 0);
    g_test_trap_assert_passed();
}

static void coroutine_fn count_refused(void *opaque)
{
    int *left = opaque;

    g_assert_cmpint(refused_read(GINT_TO_POINTER(0)), ==, -ENOSYS);
    --*left;
}

/* The ring is there and may not be used: more requests than it holds get an answer. */
static void test_refused_enter(void)
{
    int left = 700;

    if (!aio_uring_available(aio_current())) {
        g_test_skip("io_uring is not available");
        return;
    }
    if (g_test_subprocess()) {
        g_assert_true(aio_uring_available(aio_current()));
        sandbox_refuse(__NR_io_uring_enter, EPERM);
        for (int i = 0; i < 700; i++) {
            coroutine_enter(coroutine_create(count_refused, &left));
        }
        AIO_WAIT_WHILE(aio_current(), left > 0);
        g_assert_false(aio_uring_available(aio_current()));
        return;
    }
    g_test_trap_subprocess(NULL, 20 * G_USEC_PER_SEC, 0);
    g_test_trap_assert_passed();
}

/* No room in the kernel just now: the loop does not sleep for ever, it tries again. */
static void test_busy_kernel(void)
{
    int left = 1;
    int64_t end = aio_clock_ns() + 50000000;

    if (!aio_uring_available(aio_current())) {
        g_test_skip("io_uring is not available");
        return;
    }
    if (g_test_subprocess()) {
        g_assert_true(aio_uring_available(aio_current()));
        sandbox_refuse(__NR_io_uring_enter, EAGAIN);
        coroutine_enter(coroutine_create(count_refused, &left));
        while (aio_clock_ns() < end) {
            aio_poll(aio_current(), true);
        }
        g_assert_cmpint(left, ==, 1);
        _exit(0); /* the request is still in its ring */
    }
    g_test_trap_subprocess(NULL, 20 * G_USEC_PER_SEC, 0);
    g_test_trap_assert_passed();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/aio-source/bh", test_bh);
    g_test_add_func("/aio-source/timer", test_timer);
    g_test_add_func("/aio-source/fd", test_fd);
    g_test_add_func("/aio-source/io", test_io);
    g_test_add_func("/aio-source/no-descriptor", test_no_descriptor);
    g_test_add_func("/aio-source/detached", test_detached);
    g_test_add_func("/aio-source/busy", test_busy);
    g_test_add_func("/aio-source/refused-setup", test_refused_setup);
    g_test_add_func("/aio-source/refused-enter", test_refused_enter);
    g_test_add_func("/aio-source/busy-kernel", test_busy_kernel);
    return g_test_run();
}
