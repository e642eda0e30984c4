/* SPDX-License-Identifier: MIT */
/*
 * Bitmaps that tell of every change of the disk, kept true on disk while it changes: after a crash
 * such a bitmap is valid, not in use, and holds at least what was written.
 *
 * Of each bitmap, a region (512 bytes of it on disk, 4096 bits) is cold or hot.  Hot: the disk has
 * all of its bits set, on stable storage; the exact ones are in memory.  Cold: the disk has at
 * least what memory has.  A request sets its bits in memory, then looks at the regions that they
 * are in; those that are cold it makes hot first, with one sync for all requests that wait
 * meanwhile.  Where one after the other becomes hot, larger and larger groups of neighbours do at
 * once, so that a load all over the disk costs a few syncs, not one for each region.  Regions that
 * nobody has used for a while get their exact bits on disk at a flush, and are cold; at a close all
 * do.
 *
 * INV-TRK-1  A change of what the guest reads reaches the file only when, on stable storage, the
 *            bits of it are set in each bitmap that is tracked.
 * INV-TRK-2  A region is made cold before its bits are read to be written, and a request sets bits
 *            before it looks whether the region is hot: so of a request and a cooling at a time at
 *            least one sees the other.
 * INV-TRK-3  A region is written to disk under the lock of the bitmaps alone, whole, within a
 *            sector: its old content, its new one, either is a superset of what was written.
 */
#ifndef QCOW2_TRACK_H
#define QCOW2_TRACK_H

#include "qcow2.h"

/* Before the first change of the disk, under start_lock: bitmaps that are enabled are loaded and
 * tracked from now on. Those that cannot be are left out (qcow2_track_keeps). */
void coroutine_fn qcow2_track_co_start(Qcow2 *q);
struct BitmapEntry;
/* Is it tracked? For bitmap.h. */
bool qcow2_track_keeps(const Qcow2 *q, const struct BitmapEntry *e);
/* [@offset, +@bytes) of the disk is about to change. 0, or -errno: it must not. */
int coroutine_fn qcow2_track_co_mark(Qcow2 *q, uint64_t offset, uint64_t bytes);
/* The list of bitmaps is another one: what is tracked is too. */
int qcow2_track_renew(Qcow2 *q);
/* All that the disk has is exact. */
int coroutine_fn qcow2_track_co_cool_all(Qcow2 *q);
/* At a close: the same, for good as long as nothing changes. */
int coroutine_fn qcow2_track_co_finish(Qcow2 *q);
/* At a flush: regions that have not been used for a while. */
int coroutine_fn qcow2_track_co_flush(Qcow2 *q);
/* Bitmaps on disk are exact, and what is known of them in memory is forgotten: they may move. The
 * caller is alone on the image; the next change starts anew. */
int coroutine_fn qcow2_track_co_forget(Qcow2 *q);
/* Can the bitmaps follow a resize? */
int coroutine_fn qcow2_track_co_may_resize(Qcow2 *q, uint64_t size, GError **errp);
/* The disk becomes @size: so do its bitmaps, with the header's size. */
int coroutine_fn qcow2_track_co_resize(Qcow2 *q, uint64_t size, GError **errp);

/* After qcow2_change_co_begin(DISK). One load where nothing is tracked. */
static inline int coroutine_fn qcow2_track_co_begin(Qcow2 *q, uint64_t offset, uint64_t bytes)
{
    return likely(!atomic_load_explicit(&q->tracked, memory_order_acquire))
               ? 0
               : qcow2_track_co_mark(q, offset, bytes);
}

#endif
