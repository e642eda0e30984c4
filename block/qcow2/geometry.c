/* SPDX-License-Identifier: MIT */
/* Address arithmetic of an image. */
#include "geometry.h"

void qcow2_geometry_init(Geometry *g, int version, unsigned cluster_bits, unsigned refcount_order,
                         bool extended_l2, bool external_data, bool data_raw)
{
    g_assert(cluster_bits >= QCOW2_MIN_CLUSTER_BITS && cluster_bits <= QCOW2_MAX_CLUSTER_BITS);
    g_assert(refcount_order <= 6);
    *g = (Geometry){
        .version = version,
        .cluster_bits = cluster_bits,
        .cluster_size = UINT64_C(1) << cluster_bits,
        .extended_l2 = extended_l2,
        .external_data = external_data,
        .data_raw = external_data && data_raw,
        .subclusters = extended_l2 ? QCOW2_SUBCLUSTERS : 1,
        .subcluster_bits = extended_l2 ? cluster_bits - 5 : cluster_bits,
        .l2_entry_size = extended_l2 ? 16 : 8,
        .l2_bits = cluster_bits - (extended_l2 ? 4 : 3),
        .refcount_order = refcount_order,
        .refcount_bits = 1u << refcount_order,
        .refblock_bits = cluster_bits + 3 - refcount_order,
        .refcount_max = refcount_order == 6 ? INT64_MAX /* the format keeps bit 63 free */
                                            : (UINT64_C(1) << (1u << refcount_order)) - 1,
        .csize_shift = 62 - (cluster_bits - 8),
        .csize_mask = (UINT64_C(1) << (cluster_bits - 8)) - 1,
    };
    g->subcluster_size = UINT64_C(1) << g->subcluster_bits;
    g->coffset_mask = (UINT64_C(1) << g->csize_shift) - 1;
}
