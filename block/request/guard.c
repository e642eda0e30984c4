/* SPDX-License-Identifier: MIT */
/*
 * The start of an image whose format was guessed to be raw.  A guest that writes the header of
 * another format there would have it opened as that next time, with any file of the host as its
 * backing file: what makes another format of it is refused.
 *
 * INV-GUARD-1  A change of the first bytes of the file holds the guessed node's guard_lock, from
 *              before they are read for the check until all that was checked is written. So the
 *              check sees them whole, whatever parts are written at a time.
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
                                     const IOVector *v) UNCHECKED_LOCKS
{
    int ret;

    g_assert(offset < PROBE_BYTES);
    co_mutex_lock(&c->parent->core->guard_lock);
    ret = check_start(c, g, offset, (size_t)MIN(bytes, PROBE_BYTES - offset), v);
    if (ret < 0) {
        co_mutex_unlock(&c->parent->core->guard_lock);
    }
    return ret;
}

void coroutine_fn bdrv_co_guard_end(BdrvChild *c) UNCHECKED_LOCKS
{
    co_mutex_unlock(&c->parent->core->guard_lock);
}
