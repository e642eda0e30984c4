/* SPDX-License-Identifier: MIT */
/*
 * Changes of entries in flight, and waiting for them.
 *
 * INV-WR-1  Between plan and finish the entries of a run change by no other hand: all who change
 *           entries wait for its InflightAlloc. (Runs in place beside each other in one cluster
 *           change different subclusters of its entry, under meta_lock; its host cluster stays.)
 * INV-WR-2  Whoever waits for an InflightAlloc holds none. (Several pieces of one request may be in
 *           flight: each is held by a coroutine of its own, which waits for none.)
 */
#ifndef QCOW2_INFLIGHT_H
#define QCOW2_INFLIGHT_H

#include "qcow2.h"

/*
 * Guest [start, end) whose entries somebody is about to change without holding meta_lock all the
 * time: whole clusters, or subclusters that are filled in in place. Others who want to change those
 * wait; a change of whole entries waits for subclusters of theirs, too. In q->inflight_allocs from
 * begin to end. Lives on its owner's stack.
 */
typedef struct InflightAlloc {
    uint64_t start, end;
    CoQueue waiters;
    struct InflightAlloc *next, **pprev;
} InflightAlloc;

void qcow2_inflight_begin(Qcow2 *q, InflightAlloc *a, uint64_t start, uint64_t end)
    REQUIRES_LOCK(q->alloc.meta_lock);
void qcow2_inflight_end(Qcow2 *q, InflightAlloc *a) REQUIRES_LOCK(q->alloc.meta_lock);
/* Where the first one from @at on begins; UINT64_MAX: none. */
uint64_t qcow2_inflight_next(Qcow2 *q, uint64_t at) REQUIRES_LOCK(q->alloc.meta_lock);

/* One that touches [start, end), in whole pieces of @unit; NULL: none. */
InflightAlloc *qcow2_inflight_find(Qcow2 *q, uint64_t start, uint64_t end, uint64_t unit)
    REQUIRES_LOCK(q->alloc.meta_lock);
/* Waits, with the lock dropped, for the end of a change in flight of @guest's cluster. False: there
 * is none, and the lock was kept. */
bool coroutine_fn qcow2_inflight_co_wait(Qcow2 *q, uint64_t guest)
    REQUIRES_LOCK(q->alloc.meta_lock);

/* One look at the entry at @index of @s, each time it may have changed: < 0 fails with it, > 0 ends
 * the wait with it; 0 goes on, and says in *@unit how large aligned pieces (a cluster, a
 * subcluster) others may not be changing. */
typedef int coroutine_fn InflightLook(Qcow2 *q, uint64_t start, const MetaSlice *s, unsigned index,
                                      uint64_t *unit);

/*
 * inflight-idle.c: the writable slice of @start's entry, at *@index, held, with no change in flight
 * over [@start, *@room): as much of [@start, @end) as the slice describes. Waits for what is in
 * flight, with the lock dropped. @look: NULL: whole clusters. When not 0 is returned, nothing is
 * held.
 */
int coroutine_fn qcow2_inflight_co_get_idle(Qcow2 *q, uint64_t start, uint64_t end,
                                            InflightLook *look, MetaSlice **s, unsigned *index,
                                            uint64_t *room) REQUIRES_LOCK(q->alloc.meta_lock);

#endif
