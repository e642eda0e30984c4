/* SPDX-License-Identifier: MIT */
/* Compressed clusters: reading (decompress.c) and writing (compress.c). */
#ifndef QCOW2_COMPRESS_H
#define QCOW2_COMPRESS_H

#include "qcow2.h"

/* Whether this build reads and writes compression type @type of the header. */
bool qcow2_compress_is_built(unsigned type);
/* @len bytes of @in, by a thread of the pool, to *@packed < @len bytes of @out. -E2BIG: they do not
 * get smaller. */
int coroutine_fn qcow2_compress_co_pack(unsigned type, unsigned level, const void *in, size_t len,
                                        void *out, size_t *packed);
/* The level that the image remembers, for type @type; 0: the type's own, also where it remembers
 * one that the type does not have. */
unsigned qcow2_compress_level(const Qcow2Header *h, unsigned type);
/* Whether compression type @type has a level @level; 0 is its own default. */
int qcow2_compress_check_level(unsigned type, uint64_t level, GError **errp);
int qcow2_compress_init(Qcow2 *q);
void qcow2_compress_fini(Qcow2 *q);
int qcow2_decompress_init(Qcow2 *q);
void qcow2_decompress_fini(Qcow2 *q);
/* @len bytes from offset @at in the cluster of @e into @v at @v_offset. Pinned. */
int coroutine_fn qcow2_decompress_co_read(Qcow2 *q, L2Entry e, uint64_t at, IOVector *v,
                                          size_t v_offset, size_t len);
/* Whole cluster of @e, unpacked into @buf (cluster_size bytes). */
int coroutine_fn qcow2_decompress_co_cluster(Qcow2 *q, L2Entry e, void *buf);

#endif
