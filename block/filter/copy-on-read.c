/* SPDX-License-Identifier: MIT */
/* copy-on-read: what is read of a backing file becomes the image's own. */
#include "block/io.h"

#include <errno.h>
#include <string.h>

typedef struct CorState {
    char *bottom; /* a node's name: nothing is taken from below it. NULL: all is */
    bool tracks;
} CorState;

/* The node of that name in the chain, which may change. NULL: none. */
static BlockDriverState *find_bottom(BlockDriverState *bs)
{
    const CorState *s = bs->opaque;
    BlockDriverState *n = bdrv_skip_filters(bs->file->bs);

    while (n && strcmp(n->node_name, s->bottom)) {
        n = bdrv_backing_bs(n) ? bdrv_skip_filters(bdrv_backing_bs(n)) : NULL;
    }
    return n;
}

static int coroutine_fn cor_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    CorState *s = bs->opaque;

    bs->file = bdrv_co_open_child(NULL, o, "file", bs, flags, BDRV_ROLE_FILE, false, errp);
    if (!bs->file) {
        return -EINVAL;
    }
    s->bottom = opts_take_str(o, "bottom");
    if (s->bottom && !find_bottom(bs)) {
        return error_set(errp, EINVAL, "Bottom node '%s' not found", s->bottom);
    }
    bs->supported_write_flags = bs->file->bs->supported_write_flags;
    bs->supported_zero_flags = bs->file->bs->supported_zero_flags;
    bs->supported_truncate_flags = bs->file->bs->supported_truncate_flags;
    bdrv_co_track_requests(bs->file->bs);
    s->tracks = true;
    return 0;
}

static int coroutine_fn cor_co_close(BlockDriverState *bs)
{
    CorState *s = bs->opaque;

    if (s->tracks) {
        bdrv_untrack_requests(bs->file->bs);
    }
    g_clear_pointer(&s->bottom, g_free);
    return 0;
}

static void cor_child_perm(BlockDriverState *bs, BdrvRole role, unsigned perm, unsigned shared,
                           unsigned *child_perm, unsigned *child_shared)
{
    *child_perm = perm | BLK_PERM_WRITE_UNCHANGED;
    *child_shared = shared;
}

static int coroutine_fn cor_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                      unsigned flags)
{
    const CorState *s = bs->opaque;
    BlockDriverState *bottom = s->bottom ? find_bottom(bs) : NULL;
    int ret = 0;

    if (!s->bottom || bottom) {
        ret = bdrv_co_copy_up(bs->file, bottom ? bdrv_backing_bs(bottom) : NULL, offset,
                              (int64_t)v->size);
    }
    return ret < 0 ? ret : bdrv_co_preadv(bs->file, offset, v, flags);
}

const BlockDriver bdrv_copy_on_read = {
    BLOCK_DRIVER_TABLE,
    .format_name = "copy-on-read",
    .instance_size = sizeof(CorState),
    .is_filter = true,
    .co_open = cor_co_open,
    .co_close = cor_co_close,
    .child_perm = cor_child_perm,
    .co_preadv = cor_co_preadv,
};
