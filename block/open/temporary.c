/* SPDX-License-Identifier: MIT */
/*
 * snapshot=on: writes go to an overlay that has no name and goes away with the node; the image
 * itself is opened read-only below it.
 */
#include "block/backend.h"
#include "block/driver/registry.h"
#include "block/graph/graph.h"
#include "block/open/open.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static char *make_file(GError **errp)
{
    const char *dir = g_getenv("TMPDIR");
    g_autofree char *name = g_strdup_printf("%s/cowlet.XXXXXX", dir ? dir : "/var/tmp");
    int fd = g_mkstemp_full(name, O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0) {
        error_set_errno(errp, errno, "Could not open temporary file '%s'", name);
        return NULL;
    }
    close(fd);
    return g_steal_pointer(&name);
}

static BlockDriverState *coroutine_fn open_overlay(const char *name, int64_t size, int flags,
                                                   GError **errp)
{
    const char *format = bdrv_overlay_driver()->format_name;
    Options *create = opts_new(), *o;
    OpenRequest r = { .filename = name };
    int ret;

    opts_set_int(create, "size", size);
    ret = blk_create(name, format, create, errp);
    if (ret < 0) {
        return NULL;
    }
    o = opts_new();
    opts_set(o, "driver", format);
    r.options = o;
    /* Nothing of it need survive. */
    r.flags = (flags & BLK_O_UNMAP) | BLK_O_RDWR | BLK_O_NO_BACKING | BLK_O_NO_FLUSH;
    return bdrv_co_open_node(&r, errp);
}

BlockDriverState *coroutine_fn bdrv_co_open_temporary(OpenRequest *req, GError **errp)
{
    OpenRequest below = *req;
    BlockDriverState *image, *overlay;
    g_autofree char *name = NULL;

    below.flags &= ~(BLK_O_RDWR | BLK_O_TEMPORARY | BLK_O_RESIZE);
    image = bdrv_co_open_node(&below, errp);
    if (!image) {
        return NULL;
    }
    name = make_file(errp);
    overlay = name ? open_overlay(name, atomic_load(&image->total_bytes), req->flags, errp) : NULL;
    if (name) {
        unlink(name);
    }
    if (!overlay) {
        (void)bdrv_co_unref(image); /* a reader */
        return NULL;
    }
    if (!bdrv_co_attach(overlay, image, "backing", BDRV_ROLE_BACKING, errp)) {
        (void)bdrv_co_unref(overlay); /* nothing of it need survive */
        return NULL;
    }
    return overlay;
}
