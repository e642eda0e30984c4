/* SPDX-License-Identifier: MIT */
/*
 * New refcount blocks, and a refcount table that grows and moves.
 *
 * Under meta_lock blocks are made in the cache and the table in memory; of I/O there is only the
 * zero write that gives them their room in the file. The flush writes blocks, syncs, then the table
 * (INV-W-3). A grown table moves: it is written whole to its new place, synced, then the header
 * points there and is synced, and only then the old one is freed, through the quarantine (INV-W-4).
 *
 * INV-RB-1  hdr->reftable_offset is what the header on disk says; after a failed switch the header
 *           may say reftable_new_offset, or what that was then. Each of these keeps its count until
 *           a switch has ended well, and names no block that is not on disk whole.
 * INV-RB-2  A block that holds its own refcount has it set before it is reachable from the table.
 */
#ifndef QCOW2_REFBLOCK_H
#define QCOW2_REFBLOCK_H

#include "allocator.h"

/* Make the refcount blocks for @r; nothing that this takes lies in @avoid. */
int coroutine_fn qcow2_refblock_co_ensure(Allocator *a, ClusterRange r, ClusterRange avoid)
    REQUIRES_LOCK(a->meta_lock);

#endif
