/* SPDX-License-Identifier: MIT */
/*
 * Locks between coroutines: order of waiters (no one is passed over), hand-over across event loops,
 * that a lock is not touched any more once its last holder could have freed it, and, under a
 * schedule that forces the switch, that no wake-up is lost.  test-aio.c has the throughput side.
 */
#include "util/aio.h"
#include "util/co-lock.h"
#include "tests/lib/with-co-lock.h"

#include <string.h>

/* Who got it, in order. */
typedef struct Log {
    char text[64];
    unsigned n;
} Log;

static void note(Log *l, char c)
{
    g_assert_cmpuint(l->n, <, sizeof(l->text) - 1);
    l->text[l->n++] = c;
}

typedef struct Fixture {
    CoMutex mutex;
    CoRwLock rw;
    CoQueue queue;
    SpinLock spin;
    Log log;
    char next; /* name of the next coroutine */
    bool hold; /* those who got it keep it */
    unsigned ended;
} Fixture;

static void init(Fixture *f)
{
    memset(f, 0, sizeof(*f));
    co_mutex_init(&f->mutex);
    co_rwlock_init(&f->rw);
    co_queue_init(&f->queue);
    spin_init(&f->spin);
    f->next = 'a';
}

static void start(Fixture *f, CoroutineEntry *entry)
{
    coroutine_enter(coroutine_create(entry, f));
}

static void run(Fixture *f, unsigned ended)
{
    AIO_WAIT_WHILE(aio_current(), f->ended < ended);
}

static void coroutine_fn wait_while_held(Fixture *f)
{
    while (f->hold) {
        co_reschedule_self();
    }
}

/* ---- CoMutex ---- */

static void coroutine_fn mutex_entry(void *opaque)
{
    Fixture *f = opaque;
    char me = f->next++;

    co_mutex_lock(&f->mutex);
    note(&f->log, me);
    g_assert_false(co_mutex_trylock(&f->mutex));
    wait_while_held(f);
    co_mutex_unlock(&f->mutex);
    f->ended++;
}

static void test_mutex_fifo(void)
{
    Fixture f;

    init(&f);
    f.hold = true;
    for (int i = 0; i < 10; i++) {
        start(&f, mutex_entry);
    }
    g_assert_cmpstr(f.log.text, ==, "a");
    f.hold = false;
    run(&f, 10);
    g_assert_cmpstr(f.log.text, ==, "abcdefghij");
}

/* Who unlocks and locks again at once comes after those who waited. */
static void coroutine_fn greedy_entry(void *opaque)
{
    Fixture *f = opaque;
    char me = f->next++;

    for (int i = 0; i < 3; i++) {
        co_mutex_lock(&f->mutex);
        note(&f->log, me);
        if (i == 0) {
            wait_while_held(f);
        }
        co_mutex_unlock(&f->mutex);
    }
    f->ended++;
}

static void test_mutex_fair(void)
{
    Fixture f;

    init(&f);
    f.hold = true;
    start(&f, greedy_entry);
    start(&f, greedy_entry);
    f.hold = false;
    run(&f, 2);
    g_assert_cmpstr(f.log.text, ==, "ababab");
}

static int coroutine_fn guard_returns(CoMutex *m)
{
    WITH_CO_LOCK(m)
    {
        g_assert_true(m->locked);
        return 7;
    }
    return 0;
}

static int coroutine_fn guard_entry(void *opaque)
{
    CoMutex *m = opaque;
    int runs = 0;

    WITH_CO_LOCK(m)
    {
        runs++;
    }
    g_assert_cmpint(runs, ==, 1);
    g_assert_false(m->locked);
    g_assert_cmpint(guard_returns(m), ==, 7);
    g_assert_false(m->locked);
    g_assert_true(co_mutex_trylock(m));
    co_mutex_unlock(m);
    return 0;
}

static void test_mutex_guard(void)
{
    Fixture f;

    init(&f);
    co_run_sync(guard_entry, &f.mutex);
}

/* ---- CoQueue ---- */

static void coroutine_fn queue_entry(void *opaque)
{
    Fixture *f = opaque;
    char me = f->next++;

    co_mutex_lock(&f->mutex);
    co_queue_wait(&f->queue, &f->mutex);
    g_assert_true(f->mutex.locked);
    note(&f->log, me);
    co_mutex_unlock(&f->mutex);
    f->ended++;
}

static void coroutine_fn queue_spin_entry(void *opaque)
{
    Fixture *f = opaque;
    char me = f->next++;

    spin_lock(&f->spin);
    co_queue_wait_spin(&f->queue, &f->spin);
    g_assert_false(spin_trylock(&f->spin));
    note(&f->log, me);
    spin_unlock(&f->spin);
    f->ended++;
}

static void test_queue(void)
{
    Fixture f;

    init(&f);
    g_assert_true(co_queue_empty(&f.queue));
    g_assert_false(co_queue_next(&f.queue));
    for (int i = 0; i < 3; i++) {
        start(&f, queue_entry);
        start(&f, queue_spin_entry);
    }
    g_assert_false(co_queue_empty(&f.queue));
    g_assert_true(co_queue_next(&f.queue));
    g_assert_cmpstr(f.log.text, ==, ""); /* never inside of the call */
    run(&f, 1);
    g_assert_true(co_queue_next(&f.queue));
    run(&f, 2);
    g_assert_cmpstr(f.log.text, ==, "ab");
    co_queue_all(&f.queue);
    g_assert_true(co_queue_empty(&f.queue));
    run(&f, 6);
    g_assert_cmpstr(f.log.text, ==, "abcdef");
}

/* ---- CoRwLock ---- */

static void coroutine_fn reader_entry(void *opaque)
{
    Fixture *f = opaque;
    char me = f->next++;

    co_rwlock_rdlock(&f->rw);
    note(&f->log, me);
    wait_while_held(f);
    co_rwlock_unlock(&f->rw);
    f->ended++;
}

static void coroutine_fn writer_entry(void *opaque)
{
    Fixture *f = opaque;
    char me = (char)g_ascii_toupper(f->next++);

    co_rwlock_wrlock(&f->rw);
    g_assert_cmpint(f->rw.readers, ==, -1);
    note(&f->log, me);
    co_reschedule_self();
    g_assert_cmpint(f->rw.readers, ==, -1);
    note(&f->log, '.');
    co_rwlock_unlock(&f->rw);
    f->ended++;
}

/* Readers share; a writer is not starved by readers who come later; readers behind it go
 * together. */
static void test_rwlock_order(void)
{
    Fixture f;

    init(&f);
    f.hold = true;
    start(&f, reader_entry);
    start(&f, reader_entry);
    start(&f, writer_entry);
    start(&f, reader_entry);
    start(&f, reader_entry);
    start(&f, writer_entry);
    g_assert_cmpstr(f.log.text, ==, "ab");
    f.hold = false;
    run(&f, 6);
    g_assert_cmpstr(f.log.text, ==, "abC.deF.");
    g_assert_cmpint(f.rw.readers, ==, 0);
}

/* ---- The end of a lock ---- */

typedef struct Mortal {
    CoMutex mutex;
    CoRwLock rw;
    bool mutex_last;
    atomic_bool held, waits; /* the first one has them; the second one is about to wait */
    atomic_int *left;
} Mortal;

/* The last one frees what the one before it may just have unlocked. */
static void coroutine_fn first_entry(void *opaque)
{
    Mortal *m = opaque;

    bool mutex_last = m->mutex_last;

    co_mutex_lock(&m->mutex);
    co_rwlock_rdlock(&m->rw);
    atomic_store(&m->held, true);
    while (!atomic_load(&m->waits)) {
        co_reschedule_self();
    }
    co_reschedule_self();
    if (mutex_last) {
        co_rwlock_unlock(&m->rw);
        co_mutex_unlock(&m->mutex);
    } else {
        co_mutex_unlock(&m->mutex);
        co_rwlock_unlock(&m->rw);
    }
}

static void coroutine_fn last_entry(void *opaque)
{
    Mortal *m = opaque;
    atomic_int *left = m->left;

    while (!atomic_load(&m->held)) {
        co_reschedule_self();
    }
    atomic_store(&m->waits, true);
    co_mutex_lock(&m->mutex);
    co_mutex_unlock(&m->mutex);
    co_rwlock_wrlock(&m->rw);
    co_rwlock_unlock(&m->rw);
    memset(m, 0xff, sizeof(*m));
    g_free(m);
    atomic_fetch_sub(left, 1);
}

static void test_freed_by_the_woken(void)
{
    IoThread *a = io_thread_new("a", NULL), *b = io_thread_new("b", NULL);
    atomic_int left = 2000;

    for (int i = 0; i < 2000; i++) {
        Mortal *m = g_new0(Mortal, 1);

        co_mutex_init(&m->mutex);
        co_rwlock_init(&m->rw);
        m->left = &left;
        m->mutex_last = i % 2;
        aio_co_schedule(io_thread_context(a), coroutine_create(first_entry, m));
        aio_co_schedule(io_thread_context(b), coroutine_create(last_entry, m));
        if (i % 50 == 0) {
            g_usleep(200);
        }
    }
    while (atomic_load(&left) > 0) {
        g_usleep(1000);
    }
    io_thread_free(a);
    io_thread_free(b);
}

/* ---- Wake-ups from a thread without a loop ---- */

typedef struct Ring {
    SpinLock spin;
    CoQueue queue;
    int tokens;
    atomic_int taken;
} Ring;

#define TOKENS 3000

static void coroutine_fn taker_entry(void *opaque)
{
    Ring *r = opaque;

    for (int i = 0; i < TOKENS / 10; i++) {
        spin_lock(&r->spin);
        while (r->tokens == 0) {
            co_queue_wait_spin(&r->queue, &r->spin);
        }
        r->tokens--;
        spin_unlock(&r->spin);
        atomic_fetch_add(&r->taken, 1);
    }
}

static gpointer giver(gpointer opaque)
{
    Ring *r = opaque;

    for (int i = 0; i < TOKENS / 2; i++) {
        spin_lock(&r->spin);
        r->tokens++;
        spin_unlock(&r->spin);
        co_queue_next(&r->queue);
    }
    return NULL;
}

static void test_wake_from_thread(void)
{
    IoThread *t[2] = { io_thread_new("a", NULL), io_thread_new("b", NULL) };
    Ring r = { .tokens = 0 };
    GThread *g[2];

    spin_init(&r.spin);
    co_queue_init(&r.queue);
    for (int i = 0; i < 10; i++) {
        aio_co_schedule(io_thread_context(t[i % 2]), coroutine_create(taker_entry, &r));
    }
    for (int i = 0; i < 2; i++) {
        g[i] = g_thread_new("giver", giver, &r);
    }
    for (int i = 0; i < 2; i++) {
        g_thread_join(g[i]);
    }
    while (atomic_load(&r.taken) < TOKENS) {
        g_usleep(1000);
    }
    io_thread_free(t[0]);
    io_thread_free(t[1]);
    g_assert_cmpint(r.tokens, ==, 0);
}

/* ---- A switch where it hurts ---- */

/*
 * coroutine_self() is what a lock calls on its way into a waiting list (the linker's --wrap brings
 * it here). While armed, it lets the other thread run until that has done its part: at once where
 * nothing keeps it away, never where the caller holds what guards the list.
 */
#define PATIENCE_US 50000
Coroutine *__real_coroutine_self(void);
Coroutine *__wrap_coroutine_self(void);

static __thread bool armed;
static atomic_bool may_go, gone; /* the other thread: may begin, has done its part */

Coroutine *__wrap_coroutine_self(void)
{
    if (armed) {
        gint64 end = g_get_monotonic_time() + PATIENCE_US;

        atomic_store(&may_go, true);
        while (!atomic_load(&gone) && g_get_monotonic_time() < end) {
            g_usleep(100);
        }
    }
    return __real_coroutine_self();
}

typedef struct Switch {
    CoMutex mutex;
    SpinLock spin;
    CoQueue queue;
    bool with_mutex, ready; /* ready: what is waited for; under the lock */
    atomic_bool woken, over;
} Switch;

static void coroutine_fn waits_entry(void *opaque)
{
    Switch *s = opaque;

    if (s->with_mutex) {
        co_mutex_lock(&s->mutex);
        while (!s->ready) {
            armed = true;
            co_queue_wait(&s->queue, &s->mutex);
        }
        co_mutex_unlock(&s->mutex);
    } else {
        spin_lock(&s->spin);
        while (!s->ready) {
            armed = true;
            co_queue_wait_spin(&s->queue, &s->spin);
        }
        spin_unlock(&s->spin);
    }
    atomic_store(&s->woken, true);
}

/* Enters the coroutine, and disarms where that has come to sleep. */
static void waits_bh(void *opaque)
{
    coroutine_enter(coroutine_create(waits_entry, opaque));
    armed = false;
}

static void coroutine_fn wakes_entry(void *opaque)
{
    Switch *s = opaque;

    while (!atomic_load(&may_go)) {
        co_reschedule_self();
    }
    if (s->with_mutex) {
        while (!co_mutex_trylock(&s->mutex)) {
            co_reschedule_self();
        }
        s->ready = true;
        co_mutex_unlock(&s->mutex);
    } else {
        spin_lock(&s->spin);
        s->ready = true;
        spin_unlock(&s->spin);
    }
    co_queue_all(&s->queue);
    atomic_store(&gone, true);
    atomic_store(&s->over, true);
}

static void test_switch(gconstpointer with_mutex)
{
    IoThread *a = io_thread_new("waits", NULL), *b = io_thread_new("wakes", NULL);
    Switch *s = g_new0(Switch, 1);

    co_mutex_init(&s->mutex);
    spin_init(&s->spin);
    co_queue_init(&s->queue);
    s->with_mutex = GPOINTER_TO_INT(with_mutex);
    atomic_store(&may_go, false);
    atomic_store(&gone, false);
    aio_co_schedule(io_thread_context(b), coroutine_create(wakes_entry, s));
    aio_bh_schedule_oneshot(io_thread_context(a), waits_bh, s);
    for (int i = 0; !atomic_load(&s->woken); i++) {
        g_assert_cmpint(i, <, 10000); /* it would sleep for ever */
        g_usleep(1000);
    }
    g_assert_true(atomic_load(&may_go)); /* the switch took place */
    while (!atomic_load(&s->over)) {
        g_usleep(100);
    }
    io_thread_free(a);
    io_thread_free(b);
    g_free(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/co-lock/mutex-fifo", test_mutex_fifo);
    g_test_add_func("/co-lock/mutex-fair", test_mutex_fair);
    g_test_add_func("/co-lock/mutex-guard", test_mutex_guard);
    g_test_add_func("/co-lock/queue", test_queue);
    g_test_add_func("/co-lock/rwlock-order", test_rwlock_order);
    g_test_add_func("/co-lock/freed-by-the-woken", test_freed_by_the_woken);
    g_test_add_func("/co-lock/wake-from-thread", test_wake_from_thread);
    g_test_add_data_func("/co-lock/queue-no-lost-wakeup/mutex", GINT_TO_POINTER(true), test_switch);
    g_test_add_data_func("/co-lock/queue-no-lost-wakeup/spin", GINT_TO_POINTER(false), test_switch);
    return g_test_run();
}
