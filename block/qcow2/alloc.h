/* SPDX-License-Identifier: MIT */
/* Taking clusters of the file, for data and tables. */
#ifndef QCOW2_ALLOC_H
#define QCOW2_ALLOC_H

#include "allocator.h"

/* @n contiguous free clusters, refcount 1; *@offset. */
int coroutine_fn qcow2_alloc_co_clusters(Allocator *a, uint64_t n, uint64_t *offset)
    REQUIRES_LOCK(a->meta_lock);
/* Up to @n contiguous free clusters, at @want if that is free (0: anywhere); *@got >= 1. */
int coroutine_fn qcow2_alloc_co_upto(Allocator *a, uint64_t want, uint64_t n, uint64_t *offset,
                                     uint64_t *got) REQUIRES_LOCK(a->meta_lock);
/* Room for @bytes (1 to a cluster) of compressed data, packed after the last. */
int coroutine_fn qcow2_alloc_co_bytes(Allocator *a, uint64_t bytes, uint64_t *offset)
    REQUIRES_LOCK(a->meta_lock);
/* One more reference to each of clusters [@first, @first + @n): makes refcount blocks, grows the
 * table. All or nothing. */
int coroutine_fn qcow2_alloc_co_add_refs(Allocator *a, uint64_t first, uint64_t n)
    REQUIRES_LOCK(a->meta_lock);

#endif
