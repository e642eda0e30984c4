/* SPDX-License-Identifier: MIT */
#include "chain.h"

#include <stdlib.h>
#include <string.h>

bool chain_same_file(const char *a, const char *b)
{
    char *x, *y;
    bool same;

    if (!strcmp(a, b)) {
        return true;
    }
    x = realpath(a, NULL);
    y = realpath(b, NULL);
    same = x && y && !strcmp(x, y);
    free(x);
    free(y);
    return same;
}

/* Does @overlay name its backing file @bs as @name? Relative to its own folder, too. */
static bool names(BlockDriverState *overlay, BlockDriverState *bs, const char *name)
{
    BlockNodeFacts o = blk_node_facts(overlay), f = blk_node_facts(bs);
    g_autofree char *beside = NULL;

    if (!strcmp(f.filename, name) || (o.backing_file && !strcmp(o.backing_file, name))) {
        return true;
    }
    if (!*f.exact_filename) {
        return false;
    }
    beside = *o.exact_filename ? blk_path_combine(o.exact_filename, name) : NULL;
    return chain_same_file(f.exact_filename, name) ||
           (beside && chain_same_file(f.exact_filename, beside));
}

BlockDriverState *chain_find(BlockDriverState *top, const char *name)
{
    BlockDriverState *overlay = top, *bs;

    while ((bs = blk_node_backing(overlay)) && !names(overlay, bs, name)) {
        overlay = bs;
    }
    return bs;
}
