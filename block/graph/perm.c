/* SPDX-License-Identifier: MIT */
/*
 * Permissions: what the parents of a node hold together (the union) and let others do (the
 * intersection).  At the bottom they are the lock bytes on the file, so they follow the
 * reference's: a format guards its file against writers and resizers, a backing file is shared.
 */
#include "block/graph/graph.h"

static void node_perms(BlockDriverState *bs, unsigned *perm, unsigned *shared)
    REQUIRES_LOCK(bdrv_graph_mutex)
{
    *perm = 0;
    *shared = BLK_PERM_ALL;
    for (guint i = 0; i < bs->core->parents->len; i++) {
        BdrvChild *c = g_ptr_array_index(bs->core->parents, i);

        *perm |= c->perm;
        *shared &= c->shared;
    }
}

void bdrv_default_child_perm(BdrvChild *c, unsigned perm, unsigned shared)
{
    BlockDriverState *bs = c->parent;
    unsigned child_perm, child_shared;

    bs->drv->child_perm(bs, c->role, perm, shared, &child_perm, &child_shared);
    if (bs->open_flags & BLK_O_FORCE_SHARE) {
        child_perm &= BLK_PERM_CONSISTENT_READ;
        child_shared = BLK_PERM_ALL;
    }
    c->perm = child_perm;
    c->shared = child_shared;
}

static bool conflict(BlockDriverState *bs, GError **errp) REQUIRES_LOCK(bdrv_graph_mutex)
{
    for (guint i = 0; i < bs->core->parents->len; i++) {
        for (guint j = 0; j < bs->core->parents->len; j++) {
            BdrvChild *a = g_ptr_array_index(bs->core->parents, i);
            BdrvChild *b = g_ptr_array_index(bs->core->parents, j);

            if (i != j && (a->perm & ~b->shared)) {
                error_set(errp, EPERM, "Conflicting use of node '%s' by '%s' and '%s'",
                          bs->node_name, a->name, b->name);
                return true;
            }
        }
    }
    return false;
}

bool bdrv_refresh_perms(BlockDriverState *bs, GError **errp)
{
    unsigned perm, shared;
    int ret;

    node_perms(bs, &perm, &shared);
    if ((perm & (BLK_PERM_CHANGE | BLK_PERM_WRITE_UNCHANGED)) && bs->read_only) {
        error_set(errp, EPERM, "Block node is read-only");
        return false;
    }
    if ((perm & BLK_PERM_CHANGE) == BLK_PERM_WRITE && !bs->limits.partial_end &&
        atomic_load(&bs->total_bytes) % MAX(bs->limits.request_alignment, 1)) {
        /* Its last block can be written whole only, which would make the node longer. */
        error_set(errp, EPERM,
                  "Cannot get 'write' permission without 'resize': Image size is not a multiple of "
                  "request alignment");
        return false;
    }
    if (bs->core->parents->len > 1 && conflict(bs, errp)) {
        return false;
    }
    ret = bs->drv->set_perm(bs, perm, shared, errp);
    if (ret < 0) {
        if (errp && !*errp) {
            error_set_errno(errp, ret, "Could not set the permissions of '%s'", bs->filename);
        }
        return false;
    }
    for (guint i = 0; i < bs->children->len; i++) {
        BdrvChild *c = g_ptr_array_index(bs->children, i);
        unsigned old_perm = c->perm, old_shared = c->shared;

        bdrv_default_child_perm(c, perm, shared);
        if ((c->perm != old_perm || c->shared != old_shared) && !bdrv_refresh_perms(c->bs, errp)) {
            c->perm = old_perm;
            c->shared = old_shared;
            return false;
        }
    }
    return true;
}

bool bdrv_change_perm(BdrvChild *c, unsigned perm, unsigned shared, GError **errp)
{
    unsigned old_perm = c->perm, old_shared = c->shared;

    c->perm = perm;
    c->shared = shared;
    if (!bdrv_refresh_perms(c->bs, errp)) {
        c->perm = old_perm;
        c->shared = old_shared;
        (void)bdrv_refresh_perms(c->bs, NULL);
        return false;
    }
    return true;
}

bool bdrv_child_set_perm(BdrvChild *c, unsigned perm, unsigned shared, GError **errp)
{
    bool ok;

    bdrv_graph_lock();
    ok = bdrv_change_perm(c, perm, shared, errp);
    bdrv_graph_unlock();
    return ok;
}
