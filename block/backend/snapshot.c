/* SPDX-License-Identifier: MIT */
/* Internal snapshots, for users. */
#include "block/backend/backend-int.h"

int coroutine_fn blk_co_snapshot_create(BlockBackend *blk, const BlockSnapshotInfo *info,
                                        GError **errp)
{
    BlockHold hold = blk_co_beside_begin(blk);
    int ret = bdrv_co_snapshot_create(blk->root, info, &hold, errp);

    blk_co_beside_end(blk);
    return ret;
}

int coroutine_fn blk_co_snapshot_apply(BlockBackend *blk, const char *id_or_name, GError **errp)
{
    BlockHold hold = blk_co_beside_begin(blk);
    int ret = bdrv_co_snapshot_apply(blk->root, id_or_name, &hold, errp);

    blk_co_beside_end(blk);
    return ret;
}

int coroutine_fn blk_co_snapshot_delete(BlockBackend *blk, const char *id, const char *name,
                                        GError **errp)
{
    BlockHold hold = blk_co_beside_begin(blk);
    int ret = bdrv_co_snapshot_delete(blk->root, id, name, &hold, errp);

    blk_co_beside_end(blk);
    return ret;
}

int coroutine_fn blk_co_snapshot_load(BlockBackend *blk, const char *id, const char *name,
                                      GError **errp)
{
    int ret;

    blk_co_alone_begin(blk);
    ret = bdrv_co_snapshot_load(blk->root, id, name, errp);
    blk_co_alone_end(blk);
    return ret;
}

/* ---- Plain forms ---- */

typedef struct SnapshotArgs {
    BlockBackend *blk;
    const BlockSnapshotInfo *info;
    const char *id, *name;
    GError **errp;
} SnapshotArgs;

static int coroutine_fn create_fn(void *opaque)
{
    SnapshotArgs *a = opaque;

    return blk_co_snapshot_create(a->blk, a->info, a->errp);
}

int blk_snapshot_create(BlockBackend *blk, const BlockSnapshotInfo *info, GError **errp)
{
    SnapshotArgs a = { .blk = blk, .info = info, .errp = errp };

    return co_run_sync(create_fn, &a);
}

static int coroutine_fn apply_fn(void *opaque)
{
    SnapshotArgs *a = opaque;

    return blk_co_snapshot_apply(a->blk, a->id, a->errp);
}

int blk_snapshot_apply(BlockBackend *blk, const char *id_or_name, GError **errp)
{
    SnapshotArgs a = { .blk = blk, .id = id_or_name, .errp = errp };

    return co_run_sync(apply_fn, &a);
}

static int coroutine_fn delete_fn(void *opaque)
{
    SnapshotArgs *a = opaque;

    return blk_co_snapshot_delete(a->blk, a->id, a->name, a->errp);
}

int blk_snapshot_delete(BlockBackend *blk, const char *id, const char *name, GError **errp)
{
    SnapshotArgs a = { .blk = blk, .id = id, .name = name, .errp = errp };

    return co_run_sync(delete_fn, &a);
}

static int coroutine_fn load_fn(void *opaque)
{
    SnapshotArgs *a = opaque;

    return blk_co_snapshot_load(a->blk, a->id, a->name, a->errp);
}

int blk_snapshot_load(BlockBackend *blk, const char *id, const char *name, GError **errp)
{
    SnapshotArgs a = { .blk = blk, .id = id, .name = name, .errp = errp };

    return co_run_sync(load_fn, &a);
}
