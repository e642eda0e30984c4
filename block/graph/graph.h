/* SPDX-License-Identifier: MIT */
/* Nodes, the edges between them, what parents may do, and names. */
#ifndef BLOCK_GRAPH_GRAPH_H
#define BLOCK_GRAPH_GRAPH_H

#include "block/core.h"

/* ---- lock.c ---- */
/* INV-GRAPH-1; never held over a yield. */
void bdrv_graph_lock(void);
void bdrv_graph_unlock(void);

/* ---- fork.c ---- */
/* From now on a fork() finds the graph whole; in the child the names are the parent's nodes'. */
void bdrv_graph_survive_fork(void);

/* ---- node.c ---- */
BlockDriverState *bdrv_new(void);
BlockDriverState *bdrv_ref(BlockDriverState *bs);
/* The last reference closes the node and what only it holds, whatever fails: 0, or the first error
 * of what had to be written. NULL is fine. */
int coroutine_fn bdrv_co_unref(BlockDriverState *bs);
/* Takes over the reference @bs. NULL and the reference dropped if the permissions are refused. */
BdrvChild *coroutine_fn bdrv_co_attach(BlockDriverState *parent, BlockDriverState *bs,
                                       const char *name, BdrvRole role, GError **errp);
BdrvChild *bdrv_root_attach(BlockDriverState *bs, unsigned perm, unsigned shared, GError **errp);
/* Drops the edge and its reference; as bdrv_co_unref(). NULL is fine. */
int coroutine_fn bdrv_co_detach(BdrvChild *c);

/* ---- perm.c ---- */
/* Recompute what @bs's parents hold, tell the driver, and go on to its children; undone on
 * failure. This, the next and the last under the graph's lock. */
bool bdrv_refresh_perms(BlockDriverState *bs, GError **errp);
bool bdrv_change_perm(BdrvChild *c, unsigned perm, unsigned shared, GError **errp);
bool bdrv_child_set_perm(BdrvChild *c, unsigned perm, unsigned shared, GError **errp);
void bdrv_default_child_perm(BdrvChild *c, unsigned perm, unsigned shared);

/* ---- limits.c ---- */
void bdrv_refresh_limits(BlockDriverState *bs);

/* ---- names.c ---- */
bool bdrv_name_register(BlockDriverState *bs, const char *name, GError **errp);
void bdrv_name_unregister(BlockDriverState *bs);
BlockDriverState *bdrv_name_lookup(const char *name); /* a new reference, or NULL */
void bdrv_names_forget(void); /* in a child: they are left to the parent, as the nodes are */

#endif
