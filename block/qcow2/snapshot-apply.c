/* SPDX-License-Identifier: MIT */
/*
 * The disk becomes what an internal snapshot holds.
 *
 * The active L1 table is a new one, a copy of the snapshot's: what it names is counted, it is
 * written and synced; then one write of the header names it, with its length and the disk's size;
 * then what the old one named is counted once less. So the disk is the old one or the new one,
 * whole, at every instant (snapshot-change.h has the rest of the order).
 *
 * Requests are held back for the flush and the header's write only. What they wrote before is gone,
 * what they write afterwards goes to the new disk.
 */
#include "snapshot-apply.h"

#include "change.h"
#include "flush.h"
#include "header-layout.h"
#include "snapshot-change.h"

#include <errno.h>

typedef struct NewActive {
    uint64_t *l1; /* offsets */
    uint64_t entries, offset;
    uint64_t size; /* of the disk */
} NewActive;

/* The L2 tables of the active L1 table are known as metadata, or no longer. */
static void change_metadata(Qcow2 *q, const uint64_t *l1, uint64_t n, bool add)
{
    for (uint64_t i = 0; i < n; i++) {
        if (l1[i] && add) {
            qcow2_metadata_add(q->metadata, l1[i], q->geo.cluster_size, "active L2 table");
        } else if (l1[i]) {
            qcow2_metadata_remove(q->metadata, l1[i], q->geo.cluster_size);
        }
    }
}

/* In memory, as the header on disk says. */
static void adopt(Qcow2 *q, const NewActive *a, _Atomic uint64_t *table)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    uint64_t old = q->hdr.l1_offset, old_bytes = q->hdr.l1_size * UINT64_C(8);

    g_assert(!q->l1_dirty && a->entries >= q->l1_size);
    qcow2_pin_retire(q->pin, (void *)q->l1);
    atomic_store(&q->l1, table); /* the table before its size */
    atomic_store(&q->l1_size, (uint32_t)a->entries);
    q->hdr.l1_size = (uint32_t)a->entries;
    q->hdr.l1_offset = a->offset;
    q->hdr.size = a->size;
    q->opened_empty = false;
    if (old_bytes) {
        qcow2_metadata_remove(q->metadata, old, old_bytes);
        qcow2_quarantine_add(q->quarantine, old, ALIGN_UP(old_bytes, q->geo.cluster_size),
                             q->discard_snapshot);
    }
    if (a->entries) {
        qcow2_metadata_add(q->metadata, a->offset, a->entries * 8, "active L1 table");
    }
    change_metadata(q, a->l1, a->entries, true);
}

static int coroutine_fn co_switch(Qcow2 *q, const NewActive *a)
{
    _Atomic uint64_t *table = g_try_malloc(MAX(a->entries * 8, 8));
    Qcow2Header h;
    int ret = table ? 0 : -ENOMEM;

    for (uint64_t i = 0; table && i < a->entries; i++) {
        atomic_init(&table[i], a->l1[i]);
    }
    co_mutex_lock(&q->alloc.meta_lock);
    h = q->hdr;
    h.size = a->size;
    h.l1_size = (uint32_t)a->entries;
    h.l1_offset = a->offset;
    ret = ret < 0
              ? ret
              : qcow2_flush_co_header_fields(q, &h, HEADER_AT(size), HEADER_AT(reftable_offset));
    if (ret == 0) {
        adopt(q, a, table);
    } else {
        g_free((void *)table);
    }
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

/* At one instant. *@old: what the active table was until then. */
static int coroutine_fn co_switch_held(Qcow2 *q, const NewActive *a, uint64_t **old)
{
    int ret = qcow2_flush_co_all(q); /* nothing is dirty, and nothing in quarantine */

    if (ret < 0) {
        return ret;
    }
    *old = qcow2_snapshot_change_copy_l1(q);
    ret = *old ? co_switch(q, a) : -ENOMEM;
    if (ret == 0) {
        qcow2_show_length(q, q->hdr.size);
        atomic_store(&q->preallocated, 0);
    }
    return ret;
}

/* What the snapshot's tables refer to is counted; the new L1 table gets its place and the
 * header. */
static int coroutine_fn co_activate(Qcow2 *q, NewActive *a, const BlockHold *hold, uint64_t **old)
{
    int ret = qcow2_snapshot_change_co_add(q, a->l1, a->entries);

    if (ret < 0) {
        return ret;
    }
    ret = qcow2_snapshot_change_co_write_l1(q, a->l1, a->entries, &a->offset);
    ret = ret < 0 ? ret : qcow2_flush_co_metadata(q, true);
    ret = ret < 0 ? ret : qcow2_health_co_sync(&q->health, q->file->bs);
    if (ret == 0) {
        hold->co_begin(hold->opaque);
        ret = co_switch_held(q, a, old);
        hold->end(hold->opaque);
    }
    if (ret < 0) {
        qcow2_snapshot_change_co_drop(q, a->offset, a->entries * 8);
        qcow2_snapshot_change_co_undo(q, a->l1, a->entries);
    }
    return ret;
}

static int coroutine_fn co_apply(Qcow2 *q, NewActive *a, const BlockHold *hold)
{
    uint64_t n = q->l1_size;
    g_autofree uint64_t *old = NULL;
    int ret = co_activate(q, a, hold, &old);

    if (ret == 0) {
        change_metadata(q, old, n, false);
        (void)qcow2_snapshot_change_co_remove(q, old, n); /* what fails leaks */
    }
    return ret;
}

static int coroutine_fn co_prepare(Qcow2 *q, const char *id_or_name, NewActive *a, GError **errp)
{
    int64_t at = qcow2_snapshot_find_either(q, id_or_name);
    const Snapshot *s;

    if (q->hdr.has_bitmaps) {
        return error_set(errp, EBUSY, "Device has active dirty bitmaps");
    }
    if (q->geo.external_data || at < 0) {
        return error_set_errno(errp, at < 0 && !q->geo.external_data ? -ENOENT : -ENOTSUP,
                               "Failed to load snapshot");
    }
    s = &q->snapshots[at];
    if (q->geo.version < 3 && s->disk_size != (uint64_t)atomic_load(&q->bs->total_bytes)) {
        return error_set(errp, ENOTSUP,
                         "Failed to load snapshot: Can't resize a v2 image which has snapshots");
    }
    a->size = s->disk_size;
    a->entries = MAX(MAX(q->l1_size, s->l1_size), geo_l1_entries(&q->geo, a->size));
    if (a->size > INT64_MAX || a->entries * 8 > QCOW2_MAX_L1_BYTES) {
        return error_set_errno(errp, -EFBIG, "Failed to load snapshot");
    }
    return qcow2_snapshot_co_read_l1(q, s, a->entries, &a->l1, errp);
}

int coroutine_fn qcow2_snapshot_apply_co_run(BlockDriverState *bs, const char *id_or_name,
                                             const BlockHold *hold, GError **errp)
{
    Qcow2 *q = bs->opaque;
    NewActive a = { 0 };
    int ret = co_prepare(q, id_or_name, &a, errp);

    if (ret < 0) {
        return ret;
    }
    ret = qcow2_snapshot_change_co_begin(q, QCOW2_CHANGE_DISK | QCOW2_CHANGE_IMAGE);
    if (ret == 0) {
        ret = co_apply(q, &a, hold);
        ret = qcow2_snapshot_change_co_end(q, ret);
    }
    g_free(a.l1);
    return ret < 0 ? error_set_errno(errp, ret, "Failed to load snapshot") : 0;
}
