/* SPDX-License-Identifier: MIT */
/*
 * What all rooms rely on: the lock of the graph's upward side, and pins.
 *
 * INV-GRAPH-1  A node that has a name may be shared by images that several threads open and close
 *              at a time. What joins it to them (its list of parents, what they hold of it, the
 *              table of names) is guarded by graph_lock, which nobody holds over a yield, nor while
 *              calling a user.
 */
#include "block/core.h"

ThreadMutex bdrv_graph_mutex = THREAD_MUTEX_INIT;

void bdrv_graph_lock(void)
{
    thread_mutex_lock(&bdrv_graph_mutex);
}

void bdrv_graph_unlock(void)
{
    thread_mutex_unlock(&bdrv_graph_mutex);
}

void bdrv_pin(BlockDriverState *bs)
{
    spin_lock(&bs->core->lock);
    bs->core->pins++;
    spin_unlock(&bs->core->lock);
}

void bdrv_unpin(BlockDriverState *bs)
{
    spin_lock(&bs->core->lock);
    g_assert(bs->core->pins > 0);
    bs->core->pins--;
    co_queue_all(&bs->core->idle_queue);
    spin_unlock(&bs->core->lock);
}

void bdrv_add_owner(GArray *owners, const BdrvChild *c)
{
    BdrvOwner o = { c->ops, c->owner };

    if (c->ops) {
        c->ops->ref(c->owner);
        g_array_append_val(owners, o);
    }
}
