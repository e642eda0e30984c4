/* SPDX-License-Identifier: MIT */
/* The portable switch: swapcontext(). Slower (it saves the signal mask), for other processors. */
#include "util/coroutine-int.h"

#include <ucontext.h>

static void entry(unsigned hi, unsigned lo)
{
    coroutine_trampoline((Coroutine *)(uintptr_t)(((uint64_t)hi << 32) | lo));
}

bool co_backend_init(Coroutine *co)
{
    ucontext_t *uc = g_try_new0(ucontext_t, 1);
    uint64_t p = (uintptr_t)co;

    if (!uc || getcontext(uc) < 0) {
        g_free(uc);
        return false;
    }
    co->sp = uc;
    uc->uc_stack.ss_sp = co->stack;
    uc->uc_stack.ss_size = co->stack_size;
    uc->uc_link = NULL;
    makecontext(uc, (void (*)(void))entry, 2, (unsigned)(p >> 32), (unsigned)p);
    return true;
}

bool co_backend_init_main(Coroutine *co)
{
    co->sp = g_new0(ucontext_t, 1); /* filled by the first switch */
    return true;
}

void co_backend_fini(Coroutine *co)
{
    g_free(co->sp);
    co->sp = NULL;
}

void co_backend_switch(Coroutine *from, Coroutine *to)
{
    swapcontext(from->sp, to->sp);
}
