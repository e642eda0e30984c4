/* SPDX-License-Identifier: MIT */
/*
 * Quarantine: clusters that a table has let go of.
 *
 * They keep their refcount, so no allocation finds them, until (a) every request that was pinned
 * when they were let go of has ended: such a request may have looked them up before; later ones
 * cannot reach them any more; and (b) the change that let go of them is on stable storage
 * (INV-W-4). Then reap.c takes them out.
 *
 * INV-PIN-2  Entries are queued under meta_lock after the table's change, in the same hold of the
 *            lock; their epochs and generations never decrease, so the queue is FIFO.
 */
#ifndef QCOW2_QUARANTINE_H
#define QCOW2_QUARANTINE_H

#include "pin.h"

typedef struct Quarantine Quarantine;

typedef struct Quarantined {
    struct Quarantined *next;
    uint64_t offset, bytes; /* cluster aligned, or a compressed range */
    uint64_t epoch, gen;
    bool punch, compressed;
} Quarantined;

/* NULL without memory. */
Quarantine *qcow2_quarantine_new(PinState *pins, uint64_t cluster_size);
/* What is in it leaks. NULL is fine. */
void qcow2_quarantine_free(Quarantine *qn);

/* A table let go of these (in memory); with @punch the file gives their space back, too. With
 * meta_lock, in the same hold as the table's change. */
void qcow2_quarantine_add(Quarantine *qn, uint64_t offset, uint64_t bytes, bool punch);
void qcow2_quarantine_add_compressed(Quarantine *qn, uint64_t offset, uint64_t bytes, bool punch);

/* Ends the generation of changes: what was let go of so far. With meta_lock, when a flush seals
 * what is dirty. */
typedef struct QuarantineMark {
    uint64_t gen, bytes, runs;
} QuarantineMark;
QuarantineMark qcow2_quarantine_mark(Quarantine *qn);
/* The changes up to @m are on stable storage. For flushes, which follow one another. */
void qcow2_quarantine_synced(Quarantine *qn, QuarantineMark m);

/* Bytes in it / that wait for a sync, and *@runs of them (also for requests, perhaps). Any
 * thread. */
uint64_t qcow2_quarantine_bytes(const Quarantine *qn);
uint64_t qcow2_quarantine_unsynced(const Quarantine *qn, uint64_t *runs);

/* What is let go of from the next flush on has a larger "gen". */
uint64_t qcow2_quarantine_gen(const Quarantine *qn);
/* The first of the queue if it may be freed, and was let go of up to generation @gen, else NULL;
 * the caller's (g_free), or put back: it could not be freed now. */
Quarantined *qcow2_quarantine_take(Quarantine *qn, uint64_t gen);
void qcow2_quarantine_put_back(Quarantine *qn, Quarantined *e);

#endif
