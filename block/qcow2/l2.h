/* SPDX-License-Identifier: MIT */
/*
 * The L2 codec: the only place that knows the bits of an L2 entry and of its
 * subcluster bitmap. Pure; tested exhaustively.
 */
#ifndef QCOW2_L2_H
#define QCOW2_L2_H

#include "geometry.h"

typedef struct L2Entry {
    uint64_t desc;   /* host byte order */
    uint64_t bitmap; /* 0 without extended entries */
} L2Entry;

/* What one subcluster (without extended entries: the cluster) is. */
typedef enum ScKind {
    SC_UNALLOCATED_PLAIN, /* no host cluster; defers to backing */
    SC_UNALLOCATED_ALLOC, /* host cluster reserved; defers to backing */
    SC_ZERO_PLAIN,        /* reads zero, no host cluster */
    SC_ZERO_ALLOC,        /* reads zero, host cluster reserved */
    SC_NORMAL,
    SC_COMPRESSED,
    SC_INVALID, /* a bitmap's defect; or a zero flag in version 2, of an entry that is sound to let
                   go of: not readable */
} ScKind;

#define L2E_COPIED (UINT64_C(1) << 63)
#define L2E_COMPRESSED (UINT64_C(1) << 62)
#define L2E_ZERO (UINT64_C(1) << 0) /* standard entries, version 3 */

L2Entry qcow2_l2_load(const Geometry *g, const void *slice, unsigned index);
void qcow2_l2_store(const Geometry *g, void *slice, unsigned index, L2Entry e);

/* Kind of subcluster @sc of @e. @guest: cluster's guest offset / for the external-data offset 0
 * rule. */
ScKind qcow2_l2_kind(const Geometry *g, L2Entry e, unsigned sc, uint64_t guest);
/* Kind at @sc and how many subclusters from @sc on, within this cluster, share it. */
ScKind qcow2_l2_run(const Geometry *g, L2Entry e, unsigned sc, uint64_t guest, unsigned *nsc);
/* A bit for each subcluster (without extended entries: for the cluster) that is SC_NORMAL. */
uint32_t qcow2_l2_normal_mask(const Geometry *g, L2Entry e);
/* The entry has a host cluster (reserved or used) / its offset. 0 is a valid offset with external
 * data only. */
bool qcow2_l2_has_host(const Geometry *g, L2Entry e);
uint64_t qcow2_l2_host(const Geometry *g, L2Entry e);
static inline bool qcow2_l2_copied(L2Entry e)
{
    return e.desc & L2E_COPIED;
}

/* What is wrong with an entry. */
typedef enum L2Defect {
    L2_SOUND, /* nothing; reserved bits are no reason not to read (check reports them) */
    L2_UNALIGNED,
    L2_MISPLACED, /* in the external data file elsewhere than the guest's offset */
    L2_PACKED,    /* compressed, in an image with an external data file */
    L2_BITMAP,    /* both bits of a subcluster, or one is allocated without a host cluster */
} L2Defect;

L2Defect qcow2_l2_defect(const Geometry *g, L2Entry e, uint64_t guest);

/* Compressed descriptor. */
void qcow2_l2_compressed_range(const Geometry *g, L2Entry e, uint64_t *host, uint64_t *bytes);
L2Entry qcow2_l2_make_compressed(const Geometry *g, uint64_t host, uint64_t bytes);
/* Other constructors. Bits [first, first + n) */
L2Entry qcow2_l2_make_normal(const Geometry *g,
                             uint64_t host); /* COPIED, all subclusters allocated */
L2Entry qcow2_l2_make_host_only(const Geometry *g,
                                uint64_t host); /* extended: reserved, bitmap 0 */
L2Entry qcow2_l2_set_allocated(const Geometry *g, L2Entry e, unsigned first, unsigned n);
/* extended: zero bits on, alloc bits off; standard (n == 1): zero flag; keeps the host offset. */
L2Entry qcow2_l2_set_zero(const Geometry *g, L2Entry e, unsigned first, unsigned n);
L2Entry qcow2_l2_set_unallocated(const Geometry *g, L2Entry e, unsigned first, unsigned n);

#endif
