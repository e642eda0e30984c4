/* SPDX-License-Identifier: MIT */
/* The refcount table's way to disk: see reftable.h. */
#include "reftable.h"

#include "header-layout.h"
#include "util/bytes.h"

void qcow2_reftable_mark_dirty(Allocator *a, uint64_t first, uint64_t last)
{
    g_assert(first <= last && last < a->reftable_entries);
    if (!a->reftable_dirty) {
        a->reftable_dirty_first = first;
        a->reftable_dirty_last = last;
    } else {
        a->reftable_dirty_first = MIN(a->reftable_dirty_first, first);
        a->reftable_dirty_last = MAX(a->reftable_dirty_last, last);
    }
    a->reftable_dirty = true;
}

void qcow2_reftable_free_later(Allocator *a, uint64_t offset, uint64_t bytes)
{
    g_assert(geo_in_cluster(a->geo, offset) == 0 && bytes > 0);
    qcow2_metadata_remove(a->metadata, offset, bytes);
    qcow2_quarantine_add(a->quarantine, offset, bytes, a->discard_other);
}

int qcow2_reftable_seal(Allocator *a, ReftableSeal *s)
{
    *s = (ReftableSeal){ 0 };
    if (!a->reftable_dirty && !a->reftable_new_offset) {
        return 0;
    }
    s->moved = a->reftable_new_offset != 0;
    s->table_offset = s->moved ? a->reftable_new_offset : a->hdr->reftable_offset;
    s->clusters = geo_clusters(a->geo, a->reftable_entries * 8);
    s->first = s->moved ? 0 : a->reftable_dirty_first;
    s->n = (s->moved ? a->reftable_entries : a->reftable_dirty_last + 1) - s->first;
    g_assert(s->n > 0 && s->first + s->n <= a->reftable_entries);
    s->data = g_try_malloc(s->n * 8);
    if (!s->data) {
        *s = (ReftableSeal){ 0 };
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < s->n; i++) {
        stbe64(s->data + i * 8, a->reftable[s->first + i]);
    }
    a->reftable_dirty = false;
    if (s->moved) {
        a->reftable_sealed_offset = s->table_offset;
    }
    return 0;
}

int coroutine_fn qcow2_reftable_co_write(Allocator *a, const ReftableSeal *s)
{
    if (!s->n) {
        return 0;
    }
    bdrv_co_debug_event(a->file, s->moved ? BLKDBG_REFBLOCK_ALLOC_WRITE_TABLE
                                          : BLKDBG_REFBLOCK_ALLOC_HOOKUP);
    bdrv_co_debug_event(a->file, BLKDBG_REFTABLE_UPDATE);
    return bdrv_co_pwrite(a->file, s->table_offset + s->first * 8, s->n * 8, s->data, 0);
}

/* The header on disk points to @s's table; let go of the old one. */
static void switched(Allocator *a, const ReftableSeal *s) REQUIRES_LOCK(a->meta_lock)
{
    uint64_t old = a->hdr->reftable_offset;
    uint64_t old_bytes = (uint64_t)a->hdr->reftable_clusters << a->geo->cluster_bits;

    g_assert(s->moved && geo_in_cluster(a->geo, s->table_offset) == 0);
    g_assert(a->reftable_sealed_offset == s->table_offset);
    a->hdr->reftable_offset = s->table_offset;
    a->hdr->reftable_clusters = s->clusters;
    if (a->reftable_new_offset == s->table_offset) {
        a->reftable_new_offset = 0;
    }
    a->reftable_sealed_offset = 0;
    if (old_bytes) {
        qcow2_reftable_free_later(a, old, old_bytes);
    }
}

/* Under meta_lock, so that nobody else writes these fields meanwhile as they were. */
static int coroutine_fn co_switch(Allocator *a, const ReftableSeal *s) REQUIRES_LOCK(a->meta_lock)
{
    Qcow2Header h = *a->hdr;
    int ret;

    h.reftable_offset = s->table_offset;
    h.reftable_clusters = s->clusters;
    ret = qcow2_header_co_write_fields(a->header, &h, HEADER_AT(reftable_offset),
                                       HEADER_AT(nb_snapshots));
    if (ret == 0) {
        switched(a, s);
    }
    return ret;
}

int coroutine_fn qcow2_reftable_co_switch(Allocator *a, const ReftableSeal *s)
{
    int ret;

    if (!s->moved) {
        return 0;
    }
    bdrv_co_debug_event(a->file, BLKDBG_REFBLOCK_ALLOC_SWITCH_TABLE);
    co_mutex_lock(&a->meta_lock);
    ret = co_switch(a, s);
    co_mutex_unlock(&a->meta_lock);
    return ret;
}

void coroutine_fn qcow2_reftable_co_seal_clear(Allocator *a, ReftableSeal *s, bool failed)
{
    if (s->n && failed) {
        co_mutex_lock(&a->meta_lock);
        qcow2_reftable_mark_dirty(a, s->first, s->first + s->n - 1);
        a->reftable_sealed_offset = 0;
        if (s->moved && a->reftable_new_offset != s->table_offset &&
            a->hdr->reftable_offset != s->table_offset) {
            /* Superseded meanwhile.  The header on disk may name it all the same: quarantine keeps
             * it until a flush has switched to its successor. */
            qcow2_reftable_free_later(a, s->table_offset,
                                      (uint64_t)s->clusters << a->geo->cluster_bits);
        }
        co_mutex_unlock(&a->meta_lock);
    }
    g_free(s->data);
    *s = (ReftableSeal){ 0 };
}
