/* SPDX-License-Identifier: MIT */
/* The event loop: bottom halves, timers, fds, threads, io_uring, GMainContext, locks over loops. */
/* Shows INV-AIO-2. */
#include "util/aio.h"
#include "util/co-lock.h"
#include "tests/lib/with-co-lock.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static void set_true(void *opaque)
{
    *(bool *)opaque = true;
}

static void test_bh(void)
{
    AioContext *ctx = aio_current();
    bool ran = false;

    aio_bh_schedule_oneshot(ctx, set_true, &ran);
    g_assert_false(ran);
    AIO_WAIT_WHILE(ctx, !ran);
}

static void test_timer(void)
{
    AioContext *ctx = aio_current();
    bool a = false, b = false, c = false;
    AioTimer *ta = aio_timer_new(ctx, set_true, &a);
    AioTimer *tb = aio_timer_new(ctx, set_true, &b);
    AioTimer *tc = aio_timer_new(ctx, set_true, &c);
    int64_t start = aio_clock_ns();

    aio_timer_mod(tb, start + 30 * 1000000);
    aio_timer_mod(ta, start + 10 * 1000000);
    aio_timer_mod(tc, start + 1000000);
    aio_timer_del(tc);
    AIO_WAIT_WHILE(ctx, !b);
    g_assert_true(a);
    g_assert_false(c);
    g_assert_cmpint(aio_clock_ns() - start, >=, 30 * 1000000);
    aio_timer_free(ta);
    aio_timer_free(tb);
    aio_timer_free(tc);
}

static void read_byte(void *opaque)
{
    int *fds = opaque;
    char c;

    g_assert_cmpint(read(fds[0], &c, 1), ==, 1);
    fds[2]++;
    if (c == 'q') {
        aio_set_fd_handler(aio_current(), fds[0], NULL, NULL, NULL);
    }
}

static void test_fd(void)
{
    AioContext *ctx = aio_current();
    int fds[3] = { 0 };

    g_assert_cmpint(pipe(fds), ==, 0);
    aio_set_fd_handler(ctx, fds[0], read_byte, NULL, fds);
    g_assert_cmpint(write(fds[1], "abq", 3), ==, 3);
    AIO_WAIT_WHILE(ctx, fds[2] < 3);
    close(fds[0]);
    close(fds[1]);
}

static int work(void *opaque)
{
    g_usleep(1000);
    return GPOINTER_TO_INT(opaque);
}

static int coroutine_fn pool_run(void *opaque)
{
    return co_thread_pool_run(work, opaque);
}

static void test_thread_pool(void)
{
    for (int i = 0; i < 20; i++) {
        g_assert_cmpint(co_run_sync(pool_run, GINT_TO_POINTER(-i)), ==, -i);
    }
}

typedef struct File {
    int fd;
    int left;
} File;

static void coroutine_fn uring_entry(void *opaque)
{
    File *f = opaque;
    char buf[512], back[512];
    struct iovec iov = { buf, sizeof(buf) }, biov = { back, sizeof(back) };
    int64_t off = (int64_t)f->left * 512;

    memset(buf, f->left, sizeof(buf));
    g_assert_cmpint(aio_uring_co_rw(AIO_OP_WRITE, f->fd, &iov, 1, off, false), ==, 512);
    g_assert_cmpint(aio_uring_co_rw(AIO_OP_FDATASYNC, f->fd, NULL, 0, 0, false), ==, 0);
    g_assert_cmpint(aio_uring_co_rw(AIO_OP_READ, f->fd, &biov, 1, off, true), ==, 512);
    g_assert_cmpmem(buf, 512, back, 512);
    f->left--;
}

static void test_uring(void)
{
    AioContext *ctx = aio_current();
    g_autofree char *name = NULL;
    File f = { .left = 0 };

    if (!aio_uring_available(ctx)) {
        g_test_skip("io_uring is not available");
        return;
    }
    f.fd = g_file_open_tmp("cowlet-XXXXXX", &name, NULL);
    g_assert_cmpint(f.fd, >=, 0);
    for (int i = 0; i < 600; i++) { /* more than the ring holds */
        f.left++;
        coroutine_enter(coroutine_create(uring_entry, &f));
    }
    AIO_WAIT_WHILE(ctx, f.left > 0);
    close(f.fd);
    unlink(name);
}

static gboolean quit(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static void coroutine_fn sleeper(void *opaque)
{
    co_sleep_ns(5 * 1000000);
    g_assert_cmpint(co_thread_pool_run(work, GINT_TO_POINTER(-7)), ==, -7);
    *(bool *)opaque = true;
}

static void test_main_loop(void)
{
    g_autoptr(GMainContext) main = g_main_context_new();
    g_autoptr(GMainLoop) loop = g_main_loop_new(main, FALSE);
    AioContext *ctx = aio_context_new(NULL), *old = aio_set_current(ctx);
    GSource *end = g_timeout_source_new(100);
    bool done = false;

    g_source_attach(aio_context_source(ctx), main);
    g_source_set_callback(end, quit, loop, NULL);
    g_source_attach(end, main);
    coroutine_enter(coroutine_create(sleeper, &done));
    g_main_loop_run(loop);
    g_assert_true(done);
    aio_set_current(old);
    g_source_destroy(aio_context_source(ctx));
    g_source_unref(end);
    aio_context_unref(ctx);
}

/* ---- Locks over several loops ---- */

#define LOOPS 4
#define COS 16
#define ROUNDS 500

typedef struct Shared {
    CoMutex mutex;
    CoRwLock rw;
    CoQueue queue;
    int value, readers, writers, waiting, woken;
    atomic_int left;
} Shared;

static void coroutine_fn mutex_entry(void *opaque)
{
    Shared *s = opaque;

    for (int i = 0; i < ROUNDS; i++) {
        WITH_CO_LOCK(&s->mutex)
        {
            int v = s->value;

            if (i % 50 == 0) {
                co_reschedule_self();
            }
            s->value = v + 1;
        }
    }
    atomic_fetch_sub(&s->left, 1);
}

static void coroutine_fn rw_entry(void *opaque)
{
    Shared *s = opaque;

    for (int i = 0; i < ROUNDS; i++) {
        if (i % 5 == 0) {
            co_rwlock_wrlock(&s->rw);
            g_assert_cmpint(g_atomic_int_add(&s->writers, 1), ==, 0);
            g_assert_cmpint(g_atomic_int_get(&s->readers), ==, 0);
            s->value++;
            g_atomic_int_add(&s->writers, -1);
        } else {
            co_rwlock_rdlock(&s->rw);
            g_atomic_int_add(&s->readers, 1);
            g_assert_cmpint(g_atomic_int_get(&s->writers), ==, 0);
            if (i % 7 == 0) {
                co_reschedule_self();
            }
            g_atomic_int_add(&s->readers, -1);
        }
        co_rwlock_unlock(&s->rw);
    }
    atomic_fetch_sub(&s->left, 1);
}

/* Pass a token round through the queue. */
static void coroutine_fn queue_entry(void *opaque)
{
    Shared *s = opaque;

    for (int i = 0; i < ROUNDS; i++) {
        co_mutex_lock(&s->mutex);
        while (s->value == 0) {
            co_queue_wait(&s->queue, &s->mutex);
        }
        s->value--;
        s->woken++;
        co_mutex_unlock(&s->mutex);

        co_mutex_lock(&s->mutex);
        s->value++;
        co_queue_next(&s->queue);
        co_mutex_unlock(&s->mutex);
    }
    atomic_fetch_sub(&s->left, 1);
}

static void run_on_loops(Shared *s, CoroutineEntry *entry)
{
    IoThread *t[LOOPS];

    co_mutex_init(&s->mutex);
    co_rwlock_init(&s->rw);
    co_queue_init(&s->queue);
    atomic_store(&s->left, LOOPS * COS);
    for (int i = 0; i < LOOPS; i++) {
        t[i] = io_thread_new("loop", NULL);
        g_assert_nonnull(t[i]);
    }
    for (int i = 0; i < LOOPS * COS; i++) {
        /* entered there for the first time, so that is its home */
        aio_bh_schedule_oneshot(io_thread_context(t[i % LOOPS]), (AioFunc *)coroutine_enter,
                                coroutine_create(entry, s));
    }
    while (atomic_load(&s->left) > 0) {
        g_usleep(1000);
    }
    for (int i = 0; i < LOOPS; i++) {
        io_thread_free(t[i]);
    }
}

static void test_mutex(void)
{
    Shared s = { 0 };

    run_on_loops(&s, mutex_entry);
    g_assert_cmpint(s.value, ==, LOOPS * COS * ROUNDS);
}

static void test_rwlock(void)
{
    Shared s = { 0 };

    run_on_loops(&s, rw_entry);
    g_assert_cmpint(s.value, ==, LOOPS * COS * ROUNDS / 5);
}

static void test_queue(void)
{
    Shared s = { .value = 3 };

    run_on_loops(&s, queue_entry);
    g_assert_cmpint(s.value, ==, 3);
    g_assert_cmpint(s.woken, ==, LOOPS * COS * ROUNDS);
}

/* ---- From loop to loop ---- */

typedef struct Traveller {
    AioContext *home, *other;
    CoMutex *mutex;
    int *value; /* under the mutex */
    int trips;
    atomic_int *left;
} Traveller;

static void coroutine_fn travel(void *opaque)
{
    Traveller *t = opaque;

    for (int i = 0; i < t->trips; i++) {
        AioContext *to = i % 2 ? t->home : t->other;

        co_move_to(to);
        g_assert_true(coroutine_home(coroutine_self()) == to);
        g_assert_true(aio_current() == to);
        co_mutex_lock(t->mutex);
        ++*t->value;
        co_reschedule_self(); /* waits, and is woken, where it is now */
        g_assert_true(aio_current() == to);
        co_mutex_unlock(t->mutex);
        if (i % 8 == 0) {
            co_sleep_ns(1000);
        }
    }
    co_move_to(aio_current()); /* nowhere: nothing happens */
    atomic_fetch_sub(t->left, 1);
}

static void test_move(void)
{
    IoThread *threads[3];
    Traveller t[12];
    CoMutex mutex;
    int value = 0;
    atomic_int left = G_N_ELEMENTS(t);

    co_mutex_init(&mutex);
    for (int i = 0; i < 3; i++) {
        threads[i] = io_thread_new("loop", NULL);
        g_assert_nonnull(threads[i]);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(t); i++) {
        AioContext *home = io_thread_context(threads[i % 3]);

        t[i] = (Traveller){ home, io_thread_context(threads[(i + 1) % 3]), &mutex, &value, 200,
                            &left };
        aio_bh_schedule_oneshot(home, (AioFunc *)coroutine_enter, coroutine_create(travel, &t[i]));
    }
    while (atomic_load(&left) > 0) {
        g_usleep(1000);
    }
    g_assert_cmpint(value, ==, 200 * G_N_ELEMENTS(t));
    for (int i = 0; i < 3; i++) {
        io_thread_free(threads[i]);
    }
}

/* co_run_sync() waits for one that leaves and comes back. */
static int coroutine_fn there_and_back(void *opaque)
{
    AioContext *home = aio_current();

    co_move_to(opaque);
    g_assert_true(aio_current() == opaque);
    co_move_to(home);
    g_assert_true(aio_current() == home);
    return 7;
}

static void test_move_sync(void)
{
    IoThread *t = io_thread_new("loop", NULL);

    for (int i = 0; i < 100; i++) {
        g_assert_cmpint(co_run_sync(there_and_back, io_thread_context(t)), ==, 7);
    }
    io_thread_free(t);
}

/* ---- Pollers ---- */

typedef struct Poller {
    AioContext *ctx;
    int looks, finds_at;
    bool found;
} Poller;

static bool look(void *opaque)
{
    Poller *p = opaque;

    if (++p->looks < p->finds_at) {
        return false;
    }
    p->found = true;
    aio_remove_poller(p->ctx, look, p); /* in its own call */
    return true;
}

static AioTimer *ticker;

static void tick(void *opaque) /* it sleeps till then at most */
{
    aio_timer_mod(ticker, aio_clock_ns() + 1000000);
}

static void test_poller(void)
{
    AioContext *ctx = aio_current();
    Poller a = { ctx, 0, 5, false }, b = { ctx, 0, 1000000000, false };
    int looks;

    ticker = aio_timer_new(ctx, tick, NULL);
    tick(NULL);
    aio_context_set_poll(ctx, INT64_C(10) * 1000000000);
    aio_add_poller(ctx, look, &a);
    aio_add_poller(ctx, look, &b);
    for (int i = 0; i < 10000 && !a.found; i++) {
        aio_poll(ctx, true);
    }
    g_assert_true(a.found);
    g_assert_cmpint(a.looks, ==, 5);
    looks = b.looks;
    g_assert_cmpint(looks, >=, 5);
    while (aio_poll(ctx, false)) { /* does not spin */
    }
    g_assert_cmpint(b.looks, ==, looks);
    aio_remove_poller(ctx, look, &b);
    aio_timer_free(ticker);
    aio_context_set_poll(ctx, 32000);
    g_assert_cmpint(b.looks, ==, looks);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/aio/bh", test_bh);
    g_test_add_func("/aio/timer", test_timer);
    g_test_add_func("/aio/fd", test_fd);
    g_test_add_func("/aio/thread-pool", test_thread_pool);
    g_test_add_func("/aio/uring", test_uring);
    g_test_add_func("/aio/main-loop", test_main_loop);
    g_test_add_func("/aio/mutex", test_mutex);
    g_test_add_func("/aio/rwlock", test_rwlock);
    g_test_add_func("/aio/queue", test_queue);
    g_test_add_func("/aio/move", test_move);
    g_test_add_func("/aio/move-sync", test_move_sync);
    g_test_add_func("/aio/poller", test_poller);
    return g_test_run();
}
