/* SPDX-License-Identifier: MIT */
/* An open image gets other options. */
#include "block/backend/backend-int.h"
#include "block/open/open.h"

typedef struct ReopenArgs {
    BlockBackend *blk;
    Options *options;
    GError **errp;
} ReopenArgs;

static int coroutine_fn reopen_fn(void *opaque)
{
    ReopenArgs *a = opaque;
    BlockBackend *blk = a->blk;
    bool ok;

    blk_co_alone_begin(blk);
    ok = bdrv_co_reopen(blk->root, a->options, a->errp);
    if (ok) {
        blk->writable = !blk->bs->read_only;
    }
    blk_co_alone_end(blk);
    return ok ? 0 : -EINVAL;
}

bool blk_reopen(BlockBackend *blk, Options *options, GError **errp)
{
    ReopenArgs a = { blk, options, errp };

    return co_run_sync(reopen_fn, &a) == 0;
}
