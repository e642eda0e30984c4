/* SPDX-License-Identifier: MIT */
/*
 * Another list of bitmaps, on disk and in memory.
 *
 * In the order of the disk: data clusters and tables of those that have no place yet, and a new
 * directory, are written to fresh clusters; their counts are flushed, and all of it synced; the
 * header names the new directory (or none), by a rewrite that is old or new at every instant; what
 * only the old list refers to goes to quarantine.  Power may fail between any two: before the
 * header is on disk the new clusters are leaked, after it the old ones are.
 *
 * INV-BMST-1  The header names a directory only when it, all tables and all data clusters that it
 *             leads to are on disk, with their counts.
 * INV-BMST-2  When the header could not be written, and the file may name either directory, it is
 *             written again before the disk changes: what is set from then on is in the old one.
 */
#ifndef QCOW2_BITMAP_STORE_H
#define QCOW2_BITMAP_STORE_H

#include "bitmap-set.h"

/* A new table (a cluster for each part) takes no more than that for bits that are all 0: in place
 * of an entry for a whole cluster, single regions can be set in it. */
#define BITMAP_DENSE_BYTES (8 * MiB)

/* The image's bitmaps become @next (Bitmap; taken over), and the disk is said to be of @disk_size.
 * Those with table_offset == 0 are written from their bits. Nothing that is tracked differs from
 * what is on disk (qcow2_track_co_cool_all). After qcow2_change_co_begin(IMAGE). On failure all is
 * as it was. */
int coroutine_fn qcow2_bitmap_co_store(Qcow2 *q, GPtrArray *next, uint64_t disk_size, GError **errp)
    REQUIRES_LOCK(q->bitmaps->lock) EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);
/* The list, with those in it that can be written in place of others, which are in @next already. */
GPtrArray *qcow2_bitmap_list_new(void);

#endif
