/* SPDX-License-Identifier: MIT */
/* From names and options to nodes. */
#ifndef BLOCK_OPEN_OPEN_H
#define BLOCK_OPEN_OPEN_H

#include "block/core.h"
#include "block/graph/policy-int.h"

/* ---- node.c, child.c, temporary.c, options.c ---- */
typedef struct OpenRequest {
    const char *filename; /* may be NULL */
    Options *options;     /* owned by the callee */
    int flags;
    BlockDriverState *opener; /* of a backing file */
    int depth;           /* of nodes; a graph of an image's making must not exhaust the stack */
    int layer;           /* of images in a chain */
    int fd_plus_1;       /* descriptor that stands for the file, taken over; 0: none */
    BlockPolicy *policy; /* inherited; NULL at a root */
    BlockOpenReference *open_reference; /* at a root: the user's */
    void *opaque;
} OpenRequest;
BlockDriverState *coroutine_fn bdrv_co_open_node(OpenRequest *req, GError **errp);
/* As a root that a user holds, with the permissions that the flags ask for. */
BdrvChild *coroutine_fn bdrv_co_open_root_request(OpenRequest *req, const BdrvParentOps *ops,
                                                  void *owner, GError **errp);
/* The same for BLK_O_TEMPORARY. */
BlockDriverState *coroutine_fn bdrv_co_open_temporary(OpenRequest *req, GError **errp);
/* Options that every node has, out of @options into @bs and *flags; a copy stays with the node. */
bool bdrv_take_common_options(BlockDriverState *bs, Options *options, int *flags, GError **errp);
/* Flags of a child, by its role; of one whose parent is (to be) read-only or not. */
int bdrv_child_flags(BlockDriverState *parent, int flags, BdrvRole role);
int bdrv_inherited_flags(bool read_only, int flags, BdrvRole role);

/* What the options that every node has say of it. */
typedef struct NodeMode {
    int flags;
    bool read_only;
    uint8_t detect_zeroes; /* BDRV_DETECT_ZEROES_* */
} NodeMode;
/* Out of @options into @mode, which says what holds without them. */
bool bdrv_take_mode(Options *options, NodeMode *mode, GError **errp);
NodeMode bdrv_node_mode(const BlockDriverState *bs);
void bdrv_set_node_mode(BlockDriverState *bs, const NodeMode *mode);
/* Moves those of every node from @options to @common. */
void bdrv_split_common_options(Options *options, Options *common);

/* ---- reopen.c ---- */
/* @root's node and those below it that nobody else uses get other options: @given (consumed), the
 * children's under their names. All of them, or none. A drain holds requests back meanwhile. */
bool coroutine_fn bdrv_co_reopen(BdrvChild *root, Options *given, GError **errp);

/* ---- backing.c ---- */
/* Fails when @bs's file is also that of a node above it in the chain, or the chain is too deep. */
bool bdrv_check_chain(BlockDriverState *bs, GError **errp);

/* @reference as @bs's image names it, as a path (relative ones start at the image's folder);
 * g_free(). */
char *bdrv_reference_path(BlockDriverState *bs, const char *reference, GError **errp);
/* The name at the bottom of the image, whose folder relative names start from; NULL: none. */
const char *bdrv_name_for_paths(BlockDriverState *bs);

/* ---- create.c ---- */
const BlockCreateOption *bdrv_find_create_option(const BlockCreateOption *list, const char *name);
/* @opts by the table of @list: unknown ones and bad values refused, defaults filled in. */
Options *bdrv_complete_create_options(const BlockCreateOption *list, Options *opts, GError **errp);

/* ---- describe.c ---- */
/* filename and exact_filename, once open. @given: what the user typed, may be NULL. */
void bdrv_refresh_filename(BlockDriverState *bs, const char *given);

#endif
