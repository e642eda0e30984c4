/* SPDX-License-Identifier: MIT */
/* The gates of internal snapshots. */
#include "block/request/request.h"

static int check_writable(const BdrvChild *c, GError **errp)
{
    if (c->bs->read_only) {
        return error_set(errp, EACCES, "Image is read-only");
    }
    return c->perm & BLK_PERM_WRITE ? 0 : error_set(errp, EPERM, "Permission to write is missing");
}

/* The disk may have another length now, also after a failure. */
static int coroutine_fn co_look_at_length(BlockDriverState *bs, int64_t before, int ret,
                                          GError **errp)
{
    int64_t len = bdrv_co_refresh_length(bs);

    if (len != before) {
        bdrv_co_notify_parents(bs);
    }
    return ret == 0 && len < 0
               ? error_set_errno(errp, (int)len, "Could not refresh total sector count")
               : ret;
}

int coroutine_fn bdrv_co_snapshot_create(BdrvChild *c, const BlockSnapshotInfo *info,
                                         const BlockHold *hold, GError **errp)
{
    int ret = check_writable(c, errp);

    if (ret < 0) {
        return ret;
    }
    ret = c->bs->drv->snapshot->co_create(c->bs, info, hold, errp);
    return bdrv_co_write_done(c->bs, 0, ret, false);
}

int coroutine_fn bdrv_co_snapshot_apply(BdrvChild *c, const char *id_or_name,
                                        const BlockHold *hold, GError **errp)
{
    int64_t before = bdrv_co_getlength(c->bs);
    int ret = check_writable(c, errp);

    if (ret < 0) {
        return ret;
    }
    ret = c->bs->drv->snapshot->co_apply(c->bs, id_or_name, hold, errp);
    ret = bdrv_co_write_done(c->bs, 0, ret, false);
    return co_look_at_length(c->bs, before, ret, errp);
}

int coroutine_fn bdrv_co_snapshot_delete(BdrvChild *c, const char *id, const char *name,
                                         const BlockHold *hold, GError **errp)
{
    int ret = check_writable(c, errp);

    if (ret < 0) {
        return ret;
    }
    ret = c->bs->drv->snapshot->co_delete(c->bs, id, name, hold, errp);
    return bdrv_co_write_done(c->bs, 0, ret, false);
}

int coroutine_fn bdrv_co_snapshot_load(BdrvChild *c, const char *id, const char *name,
                                       GError **errp)
{
    int64_t before = bdrv_co_getlength(c->bs);
    int ret = c->bs->drv->snapshot->co_load(c->bs, id, name, errp);

    return ret < 0 ? ret : co_look_at_length(c->bs, before, ret, errp);
}
