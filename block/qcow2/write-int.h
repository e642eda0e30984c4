/* SPDX-License-Identifier: MIT */
/* What write.c, cow.c, zero.c, discard.c and prealloc.c share. */
#ifndef QCOW2_WRITE_INT_H
#define QCOW2_WRITE_INT_H

#include "qcow2.h"

/*
 * Guest [start, end) whose entries somebody is about to change without holding meta_lock all the
 * time: whole clusters, or subclusters that are filled in in place. Others who want to change those
 * wait; who changes whole entries (qcow2_co_wait_allocs) waits for subclusters of theirs, too.
 * In q->inflight_allocs from begin to end, both under meta_lock. Lives on its owner's stack.
 */
struct InflightAlloc {
    uint64_t start, end;
    CoQueue waiters;
    InflightAlloc *next, **pprev;
};
/* Guest clusters [first, last]. */
void inflight_begin(Qcow2 *q, InflightAlloc *a, uint64_t first, uint64_t last);
void inflight_end(Qcow2 *q, InflightAlloc *a);

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

/* cow.c: one vector of head, the guest's data (@v from @v_offset) and tail to the run's clusters.
 * No lock held. */
int coroutine_fn cow_co_write(Qcow2 *q, const WriteRun *r, IOVector *v, size_t v_offset,
                              unsigned flags);
/* Where copy-on-write must begin and end around [start, end) in the cluster of @e, which is
 * changed in place or replaced. Pure. */
uint64_t cow_begin(const Geometry *g, L2Entry e, bool in_place, uint64_t start);
uint64_t cow_finish(const Geometry *g, L2Entry e, bool in_place, uint64_t end);
/* All of guest [start, end), within the cluster of @e, reads zero without looking at data. */
bool entry_reads_zero(Qcow2 *q, L2Entry e, uint64_t start, uint64_t end);

/* Number of entries in an L2 slice. */
static inline unsigned l2_slice_entries(const Qcow2 *q)
{
    return meta_cache_slice_size(q->l2_cache) / q->geo.l2_entry_size;
}
/* May the host cluster of @e be written in place? */
static inline bool entry_in_place(const Geometry *g, L2Entry e)
{
    return !(e.desc & L2E_COMPRESSED) && l2_copied(e) && l2_has_host(g, e);
}
/* -EIO with the image marked corrupt if @e has invalid bits. */
int coroutine_fn entry_co_check(Qcow2 *q, L2Entry e, uint64_t guest);

/* ---- raw-file.c, no lock held ---- */
/* The external data file holds what the guest sees, and is what changes. */
bool qcow2_file_is_disk(const Qcow2 *q);
/* Guest [start, end) becomes zero there, as far as the disk goes. */
int coroutine_fn raw_co_zero(Qcow2 *q, uint64_t start, uint64_t end, unsigned flags);
/* What the entries do not show yet of the run with what it fills in becomes zero there: then they
 * may. */
int coroutine_fn raw_co_prepare(Qcow2 *q, const WriteRun *r);

/* discard.c: punch or zero [guest, +bytes) of an external data file, whose clusters the caller's
 * InflightAlloc guards. */
int coroutine_fn data_file_co_drop(Qcow2 *q, uint64_t guest, uint64_t bytes);
/* discard.c, for truncate: the entries of guest [start, end), cluster aligned, become 0. No lock
 * held. */
int coroutine_fn discard_co_forget(Qcow2 *q, uint64_t start, uint64_t end);

/* ---- entry-change.c, under meta_lock ---- */
/* The writable slice of @start's entry, at *@index, with no allocation in flight over [start,
 * *room): as much of [start, end) as the slice describes. The caller puts it. */
int coroutine_fn entries_co_get_idle(Qcow2 *q, uint64_t start, uint64_t end, MetaSlice **s,
                                     unsigned *index, uint64_t *room);
/* Cluster @guest's entry becomes @e; what that lets go of goes to quarantine in the same hold
 * (INV-W-4), unless it is defect. */
void entry_replace(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t guest, L2Entry e, bool punch);

#endif
