/* SPDX-License-Identifier: MIT */
/*
 * Changes of the graph while others send requests: under a drain, and all or nothing.
 *
 * INV-CHANGE-1  An edge changes in one step under the graph's lock: lists of parents, permissions,
 *               limits and lengths are those of the new node before any request goes down it.
 * INV-CHANGE-2  A change makes no circle, and no path longer than BLK_MAX_CHAIN_DEPTH: requests
 *               recurse.
 */
#include "block/graph/graph.h"
#include "block/request/request.h"

/* ---- What must not become ---- */

/* Is @bs at or below @top? */
static bool is_below(BlockDriverState *top, BlockDriverState *bs)
{
    if (top == bs) {
        return true;
    }
    for (guint i = 0; i < top->children->len; i++) {
        if (is_below(((BdrvChild *)g_ptr_array_index(top->children, i))->bs, bs)) {
            return true;
        }
    }
    return false;
}

static int depth_below(BlockDriverState *bs)
{
    int most = 0;

    for (guint i = 0; i < bs->children->len; i++) {
        int n = depth_below(((BdrvChild *)g_ptr_array_index(bs->children, i))->bs);

        most = MAX(most, n); /* the macro looks twice: a call in it would double at each level */
    }
    return most + 1;
}

static int depth_above(BlockDriverState *bs)
{
    int most = 0;

    for (guint i = 0; i < bs->core->parents->len; i++) {
        BdrvChild *c = g_ptr_array_index(bs->core->parents, i);

        int n = c->parent ? depth_above(c->parent) : 0;

        most = MAX(most, n);
    }
    return most + 1;
}

static bool check_edge(BlockDriverState *parent, BlockDriverState *to, GError **errp)
{
    if (!parent) {
        return true;
    }
    if (is_below(to, parent)) {
        error_set(errp, ELOOP, "Node '%s' is above node '%s' already: they would make a circle",
                  to->node_name, parent->node_name);
        return false;
    }
    if (depth_above(parent) + depth_below(to) > BLK_MAX_CHAIN_DEPTH) {
        error_set(errp, ELOOP, "Backing chain is deeper than %d layers", BLK_MAX_CHAIN_DEPTH);
        return false;
    }
    return true;
}

/* ---- Edges; under a drain ---- */

static void point(BdrvChild *c, BlockDriverState *to) REQUIRES_LOCK(bdrv_graph_mutex)
{
    g_ptr_array_remove(c->bs->core->parents, c);
    g_ptr_array_add(to->core->parents, c);
    c->bs = to;
    if (c->ops) {
        c->ops->moved(c);
    }
}

/* All of @edges, which lead to @from, to @to; undone if permissions forbid it. */
static bool point_all(GPtrArray *edges, BlockDriverState *from, BlockDriverState *to, GError **errp)
    REQUIRES_LOCK(bdrv_graph_mutex)
{
    for (guint i = 0; i < edges->len; i++) {
        point(g_ptr_array_index(edges, i), to);
    }
    if (bdrv_refresh_perms(to, errp)) {
        (void)bdrv_refresh_perms(from, NULL); /* asks for less: cannot fail */
        return true;
    }
    for (guint i = 0; i < edges->len; i++) {
        point(g_ptr_array_index(edges, i), from);
    }
    (void)bdrv_refresh_perms(to, NULL); /* as they were */
    (void)bdrv_refresh_perms(from, NULL);
    return false;
}

static void refresh_above(BlockDriverState *bs) REQUIRES_LOCK(bdrv_graph_mutex)
{
    for (guint i = 0; i < bs->core->parents->len; i++) {
        BlockDriverState *p = ((BdrvChild *)g_ptr_array_index(bs->core->parents, i))->parent;

        if (p) {
            bdrv_refresh_limits(p);
            refresh_above(p);
        }
    }
}

/* ---- The changes ---- */

/* The edges that are to lead to @to, by what @what is. Under the graph's lock. */
typedef GPtrArray *EdgesFunc(void *what, BlockDriverState *to);

/* The number of edges that moved, or -errno. */
static int move_edges(GPtrArray *edges, BlockDriverState *from, BlockDriverState *to, GError **errp)
    REQUIRES_LOCK(bdrv_graph_mutex)
{
    for (guint i = 0; i < edges->len; i++) {
        BdrvChild *c = g_ptr_array_index(edges, i);

        if (!check_edge(c->parent, to, errp)) {
            return -ELOOP;
        }
    }
    if (!point_all(edges, from, to, errp)) {
        return -EPERM;
    }
    for (guint i = 0; i < edges->len; i++) {
        bdrv_ref(to);
    }
    refresh_above(to);
    return (int)edges->len;
}

static bool coroutine_fn change(EdgesFunc *edges_of, void *what, BlockDriverState *from,
                                BlockDriverState *to, int *ret, GError **errp)
{
    g_autoptr(GPtrArray) edges = NULL;
    int moved, r = 0;
    BdrvDrain *d;

    bdrv_ref(from);
    d = bdrv_co_drain_and_lock(from);
    edges = edges_of(what, to);
    moved = move_edges(edges, from, to, errp);
    bdrv_graph_unlock();
    if (moved > 0) {
        bdrv_co_notify_parents(to);
    }
    bdrv_drain_end(d);
    for (int i = 0; i <= MAX(moved, 0); i++) { /* the edges' references, and ours */
        int closed = bdrv_co_unref(from);

        r = r < 0 ? r : closed;
    }
    if (ret) {
        *ret = r;
    }
    return moved >= 0;
}

static GPtrArray *this_edge(void *what, BlockDriverState *to)
{
    GPtrArray *edges = g_ptr_array_new();

    g_ptr_array_add(edges, what);
    return edges;
}

bool coroutine_fn bdrv_co_replace_child(BdrvChild *c, BlockDriverState *to, int *ret, GError **errp)
{
    return change(this_edge, c, c->bs, to, ret, errp);
}

static GPtrArray *edges_from_above(void *what, BlockDriverState *to)
{
    BlockDriverState *from = what;
    GPtrArray *edges = g_ptr_array_new();

    for (guint i = 0; i < from->core->parents->len; i++) {
        BdrvChild *c = g_ptr_array_index(from->core->parents, i);

        if (!c->parent || !is_below(to, c->parent)) {
            g_ptr_array_add(edges, c);
        }
    }
    return edges;
}

bool coroutine_fn bdrv_co_replace_node(BlockDriverState *from, BlockDriverState *to, int *ret,
                                       GError **errp)
{
    return change(edges_from_above, from, from, to, ret, errp);
}

bool coroutine_fn bdrv_co_insert_filter(BlockDriverState *filter, BlockDriverState *below,
                                        GError **errp)
{
    if (bdrv_file_bs(filter) != below) {
        error_set(errp, EINVAL, "Node '%s' is not a filter of node '%s'", filter->node_name,
                  below->node_name);
        return false;
    }
    return bdrv_co_replace_node(below, filter, NULL, errp);
}

bool coroutine_fn bdrv_co_remove_filter(BlockDriverState *filter, int *ret, GError **errp)
{
    if (!filter->drv->is_filter) {
        error_set(errp, EINVAL, "Node '%s' is no filter", filter->node_name);
        return false;
    }
    return bdrv_co_replace_node(filter, bdrv_file_bs(filter), ret, errp);
}

/* ---- Backing files ---- */

static bool link_backing(BlockDriverState *bs, BlockDriverState *backing, GError **errp)
    REQUIRES_LOCK(bdrv_graph_mutex)
{
    if (!check_edge(bs, backing, errp) ||
        !bdrv_link(bs, backing, "backing", BDRV_ROLE_BACKING, errp)) {
        return false;
    }
    bdrv_ref(backing);
    return true;
}

bool coroutine_fn bdrv_co_set_backing(BlockDriverState *bs, BlockDriverState *backing, int *ret,
                                      GError **errp)
{
    BlockDriverState *old = NULL;
    bool ok = true;
    BdrvDrain *d;
    int r;

    if (backing && !bs->drv->supports_backing) {
        error_set(errp, EINVAL, "Driver doesn't support backing files");
        return false;
    }
    if (backing && bs->backing) {
        return bdrv_co_replace_child(bs->backing, backing, ret, errp);
    }
    d = bdrv_co_drain_and_lock(bs);
    if (backing) {
        ok = link_backing(bs, backing, errp);
    } else if (bs->backing) {
        old = bdrv_unlink(bs->backing);
    }
    if (ok) {
        bdrv_refresh_limits(bs);
        refresh_above(bs);
    }
    bdrv_graph_unlock();
    bdrv_drain_end(d);
    r = bdrv_co_unref(old);
    if (ret) {
        *ret = r;
    }
    return ok;
}
