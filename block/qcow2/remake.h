/* SPDX-License-Identifier: MIT */
/*
 * Another geometry for an image, in place: extended L2 entries or none, another cluster size,
 * another width of refcounts, another type of compression; all at once.
 *
 * Beside what the image has, all new tables are made in clusters that nothing refers to: L2 and L1
 * tables of the disk and of each snapshot, the snapshot table, tables of bitmaps, refcount blocks
 * and table, which count the image as it is going to be. Data stays where it can. That is synced;
 * then one write within the header's first sector switches from the old tables to the new ones, and
 * is synced; then what the old ones had is given back.
 *
 * INV-REMAKE-1  Until the switch nothing is written that the image as it is refers to, and its
 *               refcounts do not know of the new clusters: cut off at any moment it is whole, and
 *               has not even a leak. A run that comes after one that was cut off begins again.
 * INV-REMAKE-2  All new tables, counts and data are on stable storage before the switch is written.
 * INV-REMAKE-3  What only the old tables referred to is written again, or punched, only after the
 *               switch is on stable storage.
 * INV-REMAKE-4  When it is not known which of both the header has (a write or a sync of it failed),
 *               nothing of either is given back and nothing is written until the image is opened
 *               again: both are whole.
 */
#ifndef QCOW2_REMAKE_H
#define QCOW2_REMAKE_H

#include "qcow2.h"

typedef struct RemakeTarget {
    unsigned cluster_bits, refcount_order;
    bool extended_l2;
    bool zero_flags; /* false: what reads zero is not mapped, or data (before a downgrade) */
    uint8_t compression_type; /* Qcow2CompressionType */
} RemakeTarget;

/* @done: 0 to 1. False: no more of it (-ECANCELED; the image is as it was). */
typedef bool RemakeProgress(double done, void *opaque);

/* What the image has now: a start for a target. */
RemakeTarget qcow2_remake_current(const Qcow2 *q);
bool qcow2_remake_is_same(const RemakeTarget *a, const RemakeTarget *b);
/* What cannot be is refused at once: 0, or -errno with a text. No I/O. @version: that the image is
 * going to have. */
int qcow2_remake_check(const Qcow2 *q, int version, const RemakeTarget *t, GError **errp);
/* The image becomes @t, on the disk and in memory. The caller is alone on it (a drain), and
 * refreshes the node's limits afterwards. @progress may be NULL. All or nothing. */
int coroutine_fn qcow2_remake_co_run(Qcow2 *q, const RemakeTarget *t, RemakeProgress *progress,
                                     void *opaque, GError **errp)
    EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);

#endif
