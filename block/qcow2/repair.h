/* SPDX-License-Identifier: MIT */
/*
 * Repair of what a check found.  The caller is alone on the image, and has it flushed.
 *
 * INV-REP-2  From before the first change of a table to after the last, and their syncs, the image
 *            on disk is marked as corrupt (version 3): nobody writes to one that is half repaired,
 *            and a repair that power loss cuts off is begun again.  BLK_FIX_LEAKS alone
 *            repairs leaks without.
 * INV-REP-3  Each change is within one sector, or is a switch to something new by one write of the
 *            header: there is nothing that a torn write leaves half.
 * INV-REP-4  Tables first, then counts, then the COPIED flags, a sync between: no count drops while
 *            an entry that goes still names the cluster.
 * INV-REP-5  Where the bitmap directory, the table of a bitmap or the L1 table of a snapshot cannot
 *            be followed, what looks leaked may be the only copy of what they hold: no count drops.
 */
#ifndef QCOW2_REPAIR_H
#define QCOW2_REPAIR_H

#include "check.h"

/* Before the first change of a table; again is fine. */
int coroutine_fn qcow2_repair_co_mark(Qcow2 *q);
/* After the last: @sound: neither corrupt nor dirty any more. */
int coroutine_fn qcow2_repair_co_finish(Qcow2 *q, bool sound);
/* The entries of L1 and L2 tables that the count found bad. */
int coroutine_fn qcow2_repair_co_tables(Check *c);
/* Counts become what was counted, block by block: those too high, and with BLK_FIX_ERRORS those too
 * low. */
int coroutine_fn qcow2_repair_co_counts(Check *c);
/* [@offset, +@bytes) of the file becomes @buf, what is kept of it in memory is forgotten. */
int coroutine_fn qcow2_repair_co_write(Qcow2 *q, uint64_t offset, uint64_t bytes, const void *buf);
/* An entry of the active L1 table, in the file and in memory. */
int coroutine_fn qcow2_repair_co_set_l1(Qcow2 *q, uint32_t index, uint64_t entry);

/* repair-snapshots.c: what is wrong with the entries of the snapshot table as such, told and not
 * yet counted; *@found of them. -EFBIG: nothing else can be checked before these are repaired. */
int qcow2_repair_tell_snapshots(Check *c, int64_t *found);
/* The table anew, its entries whole; the counts are right, and the image is not marked any more. */
int coroutine_fn qcow2_repair_co_snapshots(Check *c);

#endif
