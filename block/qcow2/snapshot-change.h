/* SPDX-License-Identifier: MIT */
/*
 * What creating, applying and deleting a snapshot have in common.
 *
 * The order on disk: the dirty bit (version 3), synced; counts rise and COPIED flags go, what is
 * new is written, synced; one write of header fields within the first sector, synced; counts fall
 * and flags come back, synced; the dirty bit goes. Power may fail between any two: while the bit is
 * set the next writer counts anew and puts the flags right (rebuild.c). In version 2, which has no
 * such bit, counts are too high and flags missing meanwhile: leaks, and clusters that the next
 * write copies without need; never data that two own without knowing (INV-SH-1, INV-SH-2).
 *
 * Guest requests run beside all of it; nothing else changes the image. Counts move table by table,
 * each in one hold of meta_lock. What a request lets go of meanwhile has its count until it leaves
 * quarantine, so whoever takes a count away last sets the cluster free, in either order.
 */
#ifndef QCOW2_SNAPSHOT_CHANGE_H
#define QCOW2_SNAPSHOT_CHANGE_H

#include "snapshot.h"

/* The image is announced as changed (@what, change.h), and dirty. */
int coroutine_fn qcow2_snapshot_change_co_begin(Qcow2 *q, unsigned what)
    EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);
/* All is on disk, what was let go of is free, the dirty bit as it was, or it stays, if that fails.
 * @ret: 0, the header has been switched: the rest leaks, at worst. Returned as it is, but where
 * writes are refused. */
int coroutine_fn qcow2_snapshot_change_co_end(Qcow2 *q, int ret)
    EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);

/* Where clusters are free is known, so that requests, all of which will need some, do not look
 * through the whole file for it, one of them for all. */
void coroutine_fn qcow2_snapshot_change_co_look_ahead(Qcow2 *q)
    EXCLUDES_LOCK(q->alloc.meta_lock);
/* The active L1 table, as offsets; g_free(). NULL: no memory. */
uint64_t *qcow2_snapshot_change_copy_l1(Qcow2 *q);
/* The active L1 table is @l1 at an instant that qcow2_sharing_begin() was told of: its tables are
 * counted once more, those that requests change first (sharing.h). On failure some are:
 * qcow2_snapshot_change_co_unshare(). */
int coroutine_fn qcow2_snapshot_change_co_share(Qcow2 *q, const uint64_t *l1, uint32_t n)
    EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);
/* There will be no such snapshot: as if they had not been counted. What fails is left to the next
 * writer. */
void coroutine_fn qcow2_snapshot_change_co_unshare(Qcow2 *q, const uint64_t *l1, uint32_t n)
    EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);
/* The tables of a snapshot, which @l1 (@n entries, offsets) names, are counted once more
 * (qcow2_share_co_add()), all or none. */
int coroutine_fn qcow2_snapshot_change_co_add(Qcow2 *q, const uint64_t *l1, uint64_t n)
    EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);
/* Once less; those of the first @n that fail are left too high (a leak), and the first error is
 * returned. The active table's flags are mended. */
int coroutine_fn qcow2_snapshot_change_co_remove(Qcow2 *q, const uint64_t *l1, uint64_t n)
    EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);
/* After qcow2_snapshot_change_co_add(): as if it had not been; where the header may name what is
 * given up, once it does not. What fails is left to the next writer. */
void coroutine_fn qcow2_snapshot_change_co_undo(Qcow2 *q, const uint64_t *l1, uint64_t n)
    EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);
/* @l1 (offsets) in new clusters that nothing names yet, without flags. */
int coroutine_fn qcow2_snapshot_change_co_write_l1(Qcow2 *q, const uint64_t *l1, uint64_t n,
                                                   uint64_t *offset)
    EXCLUDES_LOCK(q->alloc.meta_lock);
/* Clusters of tables that nothing names (any more) go to quarantine. @offset 0: none. */
void coroutine_fn qcow2_snapshot_change_co_drop(Qcow2 *q, uint64_t offset, uint64_t bytes)
    EXCLUDES_LOCK(q->alloc.meta_lock);
/* @list (owned by the image on success) is the table, on disk in new clusters and in memory. Counts
 * and tables are on disk before the header is. On failure the header says the old one, or is in
 * doubt (@q->header_in_doubt). */
int coroutine_fn qcow2_snapshot_change_co_install(Qcow2 *q, Snapshot *list, uint32_t n)
    EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);

#endif
