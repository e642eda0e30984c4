/* SPDX-License-Identifier: MIT */
/* Options that every node takes, and the flags that children inherit. */
#include "block/backend.h"
#include "block/graph/graph.h"
#include "block/open/open.h"

#include <string.h>

static bool take_flag(Options *o, const char *key, int bit, bool inverse, int *flags, GError **errp)
{
    bool was = !!(*flags & bit) != inverse, on;

    if (!opts_take_bool(o, key, was, &on, errp)) {
        return false;
    }
    *flags = on != inverse ? *flags | bit : *flags & ~bit;
    return true;
}

static bool take_discard(Options *o, int *flags, GError **errp)
{
    g_autofree char *v = opts_take_str(o, "discard");

    if (v && !blk_parse_discard(v, flags)) {
        error_set(errp, EINVAL, "Invalid discard option");
        return false;
    }
    return true;
}

static bool take_detect_zeroes(Options *o, NodeMode *m, GError **errp)
{
    static const char *const modes[] = { "off", "on", "unmap", NULL };
    g_autofree char *v = opts_take_str(o, "detect-zeroes");

    if (!v) {
        return true;
    }
    for (unsigned i = 0; modes[i]; i++) {
        if (!strcmp(v, modes[i])) {
            if (i == BDRV_DETECT_ZEROES_UNMAP && !(m->flags & BLK_O_UNMAP)) {
                error_set(errp, EINVAL,
                          "setting detect-zeroes to unmap is not allowed without "
                          "setting discard operation to unmap");
                return false;
            }
            m->detect_zeroes = (uint8_t)i;
            return true;
        }
    }
    error_set(errp, EINVAL, "invalid parameter value: %s", v);
    return false;
}

bool bdrv_take_mode(Options *o, NodeMode *m, GError **errp)
{
    if (!take_flag(o, "cache.direct", BLK_O_NOCACHE, false, &m->flags, errp) ||
        !take_flag(o, "cache.no-flush", BLK_O_NO_FLUSH, false, &m->flags, errp) ||
        !opts_take_bool(o, "read-only", !(m->flags & BLK_O_RDWR), &m->read_only, errp) ||
        !take_flag(o, "auto-read-only", BLK_O_AUTO_RDONLY, false, &m->flags, errp) ||
        !take_flag(o, "force-share", BLK_O_FORCE_SHARE, false, &m->flags, errp) ||
        !take_discard(o, &m->flags, errp)) {
        return false;
    }
    m->flags = m->read_only ? m->flags & ~BLK_O_RDWR : m->flags | BLK_O_RDWR;
    if ((m->flags & BLK_O_FORCE_SHARE) && !m->read_only) {
        error_set(errp, EINVAL, "force-share=on can only be used with read-only images");
        return false;
    }
    return take_detect_zeroes(o, m, errp);
}

NodeMode bdrv_node_mode(const BlockDriverState *bs)
{
    return (NodeMode){ bs->open_flags, bs->read_only, bs->detect_zeroes };
}

void bdrv_set_node_mode(BlockDriverState *bs, const NodeMode *m)
{
    bs->open_flags = m->flags;
    bs->read_only = m->read_only;
    bs->detect_zeroes = m->detect_zeroes;
}

void bdrv_split_common_options(Options *o, Options *common)
{
    static const char *const keys[] = { "cache.direct",   "cache.no-flush", "read-only",
                                        "auto-read-only", "force-share",    "discard",
                                        "detect-zeroes" };

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autofree char *v = opts_take_str(o, keys[i]);

        if (v) {
            opts_set(common, keys[i], v);
        }
    }
}

bool bdrv_take_common_options(BlockDriverState *bs, Options *o, int *flags, GError **errp)
{
    g_autofree char *name = opts_take_str(o, "node-name");
    g_autoptr(Options) common = opts_new();
    NodeMode m = { .flags = *flags };

    bdrv_split_common_options(o, common);
    bs->core->common = opts_copy(common);
    if (!bdrv_take_mode(common, &m, errp) || !bdrv_name_register(bs, name, errp)) {
        return false;
    }
    *flags = m.flags;
    bs->detect_zeroes = m.detect_zeroes;
    return true;
}

int bdrv_inherited_flags(bool read_only, int flags, BdrvRole role)
{
    flags &= ~(BLK_O_WRITETHROUGH | BLK_O_TEMPORARY | BLK_O_PROTOCOL);
    if (read_only) {
        flags &= ~BLK_O_RDWR;
    }
    if (role == BDRV_ROLE_BACKING) {
        return flags & ~(BLK_O_RDWR | BLK_O_RESIZE | BLK_O_CHECK | BLK_O_NO_IO);
    }
    /* A format decides itself what it discards and when it flushes. */
    return (flags & ~BLK_O_NO_BACKING) | BLK_O_PROTOCOL | BLK_O_UNMAP;
}

int bdrv_child_flags(BlockDriverState *parent, int flags, BdrvRole role)
{
    return bdrv_inherited_flags(parent->read_only, flags, role);
}

bool blk_parse_discard(const char *mode, int *flags)
{
    if (!strcmp(mode, "off") || !strcmp(mode, "ignore")) {
        *flags &= ~BLK_O_UNMAP;
        return true;
    }
    if (!strcmp(mode, "on") || !strcmp(mode, "unmap")) {
        *flags |= BLK_O_UNMAP;
        return true;
    }
    return false;
}

bool blk_parse_aio(const char *mode, int *flags)
{
    static const struct {
        const char *name;
        int flag;
    } modes[] = { { "threads", BLK_O_AIO_THREADS },
                  { "native", BLK_O_AIO_NATIVE },
                  { "io_uring", BLK_O_AIO_URING } };

    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (!strcmp(mode, modes[i].name)) {
            *flags = (*flags & ~BLK_O_AIO) | modes[i].flag;
            return true;
        }
    }
    return false;
}
