/* SPDX-License-Identifier: MIT */
/*
 * Nodes and the edges between them.  INV-CORE-1: only open and close come here, and change.c.
 */
#include "block/graph/graph.h"
#include "block/graph/policy-int.h"

BlockDriverState *bdrv_new(void)
{
    BlockDriverState *bs = g_new0(BlockDriverState, 1);
    BdrvCore *core = g_new0(BdrvCore, 1);

    bdrv_graph_survive_fork();
    atomic_init(&bs->refcnt, 1);
    bs->children = g_ptr_array_new();
    bs->core = core;
    spin_init(&core->lock);
    core->tail = &core->head;
    co_queue_init(&core->track_queue);
    co_mutex_init(&core->sync_lock);
    co_mutex_init(&core->guard_lock);
    co_queue_init(&core->idle_queue);
    co_queue_init(&core->resume_queue);
    core->parents = g_ptr_array_new();
    core->open_fd = -1;
    return bs;
}

BlockDriverState *bdrv_ref(BlockDriverState *bs)
{
    atomic_fetch_add(&bs->refcnt, 1);
    return bs;
}

static void bdrv_free(BlockDriverState *bs)
{
    bdrv_name_unregister(bs);
    g_ptr_array_unref(bs->core->parents);
    block_policy_unref(bs->core->policy);
    opts_free(bs->core->common);
    g_free(bs->core);
    g_ptr_array_unref(bs->children);
    opts_free(bs->options);
    g_free(bs->opaque);
    g_free(bs->node_name);
    g_free(bs->filename);
    g_free(bs->exact_filename);
    g_free(bs->warning);
    g_free(bs->backing_file);
    g_free(bs->backing_format);
    g_free(bs);
}

static int first_error(int first, int next)
{
    return first < 0 ? first : next;
}

/* The driver's part of closing; half-open nodes are closed too. */
static int coroutine_fn co_close_driver(BlockDriverState *bs)
{
    int ret = 0;

    if (!bs->drv || !bs->opaque) {
        return 0;
    }
    if (!bs->read_only) {
        ret = bdrv_co_flush(bs);
    }
    return first_error(ret, bs->drv->co_close(bs));
}

int coroutine_fn bdrv_co_unref(BlockDriverState *bs)
{
    int ret;

    if (!bs || atomic_fetch_sub(&bs->refcnt, 1) != 1) {
        return 0;
    }
    bdrv_co_own_begin(bs); /* not in the middle of a drain */
    ret = co_close_driver(bs);
    ret = first_error(ret, bdrv_co_detach(g_steal_pointer(&bs->core->pending_file)));
    while (bs->children->len) {
        BdrvChild *c = g_ptr_array_index(bs->children, bs->children->len - 1);

        ret = first_error(ret, bdrv_co_detach(c));
    }
    bdrv_own_end(bs);
    bdrv_co_wait_unknown(bs);
    bdrv_free(bs);
    return ret;
}

static BdrvChild *child_new(BlockDriverState *parent, BlockDriverState *bs, const char *name,
                            BdrvRole role) REQUIRES_LOCK(bdrv_graph_mutex)
{
    BdrvChild *c = g_new0(BdrvChild, 1);

    c->bs = bs;
    c->name = g_strdup(name);
    c->role = role;
    c->parent = parent;
    c->shared = BLK_PERM_ALL;
    g_ptr_array_add(bs->core->parents, c);
    return c;
}

BlockDriverState *bdrv_unlink(BdrvChild *c)
{
    BlockDriverState *bs = c->bs;

    if (c->parent) {
        g_ptr_array_remove(c->parent->children, c);
        c->parent->file = c->parent->file == c ? NULL : c->parent->file;
        c->parent->backing = c->parent->backing == c ? NULL : c->parent->backing;
    }
    g_ptr_array_remove(bs->core->parents, c);
    if (atomic_load(&bs->refcnt) > 1) {
        (void)bdrv_refresh_perms(bs, NULL); /* asks for less: cannot fail */
    }
    g_free(c->name);
    g_free(c);
    return bs;
}

int coroutine_fn bdrv_co_detach(BdrvChild *c)
{
    BlockDriverState *bs;

    if (!c) {
        return 0;
    }
    bdrv_graph_lock();
    bs = bdrv_unlink(c);
    bdrv_graph_unlock();
    return bdrv_co_unref(bs);
}

BdrvChild *bdrv_link(BlockDriverState *parent, BlockDriverState *bs, const char *name,
                     BdrvRole role, GError **errp)
{
    BdrvChild *c = child_new(parent, bs, name, role);

    g_ptr_array_add(parent->children, c);
    if (role == BDRV_ROLE_FILE && !parent->file) {
        parent->file = c;
    } else if (role == BDRV_ROLE_BACKING) {
        parent->backing = c;
    }
    bdrv_default_child_perm(c, 0, BLK_PERM_ALL);
    if (!bdrv_refresh_perms(bs, errp)) {
        (void)bdrv_unlink(c);
        return NULL;
    }
    return c;
}

BdrvChild *coroutine_fn bdrv_co_attach(BlockDriverState *parent, BlockDriverState *bs,
                                       const char *name, BdrvRole role, GError **errp)
{
    BdrvChild *c;

    bdrv_graph_lock();
    c = bdrv_link(parent, bs, name, role, errp);
    bdrv_graph_unlock();
    if (!c) {
        (void)bdrv_co_unref(bs); /* the refusal is the error that counts */
    }
    return c;
}

BdrvChild *bdrv_root_attach(BlockDriverState *bs, const BdrvParentOps *ops, void *owner,
                            unsigned perm, unsigned shared, GError **errp)
{
    BdrvChild *c;

    bdrv_graph_lock();
    c = child_new(NULL, bs, "root", BDRV_ROLE_FILE);
    c->ops = ops;
    c->owner = owner;
    if (!bdrv_change_perm(c, perm, shared, errp)) {
        g_ptr_array_remove(bs->core->parents, c);
        g_free(c->name);
        g_free(c);
        c = NULL;
    }
    bdrv_graph_unlock();
    return c;
}

int coroutine_fn bdrv_co_close_child(BdrvChild *c)
{
    return bdrv_co_detach(c);
}

BlockDriverState *bdrv_skip_filters(BlockDriverState *bs)
{
    while (bs && bs->drv->is_filter && bs->file) {
        bs = bs->file->bs;
    }
    return bs;
}

bool bdrv_child_is_alone(const BdrvChild *c)
{
    bool alone = true;

    bdrv_graph_lock();
    for (; alone && c; c = c->bs->file) {
        alone = c->bs->core->parents->len == 1;
    }
    bdrv_graph_unlock();
    return alone;
}

bool bdrv_unwritten_reads_zero(BlockDriverState *bs)
{
    return bs->drv->unwritten_reads_zero(bs);
}

bool bdrv_unwritten_always_zero(BlockDriverState *bs)
{
    return true;
}
