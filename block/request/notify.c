/* SPDX-License-Identifier: MIT */
/* News that go up the graph: a node has become longer or shorter, or there is another in its place.
 * Nodes above ask their driver for their length again; who holds one from outside is told. */
#include "block/request/request.h"

typedef struct Above {
    GPtrArray *nodes; /* pinned */
    GArray *owners;   /* of BdrvOwner, referenced */
} Above;

static Above parents_of(BlockDriverState *bs)
{
    Above a = { g_ptr_array_new(), g_array_new(FALSE, FALSE, sizeof(BdrvOwner)) };

    bdrv_graph_lock();
    for (guint i = 0; i < bs->core->parents->len; i++) {
        BdrvChild *c = g_ptr_array_index(bs->core->parents, i);

        bdrv_add_owner(a.owners, c);
        if (c->parent) {
            bdrv_pin(c->parent);
            g_ptr_array_add(a.nodes, c->parent);
        }
    }
    bdrv_graph_unlock();
    return a;
}

/* A file that became longer says nothing of the format in it, which knows its own length. */
static void coroutine_fn look_again(BlockDriverState *bs)
{
    int64_t before = atomic_load(&bs->total_bytes), len = bdrv_co_refresh_length(bs);

    if (len >= 0 && len != before) {
        bdrv_co_notify_parents(bs);
    }
}

void coroutine_fn bdrv_co_notify_parents(BlockDriverState *bs)
{
    Above a = parents_of(bs);

    for (guint i = 0; i < a.owners->len; i++) {
        BdrvOwner *o = &g_array_index(a.owners, BdrvOwner, i);

        o->ops->resized(o->owner);
        o->ops->unref(o->owner);
    }
    for (guint i = 0; i < a.nodes->len; i++) {
        look_again(g_ptr_array_index(a.nodes, i));
        bdrv_unpin(g_ptr_array_index(a.nodes, i));
    }
    g_ptr_array_unref(a.nodes);
    g_array_unref(a.owners);
}
