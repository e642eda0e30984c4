/* SPDX-License-Identifier: MIT */
/* raw: the file is the disk, or a window into it ("offset", "size"). */
#include "block/io.h"

#include <errno.h>

typedef struct RawState {
    int64_t offset;
    int64_t size; /* of the window; what the file gives, without has_size */
    bool has_size;
} RawState;

static int raw_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return 1; /* only when nobody else knows the file */
}

static int coroutine_fn check_window(BlockDriverState *bs, RawState *s, GError **errp)
{
    int64_t len = bdrv_co_getlength(bs->file->bs);

    if (len < 0) {
        return error_set_errno(errp, (int)len, "Could not get image size");
    }
    if (len < s->offset) {
        return error_set(errp, EINVAL,
                         "Offset (%" G_GINT64_FORMAT
                         ") cannot be greater than size of the containing "
                         "file (%" G_GINT64_FORMAT ")",
                         s->offset, len);
    }
    if (s->has_size && s->size > len - s->offset) {
        return error_set(errp, EINVAL,
                         "The sum of offset (%" G_GINT64_FORMAT ") and size (%" G_GINT64_FORMAT
                         ") has to be smaller or equal to the  actual size of the containing file "
                         "(%" G_GINT64_FORMAT ")",
                         s->offset, s->size, len);
    }
    if (s->has_size && !IS_ALIGNED(s->size, 512)) {
        return error_set(errp, EINVAL, "Specified size is not multiple of 512");
    }
    return 0;
}

static int take_window(Options *o, RawState *s, GError **errp)
{
    uint64_t offset, size;

    s->has_size = opts_has(o, "size");
    if (!opts_take_size(o, "offset", 0, &offset, errp) ||
        !opts_take_size(o, "size", 0, &size, errp)) {
        return -EINVAL;
    }
    if (offset > INT64_MAX || size > INT64_MAX) {
        return error_set(errp, EINVAL, "offset and size are too large");
    }
    s->offset = (int64_t)offset;
    s->size = (int64_t)size;
    return 0;
}

static int coroutine_fn raw_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    RawState *s = bs->opaque;
    int ret = take_window(o, s, errp);

    if (ret < 0) {
        return ret;
    }
    bs->file = bdrv_co_open_child(NULL, o, "file", bs, flags, BDRV_ROLE_FILE, false, errp);
    if (!bs->file) {
        return -EINVAL;
    }
    bs->supported_write_flags = bs->file->bs->supported_write_flags;
    bs->supported_zero_flags = bs->file->bs->supported_zero_flags;
    bs->supported_truncate_flags = bs->file->bs->supported_truncate_flags;
    return check_window(bs, s, errp);
}

static int coroutine_fn raw_co_reopen_prepare(BlockDriverState *bs, Options *o, int flags,
                                              void **state, GError **errp)
{
    g_autofree RawState *s = g_new0(RawState, 1);
    int ret = take_window(o, s, errp);

    ret = ret < 0 ? ret : check_window(bs, s, errp);
    if (ret == 0) {
        *state = g_steal_pointer(&s);
    }
    return ret;
}

static void raw_reopen_abort(BlockDriverState *bs, void *state)
{
    g_free(state);
}

static void raw_reopen_commit(BlockDriverState *bs, void *state)
{
    RawState *s = bs->opaque, *new = state;
    int64_t file = atomic_load(&bs->file->bs->total_bytes);

    g_assert(new->offset >= 0);
    *s = *new;
    atomic_store(&bs->total_bytes, s->has_size ? s->size : file - s->offset);
    g_free(new);
}

static void raw_refresh_limits(BlockDriverState *bs)
{
    bs->limits = bs->file->bs->limits;
    bs->limits.request_alignment = 1; /* the file's gate aligns */
    bs->limits.min_mem_alignment = 1;
}

static int coroutine_fn raw_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                      unsigned flags)
{
    g_assert(offset >= 0 && v->size > 0);
    return bdrv_co_preadv(bs->file, offset + ((RawState *)bs->opaque)->offset, v, flags);
}

/* Nothing may be done past the window. */
static int in_window(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    RawState *s = bs->opaque;

    g_assert(offset >= 0 && bytes >= 0);
    return s->has_size && (offset > s->size || bytes > s->size - offset) ? -ENOSPC : 0;
}

static int coroutine_fn raw_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                       unsigned flags)
{
    int ret = in_window(bs, offset, (int64_t)v->size);

    return ret < 0 ? ret
                   : bdrv_co_pwritev(bs->file, offset + ((RawState *)bs->opaque)->offset, v, flags);
}

static int coroutine_fn raw_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             unsigned flags)
{
    int ret = in_window(bs, offset, bytes);

    return ret < 0 ? ret
                   : bdrv_co_pwrite_zeroes(bs->file, offset + ((RawState *)bs->opaque)->offset,
                                           bytes, flags);
}

static int coroutine_fn raw_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int ret = in_window(bs, offset, bytes);

    return ret < 0 ? ret
                   : bdrv_co_pdiscard(bs->file, offset + ((RawState *)bs->opaque)->offset, bytes);
}

static int coroutine_fn raw_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                            int64_t bytes, int64_t *pnum, int64_t *map,
                                            BlockDriverState **file)
{
    *pnum = bytes;
    *map = offset + ((RawState *)bs->opaque)->offset;
    *file = bs->file->bs;
    return BLK_OFFSET_VALID | BLK_RAW;
}

static int64_t coroutine_fn raw_co_getlength(BlockDriverState *bs)
{
    RawState *s = bs->opaque;
    int64_t len = bdrv_co_getlength(bs->file->bs);

    if (len < 0) {
        return len;
    }
    return s->has_size ? s->size : MAX(len - s->offset, 0);
}

static int coroutine_fn raw_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                        BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    RawState *s = bs->opaque;

    if (s->has_size) {
        return error_set(errp, ENOTSUP, "Cannot resize fixed-size raw disks");
    }
    if (bytes > INT64_MAX - s->offset) {
        return error_set(errp, EINVAL, "Disk size too large for the chosen offset");
    }
    return bdrv_co_truncate(bs->file, bytes + s->offset, exact, prealloc, flags, errp);
}

static int coroutine_fn raw_co_create(const char *filename, Options *opts, GError **errp)
{
    uint64_t size;

    if (!opts_take_size(opts, "size", 0, &size, errp)) {
        return -EINVAL;
    }
    if (size > INT64_MAX - 511) {
        return error_set_errno(errp, EINVAL, "Could not resize file");
    }
    opts_set_int(opts, "size", (int64_t)ROUND_UP(size, 512));
    return bdrv_co_create_file(filename, opts, errp);
}

/* All of the disk, whatever it holds. */
static int coroutine_fn raw_co_measure(Options *opts, BlockDriverState *src, BlockMeasureInfo *info,
                                       GError **errp)
{
    int64_t length = src ? bdrv_co_getlength(src) : 0;
    uint64_t size = (uint64_t)MAX(length, 0);

    if (length < 0) {
        return error_set_errno(errp, (int)length, "Unable to get image virtual_size");
    }
    if (!src && !opts_take_size(opts, "size", 0, &size, errp)) {
        return -EINVAL;
    }
    info->required = info->exact = info->fully_allocated = ROUND_UP(size, UINT64_C(512));
    info->bitmaps = -1;
    return 0;
}

static bool raw_unwritten_reads_zero(BlockDriverState *bs)
{
    return bdrv_unwritten_reads_zero(bs->file->bs);
}

static int raw_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    return bs->file->bs->drv->get_info(bs->file->bs, info);
}

/* The file holds the disk and nothing else: what is done to one is done to the other. */
static void raw_child_perm(BlockDriverState *bs, BdrvRole role, unsigned perm, unsigned shared,
                           unsigned *child_perm, unsigned *child_shared)
{
    *child_perm = perm;
    *child_shared =
        ((RawState *)bs->opaque)->has_size ? shared & ~(unsigned)BLK_PERM_RESIZE : shared;
}

static const char *const raw_strong_options[] = { "offset", "size", NULL };

static const BlockCreateOption raw_create_options[] = {
    { "size", BLK_OPT_SIZE, "Virtual disk size", NULL }, { NULL }
};

const BlockDriver bdrv_raw = {
    BLOCK_DRIVER_TABLE,
    .format_name = "raw",
    .instance_size = sizeof(RawState),
    .is_format = true,
    .probe = raw_probe,
    .co_open = raw_co_open,
    .co_reopen_prepare = raw_co_reopen_prepare,
    .reopen_commit = raw_reopen_commit,
    .reopen_abort = raw_reopen_abort,
    .refresh_limits = raw_refresh_limits,
    .child_perm = raw_child_perm,
    .strong_options = raw_strong_options,
    .create_options = raw_create_options,
    .co_create = raw_co_create,
    .co_measure = raw_co_measure,
    .unwritten_reads_zero = raw_unwritten_reads_zero,
    .co_preadv = raw_co_preadv,
    .co_pwritev = raw_co_pwritev,
    .co_pwrite_zeroes = raw_co_pwrite_zeroes,
    .co_pdiscard = raw_co_pdiscard,
    .co_block_status = raw_co_block_status,
    .co_truncate = raw_co_truncate,
    .co_getlength = raw_co_getlength,
    .get_info = raw_get_info,
};
