/* SPDX-License-Identifier: MIT */
/* What a node derives of its driver and its children: the limits of a request, and whether debug
 * events have a taker. */
#include "block/graph/graph.h"

/* A limit that no aligned request could keep is none that a driver can have meant. */
static void fit_to_alignment(BlockLimits *l)
{
    int64_t align = l->request_alignment;

    if (l->max_transfer) {
        l->max_transfer = (uint32_t)MAX(ALIGN_DOWN((int64_t)l->max_transfer, align), align);
    }
}

void bdrv_refresh_limits(BlockDriverState *bs)
{
    BlockLimits *l = &bs->limits;

    *l = (BlockLimits){ .request_alignment = 1, .min_mem_alignment = 1, .max_iov = IOV_MAX_ELEMS };
    for (guint i = 0; i < bs->children->len; i++) {
        const BlockLimits *cl = &((BdrvChild *)g_ptr_array_index(bs->children, i))->bs->limits;

        l->min_mem_alignment = MAX(l->min_mem_alignment, cl->min_mem_alignment);
        l->opt_mem_alignment = MAX(l->opt_mem_alignment, cl->opt_mem_alignment);
        l->opt_transfer = MAX(l->opt_transfer, cl->opt_transfer);
    }
    bs->drv->refresh_limits(bs);
    l->request_alignment = MAX(l->request_alignment, 1);
    l->max_iov = l->max_iov > 0 ? l->max_iov : IOV_MAX_ELEMS;
    fit_to_alignment(l);
    bs->debug_below =
        (bs->drv->features & BLK_TAKES_EVENTS) || (bs->file && bs->file->bs->debug_below);
}
