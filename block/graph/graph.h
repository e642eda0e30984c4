/* SPDX-License-Identifier: MIT */
/* Nodes, the edges between them, what parents may do, and names. */
#ifndef BLOCK_GRAPH_GRAPH_H
#define BLOCK_GRAPH_GRAPH_H

#include "block/core.h"

/* ---- fork.c ---- */
/* From now on a fork() finds the graph whole; in the child the names are the parent's nodes'. */
void bdrv_graph_survive_fork(void);

/* ---- node.c ---- */
BlockDriverState *bdrv_new(void);
BlockDriverState *bdrv_ref(BlockDriverState *bs);
/* The last reference closes the node and what only it holds, whatever fails: 0, or the first error
 * of what had to be written. NULL is fine. */
int coroutine_fn bdrv_co_unref(BlockDriverState *bs);
/* The edge alone: the reference stays the caller's when NULL, else it is
 * the edge's; bdrv_unlink() gives it back. */
BdrvChild *bdrv_link(BlockDriverState *parent, BlockDriverState *bs, const char *name,
                     BdrvRole role, GError **errp) REQUIRES_LOCK(bdrv_graph_mutex);
BlockDriverState *bdrv_unlink(BdrvChild *c) REQUIRES_LOCK(bdrv_graph_mutex);
/* Takes over the reference @bs. NULL and the reference dropped if the permissions are refused. */
BdrvChild *coroutine_fn bdrv_co_attach(BlockDriverState *parent, BlockDriverState *bs,
                                       const char *name, BdrvRole role, GError **errp);
/* For @owner, whose ops are called from now on (NULL: it sends no requests). */
BdrvChild *bdrv_root_attach(BlockDriverState *bs, const BdrvParentOps *ops, void *owner,
                            unsigned perm, unsigned shared, GError **errp);
/* Drops the edge and its reference; as bdrv_co_unref(). NULL is fine. */
int coroutine_fn bdrv_co_detach(BdrvChild *c);

/* ---- drain.c ---- */
/* Are all who can reach @bs held back by @d, those too that came after its beginning?
 * True for as long as the lock is held. */
bool bdrv_drain_covers(const BdrvDrain *d, BlockDriverState *bs) REQUIRES_LOCK(bdrv_graph_mutex);
/* A drain that covers all who can reach @bs; with the lock, so that nobody comes before what is to
 * change has changed. */
BdrvDrain *coroutine_fn bdrv_co_drain_and_lock(BlockDriverState *bs)
    ACQUIRES_LOCK(bdrv_graph_mutex);
/* Until nobody goes on knowing @bs, which has no parents any more. */
void coroutine_fn bdrv_co_wait_unknown(BlockDriverState *bs);

/* ---- perm.c ---- */
/* Recompute what @bs's parents hold, tell the driver, and go on to its children; undone on
 * failure. */
bool bdrv_refresh_perms(BlockDriverState *bs, GError **errp) REQUIRES_LOCK(bdrv_graph_mutex);
bool bdrv_change_perm(BdrvChild *c, unsigned perm, unsigned shared, GError **errp)
    REQUIRES_LOCK(bdrv_graph_mutex);
bool bdrv_child_set_perm(BdrvChild *c, unsigned perm, unsigned shared, GError **errp);
void bdrv_default_child_perm(BdrvChild *c, unsigned perm, unsigned shared)
    REQUIRES_LOCK(bdrv_graph_mutex);

/* ---- limits.c ---- */
void bdrv_refresh_limits(BlockDriverState *bs);

/* ---- names.c ---- */
bool bdrv_name_register(BlockDriverState *bs, const char *name, GError **errp);
void bdrv_name_unregister(BlockDriverState *bs);
BlockDriverState *bdrv_name_lookup(const char *name); /* a new reference, or NULL */
void bdrv_names_forget(void); /* in a child: they are left to the parent, as the nodes are */

#endif
