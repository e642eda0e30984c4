/* SPDX-License-Identifier: MIT */
/*
 * Buffers of one size, aligned for I/O, many to an allocation: alone, an aligned block of 4 KiB
 * takes 8 KiB. Any thread; nothing sleeps.
 */
#ifndef QCOW2_SLAB_H
#define QCOW2_SLAB_H

#include "block/io.h"

typedef struct SlabPool SlabPool;
typedef struct Slab Slab;

/* Buffers of @size bytes, aligned for @bs. NULL without memory. */
SlabPool *qcow2_slab_pool_new(BlockDriverState *bs, size_t size);
/* All buffers must be back. NULL is fine. */
void qcow2_slab_pool_free(SlabPool *p);
/* A buffer, and in *@slab what to give back with it; NULL without memory. */
uint8_t *qcow2_slab_get(SlabPool *p, Slab **slab);
void qcow2_slab_put(Slab *slab, uint8_t *buf);

#endif
