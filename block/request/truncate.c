/* SPDX-License-Identifier: MIT */
/* The gate of resizes. */
#include "block/request/request.h"

/* The longest disk that there is: what reads a little past its end overflows nothing. */
#define MAX_LENGTH INT64_C(0x7fffffffc0000000)

/* Zeroes over what of [start, end) would show an older layer. */
static int coroutine_fn zero_new_area(BdrvChild *c, int64_t start, int64_t end)
{
    int ret = 0;

    while (start < end && ret >= 0) {
        int64_t n;
        int st = bdrv_co_block_status_above(c->bs, NULL, start, end - start, &n, NULL, NULL, NULL);

        if (st < 0) {
            return st;
        }
        if (n == 0) {
            return -EIO; /* somebody has cut it meanwhile */
        }
        ret = st & BLK_ZERO ? 0 : bdrv_co_pwrite_zeroes(c, start, n, 0);
        start += n;
    }
    return ret < 0 ? ret : 0;
}

/* What a driver returned; @err, which it may have set, is taken over. */
static int tell_result(int ret, GError *err, GError **errp)
{
    if (ret >= 0) {
        g_clear_error(&err);
        return 0;
    }
    if (err) {
        g_propagate_error(errp, err);
        return ret;
    }
    return error_set_errno(errp, ret, "Failed to resize image");
}

static int coroutine_fn call_driver(BlockDriverState *bs, int64_t bytes, bool exact,
                                    BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    GError *err = NULL;
    int ret = bs->drv->co_truncate(bs, bytes, exact, prealloc, flags & bs->supported_truncate_flags,
                                   &err);

    return tell_result(ret, err, errp);
}

static int coroutine_fn truncate_guarded(BdrvChild *c, int64_t bytes, bool exact,
                                         BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    StartGuard g;
    int ret;

    if (likely(!c->guard) || bytes >= PROBE_BYTES) {
        return call_driver(c->bs, bytes, exact, prealloc, flags, errp);
    }
    ret = bdrv_co_guard_begin(c, &g, bytes, PROBE_BYTES - bytes, NULL);
    if (ret < 0) {
        return error_set_errno(errp, ret, "Cannot cut within the first sector");
    }
    ret = call_driver(c->bs, bytes, exact, prealloc, flags, errp);
    bdrv_co_guard_end(c);
    return ret;
}

/* What can be told before anything is done. */
static int coroutine_fn co_check_resize(BdrvChild *c, int64_t bytes, int64_t old, GError **errp)
{
    if (bytes < 0) {
        return error_set(errp, EINVAL, "Image size cannot be negative");
    }
    if (bytes > MAX_LENGTH) {
        return error_set(errp, EIO,
                         "offset(%" G_GINT64_FORMAT ") exceeds maximum(%" G_GINT64_FORMAT ")",
                         bytes, MAX_LENGTH);
    }
    if (old < 0) {
        return error_set_errno(errp, (int)old, "Failed to get old image size");
    }
    if (c->bs->read_only) {
        return error_set(errp, EACCES, "Image is read-only");
    }
    return c->perm & BLK_PERM_RESIZE ? 0
                                     : error_set(errp, EPERM, "Permission to resize is missing");
}

/* It has another length than @old. */
static int coroutine_fn co_tell_length(BlockDriverState *bs, int64_t old, GError **errp)
{
    int64_t len;

    atomic_store(&bs->unsynced, true);
    len = bdrv_co_refresh_length(bs);
    if (len < 0) {
        return error_set_errno(errp, (int)len, "Could not refresh total sector count");
    }
    if (len != old) {
        bdrv_co_notify_parents(bs);
    }
    return 0;
}

int coroutine_fn bdrv_co_truncate(BdrvChild *c, int64_t bytes, bool exact, BlockPrealloc prealloc,
                                  unsigned flags, GError **errp)
{
    BlockDriverState *bs = c->bs;
    BlockDriverState *backing = bdrv_backing_bs(bs);
    int64_t old = bdrv_co_getlength(bs), shown;
    int ret = co_check_resize(c, bytes, old, errp);

    ret = ret < 0 ? ret : truncate_guarded(c, bytes, exact, prealloc, flags, errp);
    ret = ret < 0 ? ret : co_tell_length(bs, old, errp);
    if (ret < 0 || bytes <= old) {
        return ret;
    }
    shown = backing ? MIN(bytes, atomic_load(&backing->total_bytes)) : old;
    if ((flags & BLK_REQ_ZERO_WRITE) && !(bs->supported_truncate_flags & BLK_REQ_ZERO_WRITE)) {
        shown = bytes;
    }
    ret = shown > old ? zero_new_area(c, old, shown) : 0;
    return ret < 0 ? error_set_errno(errp, ret, "Failed to zero the new area") : 0;
}

int coroutine_fn bdrv_co_truncate_beside(BdrvChild *c, int64_t bytes, bool exact,
                                         BlockPrealloc prealloc, unsigned flags,
                                         const BlockHold *hold, GError **errp)
{
    int64_t old = bdrv_co_getlength(c->bs);
    GError *err = NULL;
    int ret = co_check_resize(c, bytes, old, errp);

    if (ret < 0) {
        return ret;
    }
    ret = c->guard || flags
              ? -ENOTSUP
              : c->bs->drv->co_truncate_beside(c->bs, bytes, exact, prealloc, hold, &err);
    if (ret == -ENOTSUP) {
        g_clear_error(&err);
        hold->co_begin(hold->opaque);
        ret = bdrv_co_truncate(c, bytes, exact, prealloc, flags, errp);
        hold->end(hold->opaque);
        return ret;
    }
    ret = tell_result(ret, err, errp);
    return ret < 0 ? ret : co_tell_length(c->bs, old, errp);
}
