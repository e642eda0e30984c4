/* SPDX-License-Identifier: MIT */
/* A small qcow2 image built by hand in memory, for tests of the driver's parts. */
#ifndef TESTS_UNIT_MEM_IMAGE_H
#define TESTS_UNIT_MEM_IMAGE_H

#include "block/backend.h"
#include "block/qcow2/qcow2.h"

typedef struct MemImage {
    unsigned cluster_bits, refcount_order;
    bool extended_l2;
    uint64_t size;
    Geometry geo;
    uint8_t *data;         /* MEM_CAPACITY bytes */
    uint64_t next;         /* first free cluster, byte offset */
    uint64_t l1, refblock; /* offsets */
} MemImage;

/* Header, refcount table, one refcount block, L1 table; the first four fields of @im are given. */
void mem_image_init(MemImage *im);
void mem_image_clear(MemImage *im);
/* A cluster with refcount 1. */
uint64_t mem_image_alloc(MemImage *im);
/* L2 table for L1 entry @i (made on first use). */
void *mem_image_l2(MemImage *im, uint64_t i);
/* Open a copy of it for writing. @options: more of them ("l2-cache-size=…", may be NULL). */
BlockBackend *mem_image_open(MemImage *im, const char *options);
static inline Qcow2 *mem_image_qcow2(BlockBackend *blk)
{
    return ((BlockDriverState *)blk_bs(blk))->opaque;
}

#endif
