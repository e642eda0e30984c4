/* SPDX-License-Identifier: MIT */
/* Metadata on its way to disk; flush.c has the order, as a table. */
#ifndef QCOW2_FLUSH_H
#define QCOW2_FLUSH_H

#include "qcow2.h"

/* All that is dirty, in the order of INV-W-1..3. Steps with nothing to do, and their syncs, fall
 * away. With @final a sync ends it and what was let go of may leave quarantine. What could not be
 * written is dirty again, for the next flush. */
int coroutine_fn qcow2_flush_co_metadata(Qcow2 *q, bool final)
    EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);
/* All of it, refcounts too where they are lazy, and what is in quarantine freed as far as no
 * request is in flight: for a check, and at the end. */
int coroutine_fn qcow2_flush_co_all(Qcow2 *q) EXCLUDES_LOCK(q->flush_lock, q->alloc.meta_lock);
/* Fields of the header, as @h has them, in an order of the caller's: synced. If the write fails,
 * the next flush says there what memory says (DOUBT_BEFORE_TABLES). */
int coroutine_fn qcow2_flush_co_header_fields(Qcow2 *q, const Qcow2Header *h, size_t from,
                                              size_t to) REQUIRES_LOCK(q->alloc.meta_lock);
/* Turns a copy of the header into what it is to be, under both locks, without I/O. 0 or -errno,
 * which leaves the header as it is. */
typedef int Qcow2HeaderEdit(Qcow2Header *h, void *opaque, GError **errp);
/* The whole header, in the file and in q->hdr, becomes what @edit makes of it: old or new at every
 * instant, and synced. What the new one names must be on disk. After qcow2_change_co_begin(). On
 * failure q->hdr is the old one; if the file may say the new one, the next flush writes the old one
 * there (HEADER_DOUBT_WHOLE), so what both name is kept until a flush has ended well. The names
 * that q->hdr had are freed: nobody else reads them meanwhile. */
int coroutine_fn qcow2_flush_co_header(Qcow2 *q, Qcow2HeaderEdit *edit, void *opaque, GError **errp)
    REQUIRES_LOCK(q->alloc.meta_lock) EXCLUDES_LOCK(q->header.lock);
/* If the file may say another header than q->hdr, it is written again, and synced. */
int coroutine_fn qcow2_flush_co_settle_header(Qcow2 *q) EXCLUDES_LOCK(q->alloc.meta_lock);
/* The cache of refcounts is so full of dirty slices that lazy ones have to be written. */
bool qcow2_flush_counts_need_room(Qcow2 *q);
/* Dirty slices cannot make room in @c. @need: bytes that would hold all the tables there can be:
 * with a budget for them nothing ever has to make room, and dirty slices may stay until the guest
 * flushes. */
bool qcow2_flush_is_crowded(MetaCache *c, uint64_t need);

#endif
