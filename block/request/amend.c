/* SPDX-License-Identifier: MIT */
/* The gates of what changes an image and not its disk. */
#include "block/request/request.h"

static int check_changeable(const BdrvChild *c, GError **errp)
{
    if (c->bs->read_only) {
        return error_set(errp, EACCES, "Image is read-only");
    }
    return c->perm & BLK_PERM_WRITE ? 0 : error_set(errp, EPERM, "Permission to write is missing");
}

int coroutine_fn bdrv_co_change_backing_file(BdrvChild *c, const char *file, const char *format,
                                             GError **errp)
{
    int ret = check_changeable(c, errp);

    if (ret < 0) {
        return ret;
    }
    if (format && !file) {
        return error_set(errp, EINVAL, "A backing format needs a backing file");
    }
    ret = c->bs->drv->co_change_backing_file(c->bs, file, format, errp);
    return bdrv_co_write_done(c->bs, 0, ret, false);
}

int coroutine_fn bdrv_co_amend(BdrvChild *c, Options *opts, const BlockAmend *how, GError **errp)
{
    int64_t old = bdrv_co_getlength(c->bs), len;
    int ret = check_changeable(c, errp);

    if (ret < 0) {
        return ret;
    }
    ret = c->bs->drv->co_amend(c->bs, opts, how, errp);
    ret = bdrv_co_write_done(c->bs, 0, ret, false);
    len = bdrv_co_refresh_length(c->bs); /* also after a failure: the disk may have its new size */
    if (len != old) {
        bdrv_co_notify_parents(c->bs);
    }
    return ret == 0 && len < 0
               ? error_set_errno(errp, (int)len, "Could not refresh total sector count")
               : ret;
}
