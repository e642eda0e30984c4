/* SPDX-License-Identifier: MIT */
/* What a loop looks at while it spins, before it sleeps. */
#include "util/aio-int.h"

struct AioPoller {
    AioPollFunc *fn; /* NULL: removed while the list was walked */
    void *opaque;
};

void aio_add_poller(AioContext *ctx, AioPollFunc *fn, void *opaque)
{
    AioPoller p = { fn, opaque };

    if (!ctx->pollers) {
        ctx->pollers = g_array_new(FALSE, FALSE, sizeof(AioPoller));
    }
    g_array_append_val(ctx->pollers, p);
}

void aio_remove_poller(AioContext *ctx, AioPollFunc *fn, void *opaque)
{
    for (guint i = 0; ctx->pollers && i < ctx->pollers->len; i++) {
        AioPoller *p = &g_array_index(ctx->pollers, AioPoller, i);

        if (p->fn == fn && p->opaque == opaque) {
            p->fn = NULL;
        }
    }
}

static void sweep(AioContext *ctx)
{
    for (guint i = ctx->pollers->len; i-- > 0;) {
        if (!g_array_index(ctx->pollers, AioPoller, i).fn) {
            g_array_remove_index(ctx->pollers, i);
        }
    }
}

bool aio_pollers_run(AioContext *ctx)
{
    bool found = false;

    if (likely(!ctx->pollers)) {
        return false;
    }
    if (ctx->walking_pollers++ == 0) {
        sweep(ctx);
    }
    for (guint i = 0; i < ctx->pollers->len; i++) {
        AioPoller p = g_array_index(ctx->pollers, AioPoller, i); /* the array may grow */

        found |= p.fn && p.fn(p.opaque);
    }
    ctx->walking_pollers--;
    return found;
}

void aio_pollers_fini(AioContext *ctx)
{
    g_clear_pointer(&ctx->pollers, g_array_unref);
}
