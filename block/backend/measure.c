/* SPDX-License-Identifier: MIT */
/* How long the file of an image will be, for users. */
#include "block/backend/backend-int.h"
#include "block/driver/registry.h"
#include "block/open/open.h"

int coroutine_fn blk_co_measure(const char *format, Options *opts, BlockBackend *src,
                                BlockMeasureInfo *info, GError **errp)
{
    g_autoptr(Options) o = opts ? opts : opts_new();
    const BlockDriver *drv = bdrv_find_driver(format);
    BlockMeasureInfo m = { .bitmaps = -1 };
    int ret;

    if (!drv) {
        return error_set(errp, EINVAL, "Unknown file format '%s'", format);
    }
    ret = src ? blk_co_enter(src) : 0;
    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not read the source");
    }
    ret = drv->co_measure(o, src ? src->bs : NULL, &m, errp);
    if (src) {
        blk_leave(src);
    }
    if (ret == -ENOTSUP && errp && !*errp) {
        error_set(errp, ENOTSUP, "Block driver '%s' does not support size measurement", format);
    }
    if (ret == 0) {
        *info = m;
    }
    return ret;
}

typedef struct MeasureArgs {
    const char *format;
    Options *opts;
    BlockBackend *src;
    BlockMeasureInfo *info;
    GError **errp;
} MeasureArgs;

static int coroutine_fn measure_fn(void *opaque)
{
    MeasureArgs *a = opaque;

    return blk_co_measure(a->format, a->opts, a->src, a->info, a->errp);
}

int blk_measure(const char *format, Options *opts, BlockBackend *src, BlockMeasureInfo *info,
                GError **errp)
{
    MeasureArgs a = { format, opts, src, info, errp };

    return co_run_sync(measure_fn, &a);
}
