/* SPDX-License-Identifier: MIT */
/* Inside of coroutines: what coroutine.c, the switch back ends and the event loop share. */
#ifndef UTIL_COROUTINE_INT_H
#define UTIL_COROUTINE_INT_H

#include "config-host.h"
#include "util/coroutine.h"

#include <stdatomic.h>

#if defined(__SANITIZE_ADDRESS__)
#define CO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CO_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define CO_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define CO_TSAN 1
#endif

struct Coroutine {
    void *sp; /* saved stack pointer, or a ucontext */
    CoroutineEntry *entry;
    void *opaque;
    Coroutine *caller; /* who entered us; NULL while we do not run */
    AioContext *home;
    Coroutine *next; /* link of a pool, a wake list or a schedule list */
    void *stack;     /* lowest usable address */
    size_t stack_size;
    atomic_bool scheduled; /* in a context's schedule list */
    bool ended;
#ifdef CO_ASAN
    void *fake_stack;
#endif
#ifdef CO_TSAN
    void *fiber;
#endif
    unsigned valgrind_id;
};

/* ---- The back end: coroutine-asm.c or coroutine-ucontext.c ---- */
/* Prepare @co so that the first switch to it runs coroutine_trampoline(). False: no memory. */
bool co_backend_init(Coroutine *co);
/* The same for a thread's own stack. */
bool co_backend_init_main(Coroutine *co);
void co_backend_fini(Coroutine *co);
void co_backend_switch(Coroutine *from, Coroutine *to);

/* @co, which does not run, goes on in @home. */
void coroutine_set_home(Coroutine *co, AioContext *home);

/* First function on a new stack; never returns. */
void coroutine_trampoline(Coroutine *co) __attribute__((noreturn));

/* The threads' common pool of stacks is at rest between the two: around fork(). */
void coroutine_fork_lock(void);
void coroutine_fork_unlock(void);

/* Queue @co to be entered when the outermost coroutine of this thread yields; only in a
 * coroutine. */
void coroutine_wake_later(Coroutine *co);

#endif
