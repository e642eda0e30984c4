/* SPDX-License-Identifier: MIT */
/* Guest writes, and the run that one allocating write makes. */
#ifndef QCOW2_WRITE_H
#define QCOW2_WRITE_H

#include "inflight.h"

/*
 * One run: adjacent guest clusters that get or have adjacent host clusters, written in one go.
 * [start, end) is the guest's data, [cow_start, cow_end) with what copy-on-write fills in.
 */
typedef struct WriteRun {
    InflightAlloc inflight;
    uint64_t start, end, cow_start, cow_end;
    uint64_t first;            /* guest cluster */
    uint64_t n;                /* clusters */
    uint64_t host;             /* host offset of the first cluster */
    bool fresh;                /* newly allocated: undo frees them */
    bool beyond_eof;           /* ... and never written in this file: read zero */
    bool head_zero, tail_zero; /* what is to fill in reads zero */
    bool merge;                /* read head, middle and tail at once */
    MetaSlice *slice;          /* of the entries; held */
    unsigned index;
} WriteRun;

/* As qcow2_co_pwritev(), without qcow2_change_co_begin(); @offset may be past the disk. */
int coroutine_fn qcow2_write_co_guest(Qcow2 *q, uint64_t offset, IOVector *v, unsigned flags)
    EXCLUDES_LOCK(q->alloc.meta_lock);

#endif
