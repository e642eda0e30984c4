/* SPDX-License-Identifier: MIT */
/* Address arithmetic of an image: constant after open, pure, no I/O. */
#ifndef QCOW2_GEOMETRY_H
#define QCOW2_GEOMETRY_H

#include "util/compiler.h"

#define QCOW2_MIN_CLUSTER_BITS 9
#define QCOW2_MAX_CLUSTER_BITS 21
#define QCOW2_EXTL2_MIN_CLUSTER_BITS 14
#define QCOW2_SUBCLUSTERS 32
#define QCOW2_MAX_L1_BYTES (32 * MiB)
#define QCOW2_MAX_REFTABLE_BYTES (8 * MiB)
#define QCOW2_MAX_SNAPSHOTS 65536
#define QCOW2_OFFSET_MASK UINT64_C(0x00fffffffffffe00) /* bits 9-55 */
#define QCOW2_MAX_OFFSET (UINT64_C(1) << 56)

typedef struct Geometry {
    int version;
    unsigned cluster_bits;
    uint64_t cluster_size;
    bool extended_l2;
    bool external_data; /* host cluster offset == guest offset, no refcounts for data */
    bool data_raw;
    unsigned subclusters; /* per cluster: 32, or 1 */
    unsigned subcluster_bits;
    uint64_t subcluster_size;
    unsigned l2_entry_size; /* 8 or 16 */
    unsigned l2_bits;       /* log2 of entries per L2 table */
    unsigned refcount_order;
    unsigned refcount_bits;
    unsigned refblock_bits; /* log2 of entries per refcount block */
    uint64_t refcount_max;
    unsigned csize_shift; /* compressed descriptor: 62 - (cluster_bits - 8) */
    uint64_t csize_mask, coffset_mask;
} Geometry;

void qcow2_geometry_init(Geometry *g, int version, unsigned cluster_bits, unsigned refcount_order,
                         bool extended_l2, bool external_data, bool data_raw);

static inline uint64_t geo_cluster_start(const Geometry *g, uint64_t off)
{
    return off & ~(g->cluster_size - 1);
}
static inline uint64_t geo_in_cluster(const Geometry *g, uint64_t off)
{
    return off & (g->cluster_size - 1);
}
static inline uint64_t geo_clusters(const Geometry *g, uint64_t bytes) /* rounded up */
{
    return (bytes >> g->cluster_bits) + (geo_in_cluster(g, bytes) != 0);
}
/* log2 of the bytes of the disk that one L2 table describes. */
static inline unsigned geo_l1_bits(const Geometry *g)
{
    return g->l2_bits + g->cluster_bits;
}
static inline uint64_t geo_l1_index(const Geometry *g, uint64_t guest)
{
    return guest >> geo_l1_bits(g);
}
/* The first byte of the disk that L1 entry @i is about. */
static inline uint64_t geo_l1_start(const Geometry *g, uint64_t i)
{
    return i << geo_l1_bits(g);
}
static inline uint64_t geo_l2_index(const Geometry *g, uint64_t guest)
{
    return (guest >> g->cluster_bits) & ((UINT64_C(1) << g->l2_bits) - 1);
}
static inline unsigned geo_sc_index(const Geometry *g, uint64_t guest)
{
    return (guest >> g->subcluster_bits) & (g->subclusters - 1);
}
/* L1 entries needed for @size bytes of disk. */
static inline uint64_t geo_l1_entries(const Geometry *g, uint64_t size)
{
    unsigned shift = geo_l1_bits(g);

    return (size >> shift) + ((size & ((UINT64_C(1) << shift) - 1)) != 0);
}
/* A machine's state lies past a disk of @size bytes, from the next L2 table on. */
static inline uint64_t geo_state_start(const Geometry *g, uint64_t size)
{
    return geo_l1_start(g, geo_l1_entries(g, size));
}

#endif
