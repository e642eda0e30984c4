/* SPDX-License-Identifier: MIT */
/* The plain forms of the coroutine functions: one argument record, one entry each, one runner. */
#include "block/backend/backend-int.h"

typedef struct SyncArgs {
    BlockBackend *blk;
    BlockDriverState *bs, *base;
    int64_t offset, bytes;
    void *buf;
    unsigned flags;
    bool exact;
    BlockPrealloc prealloc;
    GError **errp;
    BlockCheckResult *res;
    const BlockCheckWatch *watch;
    int64_t *pnum, *map;
    BlockDriverState **file;
    int *depth;
} SyncArgs;

static int coroutine_fn length_fn(void *opaque)
{
    SyncArgs *a = opaque;

    a->bytes = blk_co_getlength(a->blk);
    return 0;
}

int64_t blk_length(BlockBackend *blk)
{
    SyncArgs a = { .blk = blk };
    int ret = co_run_sync(length_fn, &a);

    return ret < 0 ? ret : a.bytes;
}

static int coroutine_fn pread_fn(void *opaque)
{
    SyncArgs *a = opaque;

    return blk_co_pread(a->blk, a->offset, a->bytes, a->buf, a->flags);
}

int blk_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf, unsigned flags)
{
    SyncArgs a = { .blk = blk, .offset = offset, .bytes = bytes, .buf = buf, .flags = flags };

    return co_run_sync(pread_fn, &a);
}

static int coroutine_fn pwrite_fn(void *opaque)
{
    SyncArgs *a = opaque;

    return blk_co_pwrite(a->blk, a->offset, a->bytes, a->buf, a->flags);
}

int blk_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf, unsigned flags)
{
    SyncArgs a = {
        .blk = blk, .offset = offset, .bytes = bytes, .buf = (void *)(uintptr_t)buf, .flags = flags
    };

    return co_run_sync(pwrite_fn, &a);
}

static int coroutine_fn zeroes_fn(void *opaque)
{
    SyncArgs *a = opaque;

    return blk_co_pwrite_zeroes(a->blk, a->offset, a->bytes, a->flags);
}

int blk_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes, unsigned flags)
{
    SyncArgs a = { .blk = blk, .offset = offset, .bytes = bytes, .flags = flags };

    return co_run_sync(zeroes_fn, &a);
}

static int coroutine_fn discard_fn(void *opaque)
{
    SyncArgs *a = opaque;

    return blk_co_pdiscard(a->blk, a->offset, a->bytes);
}

int blk_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    SyncArgs a = { .blk = blk, .offset = offset, .bytes = bytes };

    return co_run_sync(discard_fn, &a);
}

static int coroutine_fn flush_fn(void *opaque)
{
    return blk_co_flush(opaque);
}

int blk_flush(BlockBackend *blk)
{
    return co_run_sync(flush_fn, blk);
}

static int coroutine_fn truncate_fn(void *opaque)
{
    SyncArgs *a = opaque;

    return blk_co_truncate(a->blk, a->bytes, a->exact, a->prealloc, a->flags, a->errp);
}

int blk_truncate(BlockBackend *blk, int64_t bytes, bool exact, BlockPrealloc prealloc,
                 unsigned flags, GError **errp)
{
    SyncArgs a = { .blk = blk,
                   .bytes = bytes,
                   .exact = exact,
                   .prealloc = prealloc,
                   .flags = flags,
                   .errp = errp };

    return co_run_sync(truncate_fn, &a);
}

static int coroutine_fn check_fn(void *opaque)
{
    SyncArgs *a = opaque;
    int ret;

    blk_co_alone_begin(a->blk);
    ret = bdrv_co_check(a->blk->bs, a->res, a->flags, a->watch);
    blk_co_alone_end(a->blk);
    return ret;
}

int blk_check(BlockBackend *blk, BlockCheckResult *res, unsigned fix, BlockReportFunc *report,
              void *opaque)
{
    BlockCheckWatch watch = { .report = report, .opaque = opaque };

    return blk_check_watched(blk, res, fix, &watch);
}

int blk_check_watched(BlockBackend *blk, BlockCheckResult *res, unsigned fix,
                      const BlockCheckWatch *watch)
{
    SyncArgs a = { .blk = blk, .res = res, .flags = fix, .watch = watch };

    return co_run_sync(check_fn, &a);
}

static int coroutine_fn status_fn(void *opaque)
{
    SyncArgs *a = opaque;

    return blk_co_block_status_above(a->blk, a->bs, a->base, a->offset, a->bytes, a->pnum, a->map,
                                     a->file, a->depth);
}

int blk_block_status_above(BlockBackend *blk, BlockDriverState *layer, BlockDriverState *base,
                           int64_t offset, int64_t bytes, int64_t *pnum, int64_t *map,
                           BlockDriverState **file, int *depth)
{
    SyncArgs a = { .blk = blk,
                   .bs = layer,
                   .base = base,
                   .offset = offset,
                   .bytes = bytes,
                   .pnum = pnum,
                   .map = map,
                   .file = file,
                   .depth = depth };

    return co_run_sync(status_fn, &a);
}

static int coroutine_fn allocated_fn(void *opaque)
{
    SyncArgs *a = opaque;

    return blk_co_is_allocated(a->blk, a->offset, a->bytes, a->pnum);
}

int blk_is_allocated(BlockBackend *blk, int64_t offset, int64_t bytes, int64_t *pnum)
{
    SyncArgs a = { .blk = blk, .offset = offset, .bytes = bytes, .pnum = pnum };

    return co_run_sync(allocated_fn, &a);
}

static int coroutine_fn allocated_size_fn(void *opaque)
{
    SyncArgs *a = opaque;

    a->bytes = bdrv_co_get_allocated_size(a->bs);
    return 0;
}

int64_t blk_allocated_size(BlockDriverState *bs)
{
    SyncArgs a = { .bs = bs };
    int ret = co_run_sync(allocated_size_fn, &a);

    return ret < 0 ? ret : a.bytes;
}
