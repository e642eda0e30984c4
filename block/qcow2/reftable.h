/* SPDX-License-Identifier: MIT */
/*
 * The refcount table's way to disk, for flush.c.
 *
 * hdr->reftable_offset is what the header on disk says; a grown table lives in memory until a flush
 * has written it whole, synced, and switched the header.
 */
#ifndef QCOW2_REFTABLE_H
#define QCOW2_REFTABLE_H

#include "allocator.h"

typedef struct ReftableSeal {
    uint64_t table_offset, first, n; /* entries [first, first + n) of the table at table_offset */
    uint8_t *data;                   /* on-disk byte order */
    bool moved;
    uint32_t clusters;
} ReftableSeal;

/* Entries [@first, @last] are to be written. */
void qcow2_reftable_mark_dirty(Allocator *a, uint64_t first, uint64_t last)
    REQUIRES_LOCK(a->meta_lock);
/* Lets go of a table that is not used any more. */
void qcow2_reftable_free_later(Allocator *a, uint64_t offset, uint64_t bytes)
    REQUIRES_LOCK(a->meta_lock);

/* With the seals of the caches. n == 0: nothing to write. -ENOMEM leaves all as it was. */
int qcow2_reftable_seal(Allocator *a, ReftableSeal *s) REQUIRES_LOCK(a->meta_lock);
/* After the sync of the refcount blocks. The caller syncs. */
int coroutine_fn qcow2_reftable_co_write(Allocator *a, const ReftableSeal *s);
/* The header names the table, if it moved. Synced within the order of the flush. */
int coroutine_fn qcow2_reftable_co_switch(Allocator *a, const ReftableSeal *s)
    EXCLUDES_LOCK(a->meta_lock);
/* Always comes last. @failed: dirty again. */
void coroutine_fn qcow2_reftable_co_seal_clear(Allocator *a, ReftableSeal *s, bool failed)
    EXCLUDES_LOCK(a->meta_lock);

#endif
