/* SPDX-License-Identifier: MIT */
/*
 * The start of an image whose format was guessed to be raw.  A guest that writes the header of
 * another format there would have it opened as that next time, with any file of the host as its
 * backing file: what makes another format of it is refused.
 *
 * INV-GUARD-1  Who changes the first block of the file holds it alone, from before it is read for
 * the check until all that was checked is written; it is tracked at the guessed node, which tracks
 * nothing else.  So the check sees whole first blocks, whatever parts of one are written at a time.
 * INV-GUARD-2  What is written is a copy of what was checked: the guest may still change its own.
 */
#include "block/request/request.h"

#include <string.h>

static int coroutine_fn check_start(BdrvChild *c, StartGuard *g, int64_t offset, size_t bytes,
                                    const IOVector *v)
{
    IOVector h;
    int ret;

    memset(g->head, 0, sizeof(g->head));
    iov_init_buf(&h, g->head, sizeof(g->head));
    ret = bdrv_co_read_gate(c->bs, 0, &h, 0);
    if (ret < 0) {
        return ret;
    }
    if (v) {
        iov_to_buf(v, 0, g->head + offset, bytes);
    } else {
        memset(g->head + offset, 0, bytes);
    }
    return c->guard(c, g->head, sizeof(g->head)) ? 0 : -EPERM;
}

int coroutine_fn bdrv_co_guard_begin(BdrvChild *c, StartGuard *g, int64_t offset, int64_t bytes,
                                     const IOVector *v)
{
    int ret;

    g_assert(offset < PROBE_BYTES);
    bdrv_co_track_begin(c->parent, &g->req, 0, PROBE_BYTES, true);
    ret = check_start(c, g, offset, (size_t)MIN(bytes, PROBE_BYTES - offset), v);
    if (ret < 0) {
        bdrv_track_end(c->parent, &g->req);
    }
    return ret;
}

void bdrv_guard_end(BdrvChild *c, StartGuard *g)
{
    bdrv_track_end(c->parent, &g->req);
}
