/* SPDX-License-Identifier: MIT */
/*
 * scratch: what is written stays in memory, and is gone when the node is closed; the file below is
 * opened for reading only.  For a look at what a change (a repair) would do.
 *
 * INV-SCRATCH-1  Nothing that is done to the node reaches the file.
 */
#include "block/io.h"

#include <errno.h>
#include <string.h>

#define PIECE (INT64_C(64) * KiB)

typedef struct ScratchState {
    CoMutex lock;
    GHashTable *pieces;  /* index -> PIECE bytes: what was written; guarded by lock */
    int64_t length;      /* of the node; guarded by lock */
    int64_t below;       /* up to here the file shows; guarded by lock */
    uint64_t max_pieces; /* constant */
} ScratchState;

static int coroutine_fn scratch_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    ScratchState *s = bs->opaque;
    uint64_t max;

    co_mutex_init(&s->lock);
    s->pieces = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    if (!opts_take_size(o, "max-memory", UINT64_C(256) * MiB, &max, errp)) {
        return -EINVAL;
    }
    s->max_pieces = max / PIECE;
    bs->file = bdrv_co_open_child(NULL, o, "file", bs, flags & ~(BLK_O_RDWR | BLK_O_RESIZE),
                                  BDRV_ROLE_FILE, false, errp);
    if (!bs->file) {
        return -EINVAL;
    }
    s->length = s->below = bdrv_co_getlength(bs->file->bs);
    g_free(bs->exact_filename); /* names in the image are beside the file */
    bs->exact_filename = g_strdup(bs->file->bs->exact_filename);
    return s->length < 0 ? error_set_errno(errp, (int)s->length, "Could not get image size") : 0;
}

static int coroutine_fn scratch_co_close(BlockDriverState *bs)
{
    g_clear_pointer(&((ScratchState *)bs->opaque)->pieces, g_hash_table_unref);
    return 0;
}

static void scratch_refresh_limits(BlockDriverState *bs)
{
    bs->limits.request_alignment = 1;
    bs->limits.min_mem_alignment = 1;
}

/* Never to write below. */
static void scratch_child_perm(BlockDriverState *bs, BdrvRole role, unsigned perm, unsigned shared,
                               unsigned *child_perm, unsigned *child_shared)
{
    *child_perm = perm & BLK_PERM_CONSISTENT_READ;
    *child_shared = shared & ~(BLK_PERM_WRITE | BLK_PERM_RESIZE);
}

/* [@offset, +@bytes) as the file has it, as far as it shows. */
static int coroutine_fn co_read_below(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      uint8_t *buf)
{
    const ScratchState *s = bs->opaque;
    int64_t n = offset < s->below ? MIN(bytes, s->below - offset) : 0;

    memset(buf + n, 0, (size_t)(bytes - n));
    return n ? bdrv_co_pread(bs->file, offset, n, buf, 0) : 0;
}

/* The piece at @offset, to be written to. */
static int coroutine_fn co_take_piece(BlockDriverState *bs, ScratchState *s, int64_t offset,
                                      uint8_t **piece) REQUIRES_LOCK(s->lock)
{
    gpointer key = GSIZE_TO_POINTER((gsize)(offset / PIECE));
    int ret;

    *piece = g_hash_table_lookup(s->pieces, key);
    if (*piece) {
        return 0;
    }
    if (g_hash_table_size(s->pieces) >= s->max_pieces) {
        return -ENOSPC;
    }
    *piece = g_try_malloc(PIECE);
    ret = *piece ? co_read_below(bs, ALIGN_DOWN(offset, PIECE), PIECE, *piece) : -ENOMEM;
    if (ret < 0) {
        g_free(*piece);
        return ret;
    }
    g_hash_table_insert(s->pieces, key, *piece);
    return 0;
}

static int coroutine_fn scratch_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                          unsigned flags)
{
    ScratchState *s = bs->opaque;
    g_autofree uint8_t *buf = g_try_malloc(PIECE);
    int ret = buf ? 0 : -ENOMEM;

    co_mutex_lock(&s->lock);
    for (size_t at = 0, n; at < v->size && ret == 0; at += n) {
        int64_t from = offset + (int64_t)at, in = from % PIECE;
        const uint8_t *piece =
            g_hash_table_lookup(s->pieces, GSIZE_TO_POINTER((gsize)(from / PIECE)));

        n = MIN(v->size - at, (size_t)(PIECE - in));
        if (!piece) {
            ret = co_read_below(bs, from, (int64_t)n, buf);
        }
        iov_from_buf(v, at, piece ? piece + in : buf, n);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

static int coroutine_fn scratch_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                           unsigned flags)
{
    ScratchState *s = bs->opaque;
    int ret = 0;

    co_mutex_lock(&s->lock);
    for (size_t at = 0, n; at < v->size && ret == 0; at += n) {
        int64_t to = offset + (int64_t)at, in = to % PIECE;
        uint8_t *piece;

        n = MIN(v->size - at, (size_t)(PIECE - in));
        ret = co_take_piece(bs, s, to, &piece);
        if (ret == 0) {
            iov_to_buf(v, at, piece + in, n);
            s->length = MAX(s->length, to + (int64_t)n);
        }
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

static gboolean is_past(gpointer key, gpointer piece, gpointer length)
{
    int64_t start = (int64_t)GPOINTER_TO_SIZE(key) * PIECE, keep = *(int64_t *)length - start;

    if (keep > 0 && keep < PIECE) {
        memset((uint8_t *)piece + keep, 0, (size_t)(PIECE - keep));
    }
    return keep <= 0;
}

static int coroutine_fn scratch_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                            BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    ScratchState *s = bs->opaque;

    co_mutex_lock(&s->lock);
    if (bytes < s->length) { /* what is cut off reads zero when the file grows again */
        g_hash_table_foreach_remove(s->pieces, is_past, &bytes);
        s->below = MIN(s->below, bytes);
    }
    s->length = bytes;
    co_mutex_unlock(&s->lock);
    return 0;
}

static int coroutine_fn scratch_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return 0;
}

static int coroutine_fn scratch_co_flush(BlockDriverState *bs)
{
    return 0;
}

static int64_t coroutine_fn scratch_co_getlength(BlockDriverState *bs)
{
    ScratchState *s = bs->opaque;
    int64_t length;

    co_mutex_lock(&s->lock);
    length = s->length;
    co_mutex_unlock(&s->lock);
    return length;
}

static int coroutine_fn scratch_co_block_status(BlockDriverState *bs, bool want_zero,
                                                int64_t offset, int64_t bytes, int64_t *pnum,
                                                int64_t *map, BlockDriverState **file)
{
    *pnum = bytes;
    return BLK_DATA | BLK_ALLOCATED;
}

const BlockDriver bdrv_scratch = {
    BLOCK_DRIVER_TABLE,
    .format_name = "scratch",
    .instance_size = sizeof(ScratchState),
    .co_open = scratch_co_open,
    .co_close = scratch_co_close,
    .refresh_limits = scratch_refresh_limits,
    .child_perm = scratch_child_perm,
    .co_preadv = scratch_co_preadv,
    .co_pwritev = scratch_co_pwritev,
    .co_pdiscard = scratch_co_pdiscard,
    .co_block_status = scratch_co_block_status,
    .co_flush_to_os = scratch_co_flush,
    .co_flush_to_disk = scratch_co_flush,
    .co_truncate = scratch_co_truncate,
    .co_getlength = scratch_co_getlength,
};
