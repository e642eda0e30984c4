/* SPDX-License-Identifier: MIT */
/* The core's side of include/block/policy.h. */
#ifndef BLOCK_POLICY_INT_H
#define BLOCK_POLICY_INT_H

#include "block/core.h"
#include "block/policy.h"

/* A BlockPolicy is constant once made, and counted. */

BlockPolicy *block_policy_ref(BlockPolicy *p); /* NULL is fine, here and below */
void block_policy_unref(BlockPolicy *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BlockPolicy, block_policy_unref)

/* The policy that the options of a root say (they are taken), with @open_reference (may be NULL)
 * before all other rules. *ret is NULL when nothing is said. False: bad options. */
bool block_policy_take(Options *o, BlockOpenReference *open_reference, void *opaque,
                       BlockPolicy **ret, GError **errp);
const BlockCaps *block_policy_caps(const BlockPolicy *p);
/* Nodes of a chain, one per image. */
int block_policy_max_depth(const BlockPolicy *p);

typedef struct BlockReference {
    int fd;        /* stands for the file; -1: open it by its name */
    bool no_links; /* open its files without following links */
} BlockReference;
/* May @image (the file's name, NULL: unknown) refer to @reference, which as a path is @path? */
bool coroutine_fn block_policy_co_resolve(const BlockPolicy *p, const char *image,
                                          const char *reference, const char *path, bool writable,
                                          BlockReference *ret, GError **errp);

#endif
