/* SPDX-License-Identifier: MIT */
/* News that go up the graph: a node has become longer or shorter, or there is another in its place.
 * Nodes above ask their driver for their length again; who holds one from outside is told. */
#include "block/request/request.h"

typedef struct Above {
    GPtrArray *nodes;  /* pinned */
    GPtrArray *owners; /* BdrvParentOps *, owner, in turn; referenced */
} Above;

static Above parents_of(BlockDriverState *bs)
{
    Above a = { g_ptr_array_new(), g_ptr_array_new() };

    bdrv_graph_lock();
    for (guint i = 0; i < bs->core->parents->len; i++) {
        BdrvChild *c = g_ptr_array_index(bs->core->parents, i);

        if (c->parent) {
            bdrv_pin(c->parent);
            g_ptr_array_add(a.nodes, c->parent);
        } else if (c->ops) {
            c->ops->ref(c->owner);
            g_ptr_array_add(a.owners, (void *)(uintptr_t)c->ops);
            g_ptr_array_add(a.owners, c->owner);
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
        bdrv_co_tell_parents(bs);
    }
}

void coroutine_fn bdrv_co_tell_parents(BlockDriverState *bs)
{
    Above a = parents_of(bs);

    for (guint i = 0; i < a.owners->len; i += 2) {
        const BdrvParentOps *ops = g_ptr_array_index(a.owners, i);
        void *owner = g_ptr_array_index(a.owners, i + 1);

        ops->resized(owner);
        ops->unref(owner);
    }
    for (guint i = 0; i < a.nodes->len; i++) {
        look_again(g_ptr_array_index(a.nodes, i));
        bdrv_unpin(g_ptr_array_index(a.nodes, i));
    }
    g_ptr_array_unref(a.nodes);
    g_ptr_array_unref(a.owners);
}
