/* SPDX-License-Identifier: MIT */
/*
 * Stackful coroutines: life cycle, stack pool, nesting.
 *
 * INV-CO-1  A coroutine is entered by one thread at a time; `caller` is set while it runs.
 * INV-CO-2  A coroutine goes back to the pool only when nothing runs on its stack: after the switch
 *           away from it. It is parked in coroutine_trampoline() then. The switch itself is in
 *           coroutine-asm.c or coroutine-ucontext.c.
 */
#include "util/coroutine-int.h"

#include "util/aio.h"
#include "util/spinlock.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef CO_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CO_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define CO_VALGRIND 1
#endif

#if defined(CO_ASAN) || defined(CO_TSAN)
#define STACK_SIZE (1024 * 1024)
#else
#define STACK_SIZE (512 * 1024)
#endif
#define POOL_LOCAL_MAX 64
#define POOL_GLOBAL_MAX 256

typedef struct ThreadState {
    Coroutine main;     /* stands for the thread's own stack */
    Coroutine *current; /* NULL: none runs */
    Coroutine *pool;
    unsigned pool_size;
    Coroutine *wake_head, **wake_tail; /* woken here by a coroutine that runs */
    bool draining, used;
} ThreadState;

static __thread ThreadState thread_state;

/* Stacks that no thread's own pool had room for. */
static struct {
    SpinLock lock;
    Coroutine *head;
    atomic_uint size; /* changed under lock; looked at without */
} global_pool;

static void thread_state_exit(gpointer p);
static GPrivate thread_exit = G_PRIVATE_INIT(thread_state_exit);

/* Not inlined: a coroutine may wake in another thread, and the compiler must not keep the address
 * of a thread's variable over a switch. */
static __attribute__((noinline)) ThreadState *get_state(void)
{
    ThreadState *ts = &thread_state;

    __asm__ __volatile__("" : "+r"(ts)::"memory");
    return ts;
}

/* ASan must know the bounds of the stack that it goes back to. */
static void learn_own_stack(Coroutine *main)
{
#ifdef CO_ASAN
    pthread_attr_t attr;

    if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        pthread_attr_getstack(&attr, &main->stack, &main->stack_size);
        pthread_attr_destroy(&attr);
    }
#endif
}

static void first_use(ThreadState *ts)
{
    ts->used = true;
    ts->wake_tail = &ts->wake_head;
    co_backend_init_main(&ts->main);
    learn_own_stack(&ts->main);
#ifdef CO_TSAN
    ts->main.fiber = __tsan_get_current_fiber();
#endif
    g_private_set(&thread_exit, ts);
}

static void stack_free(Coroutine *co)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

#ifdef CO_TSAN
    __tsan_destroy_fiber(co->fiber);
#endif
#ifdef CO_VALGRIND
    VALGRIND_STACK_DEREGISTER(co->valgrind_id);
#endif
    co_backend_fini(co);
    munmap((char *)co->stack - page, co->stack_size + page);
    g_free(co);
}

static Coroutine *stack_new(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    Coroutine *co = g_try_new0(Coroutine, 1);
    char *p;

    if (!co) {
        return NULL;
    }
    p = mmap(NULL, STACK_SIZE + page, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (p == MAP_FAILED || mprotect(p, page, PROT_NONE) < 0) {
        if (p != MAP_FAILED) {
            munmap(p, STACK_SIZE + page);
        }
        g_free(co);
        return NULL;
    }
    co->stack = p + page;
    co->stack_size = STACK_SIZE;
#ifdef CO_VALGRIND
    co->valgrind_id = VALGRIND_STACK_REGISTER(co->stack, (char *)co->stack + STACK_SIZE);
#endif
#ifdef CO_TSAN
    co->fiber = __tsan_create_fiber(0);
#endif
    if (!co_backend_init(co)) {
        stack_free(co);
        return NULL;
    }
    return co;
}

static Coroutine *pool_get(ThreadState *ts)
{
    Coroutine *co = ts->pool;

    if (co) {
        ts->pool = co->next;
        ts->pool_size--;
        return co;
    }
    if (atomic_load_explicit(&global_pool.size, memory_order_relaxed) > 0) {
        spin_lock(&global_pool.lock);
        co = global_pool.head;
        if (co) {
            global_pool.head = co->next;
            global_pool.size--;
        }
        spin_unlock(&global_pool.lock);
    }
    return co ? co : stack_new();
}

static void pool_put_global(Coroutine *co)
{
    spin_lock(&global_pool.lock);
    if (global_pool.size < POOL_GLOBAL_MAX) {
        co->next = global_pool.head;
        global_pool.head = co;
        global_pool.size++;
        co = NULL;
    }
    spin_unlock(&global_pool.lock);
    if (co) {
        stack_free(co);
    }
}

static void pool_put(ThreadState *ts, Coroutine *co)
{
    if (ts->pool_size < POOL_LOCAL_MAX) {
        co->next = ts->pool;
        ts->pool = co;
        ts->pool_size++;
    } else {
        pool_put_global(co);
    }
}

void coroutine_fork_lock(void) UNCHECKED_LOCKS
{
    spin_lock(&global_pool.lock);
}

void coroutine_fork_unlock(void) UNCHECKED_LOCKS
{
    spin_unlock(&global_pool.lock);
}

static void thread_state_exit(gpointer p)
{
    ThreadState *ts = p;

    while (ts->pool) {
        Coroutine *co = ts->pool;

        ts->pool = co->next;
        pool_put_global(co);
    }
    ts->pool_size = 0;
    co_backend_fini(&ts->main);
    ts->used = false;
}

/* The one place that switches; comes back when something switches to @from again. */
static void switch_to(Coroutine *from, Coroutine *to)
{
#ifdef CO_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_size);
#endif
#ifdef CO_TSAN
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
    co_backend_switch(from, to);
#ifdef CO_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

void coroutine_trampoline(Coroutine *co)
{
#ifdef CO_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
    for (;;) {
        Coroutine *caller;

        co->entry(co->opaque);
        co->ended = true;
        caller = co->caller;
        co->caller = NULL;
        switch_to(co, caller);
    }
}

Coroutine *coroutine_create(CoroutineEntry *entry, void *opaque)
{
    ThreadState *ts = get_state();
    Coroutine *co;

    if (unlikely(!ts->used)) {
        first_use(ts);
    }
    co = pool_get(ts);
    if (unlikely(!co)) {
        return NULL;
    }
    co->entry = entry;
    co->opaque = opaque;
    co->home = NULL;
    co->ended = false;
    co->next = NULL;
    return co;
}

static void drain_wakes(ThreadState *ts)
{
    ts->draining = true;
    while (ts->wake_head) {
        Coroutine *co = ts->wake_head;

        ts->wake_head = co->next;
        if (!ts->wake_head) {
            ts->wake_tail = &ts->wake_head;
        }
        co->next = NULL;
        coroutine_enter(co);
    }
    ts->draining = false;
}

void coroutine_enter(Coroutine *co)
{
    ThreadState *ts = get_state();
    Coroutine *from;

    if (unlikely(!ts->used)) {
        first_use(ts);
    }
    from = ts->current ? ts->current : &ts->main;
    g_assert(!co->caller);
    if (!co->home) {
        co->home = aio_current();
    }
    co->caller = from;
    ts->current = co;
    switch_to(from, co);
    /* The thread is the same: whoever enters cannot itself have moved meanwhile. */
    ts->current = from == &ts->main ? NULL : from;
    if (co->ended) {
        pool_put(ts, co);
    }
    if (!ts->current && ts->wake_head && !ts->draining) {
        drain_wakes(ts);
    }
}

void coroutine_yield(void)
{
    Coroutine *self = get_state()->current;
    Coroutine *caller = self->caller;

    self->caller = NULL;
    switch_to(self, caller);
}

Coroutine *coroutine_self(void)
{
    return get_state()->current;
}

bool in_coroutine(void)
{
    return get_state()->current != NULL;
}

void coroutine_set_home(Coroutine *co, AioContext *home)
{
    co->home = home;
}

AioContext *coroutine_home(Coroutine *co)
{
    return co->home;
}

void coroutine_wake_later(Coroutine *co)
{
    ThreadState *ts = get_state();

    co->next = NULL;
    *ts->wake_tail = co;
    ts->wake_tail = &co->next;
}
