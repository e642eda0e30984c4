/* SPDX-License-Identifier: MIT */
/*
 * Reopening: nodes get other options and flags, while they stay what they are: their place in the
 * graph, the locks on their files, their names.
 *
 * Under a drain each node prepares, from the bottom up: all that can fail is done, beside what the
 * node works with. Then permissions change, which may be refused, too. Then all commit, from the
 * bottom up, which cannot fail; or all abort.
 *
 * INV-REOPEN-1  Until the first commit a node does what it did before, whatever was prepared.
 * INV-REOPEN-2  No lock that is held before and after is let go of in between.
 */
#include "block/backend.h"
#include "block/graph/graph.h"
#include "block/open/open.h"
#include "block/request/request.h"

#include <string.h>

/* What a child inherits of its parent, where its own options say nothing. */
#define INHERITED                                                                                  \
    (BLK_O_RDWR | BLK_O_RESIZE | BLK_O_NOCACHE | BLK_O_NO_FLUSH | BLK_O_UNMAP | BLK_O_FORCE_SHARE)

typedef struct ReopenNode {
    BlockDriverState *bs;
    Options *options; /* all that the node is to have: its own, not its children's */
    Options *common;  /* of these, what every node takes */
    NodeMode mode, old_mode;
    void *state;
    bool prepared;
} ReopenNode;

static void node_free(gpointer p)
{
    ReopenNode *n = p;

    opts_free(n->options);
    opts_free(n->common);
    g_free(n);
}

/* ---- Which nodes, and what they are to be like ---- */

static bool add_node(GPtrArray *nodes, BlockDriverState *bs, Options *given, int flags,
                     GError **errp);

static bool add_children(GPtrArray *nodes, const ReopenNode *n, Options *given, GError **errp)
{
    for (guint i = 0; i < n->bs->children->len; i++) {
        BdrvChild *c = g_ptr_array_index(n->bs->children, i);
        g_autoptr(Options) sub = opts_take_subtree(given, c->name);
        int flags = bdrv_inherited_flags(n->mode.read_only, n->mode.flags, c->role);

        if (c->bs->core->parents->len > 1) { /* what it is like is not ours alone to say */
            if (opts_count(sub)) {
                error_set(errp, EINVAL, "Cannot change the options of '%s': others use it",
                          c->bs->node_name);
                return false;
            }
            continue;
        }
        if (!add_node(nodes, c->bs, sub, flags, errp)) {
            return false;
        }
    }
    return true;
}

static int new_flags(const BlockDriverState *bs, int flags)
{
    return (bs->open_flags & ~INHERITED) | (flags & INHERITED);
}

static bool add_node(GPtrArray *nodes, BlockDriverState *bs, Options *given, int flags,
                     GError **errp)
{
    ReopenNode *n = g_new0(ReopenNode, 1);
    g_autoptr(Options) o = NULL;

    g_ptr_array_add(nodes, n);
    n->bs = bs;
    n->old_mode = bdrv_node_mode(bs);
    n->mode = n->old_mode;
    n->mode.flags = new_flags(bs, flags);
    n->common = opts_copy(bs->core->common);
    bdrv_split_common_options(given, n->common);
    o = opts_copy(n->common);
    if (!bdrv_take_mode(o, &n->mode, errp) || !add_children(nodes, n, given, errp)) {
        return false;
    }
    n->options = opts_copy(bs->options);
    opts_merge(n->options, given, true); /* what is left are its own */
    return true;
}

/* ---- Prepare ---- */

/* What nobody has taken is as it was, or cannot be changed. */
static bool check_unchanged(const ReopenNode *n, Options *left, GError **errp)
{
    const char *key;

    while ((key = opts_first_key(left))) {
        const char *wanted = opts_peek(left, key);
        const char *now =
            !strcmp(key, "node-name") ? n->bs->node_name : opts_peek(n->bs->options, key);

        if (g_strcmp0(now, wanted)) {
            error_set(errp, EINVAL, "Cannot change the option '%s'", key);
            return false;
        }
        opts_del(left, key);
    }
    return true;
}

static bool coroutine_fn prepare(ReopenNode *n, GError **errp)
{
    g_autoptr(Options) o = opts_copy(n->options);
    BlockDriverState *bs = n->bs;
    GError *err = NULL;
    int ret;

    if (!n->mode.read_only && bs->drv->read_only) {
        error_set(errp, EACCES, "Driver '%s' can only be used for read-only devices",
                  bs->drv->format_name);
        return false;
    }
    ret = bs->drv->co_reopen_prepare(bs, o, n->mode.flags, &n->state, &err);
    if (ret < 0) {
        if (err) {
            g_propagate_error(errp, err);
        } else {
            error_set_errno(errp, ret, "Could not reopen '%s'", bs->filename);
        }
        return false;
    }
    n->prepared = true;
    return check_unchanged(n, o, errp);
}

static bool coroutine_fn prepare_all(GPtrArray *nodes, GError **errp)
{
    for (guint i = nodes->len; i-- > 0;) { /* children come after their parents */
        if (!prepare(g_ptr_array_index(nodes, i), errp)) {
            return false;
        }
    }
    return true;
}

/* ---- Permissions ---- */

static void set_modes(GPtrArray *nodes, bool new)
{
    for (guint i = 0; i < nodes->len; i++) {
        ReopenNode *n = g_ptr_array_index(nodes, i);

        bdrv_set_node_mode(n->bs, new ? &n->mode : &n->old_mode);
    }
}

/* @root gives up the right to change the image, or gets it; else it keeps what it has. What is
 * asked for below follows from that. */
static bool change_perms(GPtrArray *nodes, BdrvChild *root, GError **errp)
{
    const ReopenNode *n = g_ptr_array_index(nodes, 0);
    unsigned changes = BLK_PERM_WRITE | BLK_PERM_RESIZE, perm = root->perm;
    bool ok;

    if (n->mode.read_only != n->old_mode.read_only) {
        perm = n->mode.read_only ? perm & ~changes : perm | changes;
    }
    bdrv_graph_lock();
    set_modes(nodes, true);
    ok = bdrv_change_perm(root, perm, root->shared, errp);
    if (!ok) {
        set_modes(nodes, false);
        (void)bdrv_refresh_perms(root->bs, NULL); /* as they were: nothing more is asked for */
    }
    bdrv_graph_unlock();
    return ok;
}

/* ---- Commit, abort ---- */

static void coroutine_fn commit(ReopenNode *n)
{
    BlockDriverState *bs = n->bs;
    int64_t before = atomic_load(&bs->total_bytes);

    bs->drv->reopen_commit(bs, n->state);
    opts_free(bs->options);
    bs->options = g_steal_pointer(&n->options);
    opts_free(bs->core->common);
    bs->core->common = g_steal_pointer(&n->common);
    if (n->old_mode.read_only && !n->mode.read_only) {
        atomic_store(&bs->unsynced, true); /* INV-SYNC-2 */
    }
    bdrv_refresh_limits(bs);
    if (bs->file && !bs->drv->protocol_name) { /* a window has no plain name */
        g_clear_pointer(&bs->exact_filename, g_free);
        bdrv_refresh_filename(bs, NULL);
    }
    if (atomic_load(&bs->total_bytes) != before) {
        bdrv_co_notify_parents(bs);
    }
}

static void coroutine_fn finish_all(GPtrArray *nodes, bool ok)
{
    for (guint i = nodes->len; i-- > 0;) {
        ReopenNode *n = g_ptr_array_index(nodes, i);

        if (ok) {
            commit(n);
        } else if (n->prepared) {
            n->bs->drv->reopen_abort(n->bs, n->state);
        }
    }
}

static bool coroutine_fn reopen_drained(BdrvChild *root, Options *given, GError **errp)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(node_free);
    bool ok = add_node(nodes, root->bs, given, root->bs->open_flags, errp) &&
              prepare_all(nodes, errp) && change_perms(nodes, root, errp);

    finish_all(nodes, ok);
    return ok;
}

bool coroutine_fn bdrv_co_reopen(BdrvChild *root, Options *given, GError **errp)
{
    BdrvDrain *d = bdrv_co_drain_begin(root->bs);
    int ret = root->bs->read_only ? 0 : bdrv_co_flush(root->bs);
    bool ok = ret == 0;

    if (ok) {
        ok = reopen_drained(root, given, errp);
    } else {
        error_set_errno(errp, ret, "Error flushing drive");
    }
    bdrv_drain_end(d);
    opts_free(given);
    return ok;
}
