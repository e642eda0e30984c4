/* SPDX-License-Identifier: MIT */
/* Memory that a node can do I/O from. */
#include "block/request/request.h"

void *bdrv_try_blockalign(BlockDriverState *bs, size_t size)
{
    return mem_align_try(MAX(bs->limits.opt_mem_alignment, 64), size);
}
