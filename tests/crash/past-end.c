/* SPDX-License-Identifier: MIT */
/* Grows the disk by its header alone. See past-end.h. */
#include "past-end.h"

#include "block/qcow2/geometry.h"
#include "block/qcow2/header-layout.h"
#include "block/qcow2/header.h"
#include "shared.h"
#include "util/bytes.h"

static Geometry geometry_of(const MemFile *f)
{
    uint32_t version = shared_be32(f, HEADER_AT(version));
    bool extended =
        version >= 3 && (shared_be64(f, HEADER_AT(incompatible)) & QCOW2_INCOMPAT_EXTL2) != 0;
    Geometry g;

    qcow2_geometry_init(&g, (int)version, shared_be32(f, HEADER_AT(cluster_bits)), 4, extended,
                        false, false);
    return g;
}

void past_end_restore(MemFile *image, uint64_t size)
{
    uint64_t raw;

    stbe64(&raw, size);
    mem_write(image, HEADER_AT(size), &raw, sizeof(raw));
}

bool past_end_grow(MemFile *image, uint64_t most, uint64_t *start, uint64_t *end)
{
    Geometry g = geometry_of(image);
    uint64_t size = shared_be64(image, HEADER_AT(size));
    uint64_t tables = geo_l1_entries(&g, size) << (g.l2_bits + g.cluster_bits);

    *start = ALIGN_UP(size, g.cluster_size);
    *end = MIN(tables, ALIGN_DOWN(size + most, g.cluster_size));
    if (*start >= *end) {
        return false;
    }
    past_end_restore(image, *end);
    return true;
}
