/* SPDX-License-Identifier: MIT */
/*
 * Drains of a node: all who send requests to it from outside of the graph hold theirs back, and so
 * do it, the nodes above and those below with what they do of their own.
 *
 * INV-HOLD-1  A drain knows its nodes and owners from its beginning on, whatever becomes of the
 *            graph: it pins the nodes (a node is freed when nobody has it pinned) and holds
 *            references of the owners. It drops no reference of a node, so it closes none.
 */
#include "block/graph/graph.h"

struct BdrvDrain {
    GPtrArray *nodes; /* pinned */
    GArray *owners;   /* of BdrvOwner, referenced */
};

/* ---- What a node does of its own ---- */

void coroutine_fn bdrv_co_own_begin(BlockDriverState *bs)
{
    BdrvCore *core = bs->core;

    spin_lock(&core->lock);
    while (core->quiesce) {
        co_queue_wait_spin(&core->resume_queue, &core->lock);
    }
    core->own++;
    spin_unlock(&core->lock);
}

void bdrv_own_end(BlockDriverState *bs)
{
    BdrvCore *core = bs->core;

    spin_lock(&core->lock);
    g_assert(core->own > 0);
    core->own--;
    co_queue_all(&core->idle_queue);
    spin_unlock(&core->lock);
}

static void coroutine_fn hold(BlockDriverState *bs)
{
    BdrvCore *core = bs->core;

    spin_lock(&core->lock);
    core->quiesce++;
    while (core->own) {
        co_queue_wait_spin(&core->idle_queue, &core->lock);
    }
    spin_unlock(&core->lock);
}

static void let_go(BlockDriverState *bs)
{
    BdrvCore *core = bs->core;

    spin_lock(&core->lock);
    g_assert(core->quiesce > 0);
    core->quiesce--;
    co_queue_all(&core->resume_queue);
    spin_unlock(&core->lock);
    bdrv_unpin(bs); /* it may be gone after that */
}

void coroutine_fn bdrv_co_wait_unknown(BlockDriverState *bs)
{
    BdrvCore *core = bs->core;

    spin_lock(&core->lock);
    while (core->pins) {
        co_queue_wait_spin(&core->idle_queue, &core->lock);
    }
    spin_unlock(&core->lock);
}

/* ---- Whom it concerns ---- */

static bool add_node(BdrvDrain *d, BlockDriverState *bs) REQUIRES_LOCK(bdrv_graph_mutex)
{
    if (g_ptr_array_find(d->nodes, bs, NULL)) {
        return false;
    }
    bdrv_pin(bs);
    g_ptr_array_add(d->nodes, bs);
    return true;
}

static void add_below(BdrvDrain *d, BlockDriverState *bs) REQUIRES_LOCK(bdrv_graph_mutex)
{
    for (guint i = 0; i < bs->children->len; i++) {
        BlockDriverState *child = ((BdrvChild *)g_ptr_array_index(bs->children, i))->bs;

        if (add_node(d, child)) {
            add_below(d, child);
        }
    }
}

static void add_above(BdrvDrain *d, BlockDriverState *bs) REQUIRES_LOCK(bdrv_graph_mutex)
{
    for (guint i = 0; i < bs->core->parents->len; i++) {
        BdrvChild *c = g_ptr_array_index(bs->core->parents, i);

        bdrv_add_owner(d->owners, c);
        if (c->parent && add_node(d, c->parent)) {
            add_above(d, c->parent);
        }
    }
}

/* ---- The drain ---- */

BdrvDrain *coroutine_fn bdrv_co_drain_begin(BlockDriverState *bs)
{
    BdrvDrain *d = g_new(BdrvDrain, 1);

    d->nodes = g_ptr_array_new();
    d->owners = g_array_new(FALSE, FALSE, sizeof(BdrvOwner));
    bdrv_graph_lock();
    add_node(d, bs);
    add_below(d, bs);
    add_above(d, bs);
    bdrv_graph_unlock();
    for (guint i = 0; i < d->owners->len; i++) {
        BdrvOwner *o = &g_array_index(d->owners, BdrvOwner, i);

        o->ops->co_drain_begin(o->owner);
    }
    for (guint i = 0; i < d->nodes->len; i++) {
        hold(g_ptr_array_index(d->nodes, i));
    }
    return d;
}

void bdrv_drain_end(BdrvDrain *d)
{
    for (guint i = 0; i < d->nodes->len; i++) {
        let_go(g_ptr_array_index(d->nodes, i));
    }
    for (guint i = 0; i < d->owners->len; i++) {
        BdrvOwner *o = &g_array_index(d->owners, BdrvOwner, i);

        o->ops->drain_end(o->owner);
        o->ops->unref(o->owner);
    }
    g_ptr_array_unref(d->nodes);
    g_array_unref(d->owners);
    g_free(d);
}

static bool knows_owner(const BdrvDrain *d, const void *owner)
{
    for (guint i = 0; i < d->owners->len; i++) {
        if (g_array_index(d->owners, BdrvOwner, i).owner == owner) {
            return true;
        }
    }
    return false;
}

bool bdrv_drain_covers(const BdrvDrain *d, BlockDriverState *bs)
{
    if (!g_ptr_array_find(d->nodes, bs, NULL)) {
        return false;
    }
    for (guint i = 0; i < bs->core->parents->len; i++) {
        BdrvChild *c = g_ptr_array_index(bs->core->parents, i);

        if (c->parent ? !bdrv_drain_covers(d, c->parent) : c->ops && !knows_owner(d, c->owner)) {
            return false;
        }
    }
    return true;
}

BdrvDrain *coroutine_fn bdrv_co_drain_and_lock(BlockDriverState *bs)
{
    for (;;) {
        BdrvDrain *d = bdrv_co_drain_begin(bs);

        bdrv_graph_lock();
        if (bdrv_drain_covers(d, bs)) {
            return d;
        }
        bdrv_graph_unlock();
        bdrv_drain_end(d);
    }
}

void coroutine_fn bdrv_co_track_requests(BlockDriverState *bs)
{
    BdrvDrain *d = bdrv_co_drain_and_lock(bs);

    atomic_fetch_add(&bs->tracked, 1);
    bdrv_graph_unlock();
    bdrv_drain_end(d);
}

void bdrv_untrack_requests(BlockDriverState *bs)
{
    unsigned was = atomic_fetch_sub(&bs->tracked, 1);

    g_assert(was > 0);
}
