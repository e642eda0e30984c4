/* SPDX-License-Identifier: MIT */
/* Look-up: guest offset to a run of one kind. */
#ifndef QCOW2_MAP_H
#define QCOW2_MAP_H

#include "qcow2.h"

/* A run of one kind and (with a host offset) of one state of COPIED. */
typedef struct Extent {
    ScKind kind;
    uint64_t bytes; /* > 0 */
    uint64_t host;  /* of the first byte, for NORMAL, ZERO_ALLOC, UNALLOCATED_ALLOC; COMPRESSED: see
                       entry */
    L2Entry entry;  /* of the first cluster */
} Extent;

/* Longest run from @guest, at most @bytes, that is one kind and, where a host offset counts,
 * contiguous on the host; may end at a slice boundary. No allocation and no yield on a cache hit.
 * A defect entry is reported, -EIO; SC_INVALID is a zero flag in version 2. The caller is pinned,
 * as long as it uses what was found; no lock is needed. */
int coroutine_fn qcow2_map_co_find(Qcow2 *q, uint64_t guest, uint64_t bytes, Extent *ret);
/* The same for a write: what is defect is reported in other words. */
int coroutine_fn qcow2_map_co_find_to_write(Qcow2 *q, uint64_t guest, uint64_t bytes, Extent *ret);

#endif
