/* SPDX-License-Identifier: MIT */
/* The generic runner of the sync forms. */
#include "util/aio-int.h"

#include <errno.h>

typedef struct SyncRun {
    CoRunFunc *fn;
    void *opaque;
    int ret;
    bool done;
} SyncRun;

static void coroutine_fn sync_entry(void *opaque)
{
    SyncRun *r = opaque;

    r->ret = r->fn(r->opaque);
    r->done = true;
}

int co_run_sync(CoRunFunc *fn, void *opaque)
{
    SyncRun r = { .fn = fn, .opaque = opaque };
    AioContext *ctx;
    Coroutine *co;

    if (in_coroutine()) {
        return fn(opaque);
    }
    co = coroutine_create(sync_entry, &r);
    if (!co) {
        return -ENOMEM;
    }
    ctx = aio_current();
    aio_acquire(ctx);
    coroutine_enter(co);
    while (!r.done) {
        aio_wait_helping(ctx);
    }
    aio_release(ctx);
    return r.ret;
}
