/* SPDX-License-Identifier: MIT */
/*
 * Stackful coroutines.
 *
 * A coroutine runs in one thread at a time, in its home AioContext: the one
 * that was current when it was first entered, or that it moved to since
 * (co_move_to).  Stacks are pooled and have a guard page.
 */
#ifndef UTIL_COROUTINE_H
#define UTIL_COROUTINE_H

#include "util/compiler.h"

DRIVER_API_BEGIN

typedef struct Coroutine Coroutine;
typedef struct AioContext AioContext;
typedef void coroutine_fn CoroutineEntry(void *opaque);

/* A new coroutine, not yet running.  It frees itself when @entry returns.
 * Aborts never; NULL if no stack can be had. */
Coroutine *coroutine_create(CoroutineEntry *entry, void *opaque);

/* Run @co until it yields or ends.  Any thread that may run its home context;
 * never on a coroutine that is running. May be called from a coroutine (nests). */
void coroutine_enter(Coroutine *co);

/* Give control back to whoever entered this coroutine. */
void coroutine_fn coroutine_yield(void);

/* The running coroutine, or NULL outside of any. */
Coroutine *coroutine_self(void);
bool in_coroutine(void);

/* The context that @co runs in. */
AioContext *coroutine_home(Coroutine *co);

DRIVER_API_END

#endif
