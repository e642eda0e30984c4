/* SPDX-License-Identifier: MIT */
/*
 * A larger L1 table, in the order of the disk: its clusters are counted, and that is flushed; the
 * table is written whole and synced (INV-W-3); the header names it, synced; the old one goes to
 * quarantine (INV-W-4).
 */
#include "alloc.h"
#include "flush.h"
#include "header-layout.h"
#include "l1.h"
#include "refcount.h"
#include "rules.h"
#include "util/bytes.h"

static int coroutine_fn write_l1(Qcow2 *q, uint64_t offset, uint32_t entries)
{
    uint64_t bytes = geo_clusters(&q->geo, (uint64_t)entries * 8) << q->geo.cluster_bits;
    g_autofree uint8_t *buf = g_try_malloc0(bytes);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < q->l1_size; i++) {
        stbe64(buf + (size_t)i * 8, atomic_load(&q->l1[i]));
    }
    bdrv_co_debug_event(q->file, BLKDBG_L1_GROW_WRITE_TABLE);
    ret = bdrv_co_pwrite(q->file, offset, bytes, buf, 0);
    return ret < 0 || RULE_BROKEN(L1_WRITTEN) ? ret : qcow2_health_co_sync(&q->health, q->file->bs);
}

/* Point the header to the new table; from here on it is the table. */
static int coroutine_fn activate_l1(Qcow2 *q, uint64_t offset, uint32_t entries,
                                    _Atomic uint64_t *table) REQUIRES_LOCK(q->alloc.meta_lock)
{
    uint64_t old = q->hdr.l1_offset, old_bytes = (uint64_t)q->hdr.l1_size * 8;
    void *old_table = (void *)q->l1;
    Qcow2Header h = q->hdr;
    int ret;

    g_assert(entries > q->l1_size && geo_in_cluster(&q->geo, offset) == 0);
    h.l1_size = entries;
    h.l1_offset = offset;
    bdrv_co_debug_event(q->file, BLKDBG_L1_GROW_ACTIVATE_TABLE);
    ret = qcow2_flush_co_header_fields(q, &h, HEADER_AT(l1_size), HEADER_AT(reftable_offset));
    if (ret < 0) {
        return ret;
    }
    atomic_store(&q->l1, table); /* INV-TR-1: the table before its size */
    atomic_store(&q->l1_size, entries);
    q->hdr.l1_size = entries;
    q->hdr.l1_offset = offset;
    qcow2_pin_retire(q->pin, old_table);
    if (old_bytes) {
        qcow2_metadata_remove(q->metadata, old, old_bytes);
        if (RULE_BROKEN(L1_OLD_KEPT)) {
            qcow2_refcount_co_free_unused(&q->alloc, old, old_bytes);
        } else {
            qcow2_quarantine_add(q->quarantine, old, ALIGN_UP(old_bytes, q->geo.cluster_size),
                                 q->alloc.discard_other);
        }
    }
    qcow2_metadata_add(q->metadata, offset, (uint64_t)entries * 8, "active L1 table");
    return 0;
}

/* Nothing dirty may be between the table on disk and q->l1: so no flush runs meanwhile. */
static int coroutine_fn switch_l1(Qcow2 *q, uint64_t offset, uint32_t entries)
    REQUIRES_LOCK(q->flush_lock, q->alloc.meta_lock)
{
    uint64_t bytes = (uint64_t)entries * 8;
    _Atomic uint64_t *table;
    int ret;

    if (q->l1_dirty) {
        return -EAGAIN;
    }
    table = g_try_malloc0(bytes);
    if (!table) {
        return -ENOMEM;
    }
    ret = write_l1(q, offset, entries);
    if (ret == 0) {
        for (uint32_t i = 0; i < q->l1_size; i++) {
            atomic_init(&table[i], atomic_load(&q->l1[i]));
        }
        ret = activate_l1(q, offset, entries, table);
    }
    if (ret < 0) {
        g_free((void *)table);
    }
    return ret;
}

int coroutine_fn qcow2_l1_co_grow(Qcow2 *q, uint64_t entries)
{
    uint64_t clusters = geo_clusters(&q->geo, entries * 8), offset;
    int ret;

    if (entries <= q->l1_size) {
        return 0;
    }
    if (entries * 8 > QCOW2_MAX_L1_BYTES) {
        return -EFBIG;
    }
    bdrv_co_debug_event(q->file, BLKDBG_L1_GROW_ALLOC_TABLE);
    co_mutex_lock(&q->alloc.meta_lock);
    ret = qcow2_alloc_co_clusters(&q->alloc, clusters, &offset);
    co_mutex_unlock(&q->alloc.meta_lock);
    if (ret < 0) {
        return ret;
    }
    do {
        /* INV-W-1 for the table's clusters, and what L1 refers to (INV-W-3). */
        ret = RULE_BROKEN(L1_COUNTED) && !q->l1_dirty ? 0 : qcow2_flush_co_metadata(q, true);
        if (ret == 0) {
            co_mutex_lock(&q->flush_lock);
            co_mutex_lock(&q->alloc.meta_lock);
            ret = switch_l1(q, offset, entries);
            co_mutex_unlock(&q->alloc.meta_lock);
            co_mutex_unlock(&q->flush_lock);
        }
    } while (ret == -EAGAIN); /* a write of others made a new L2 table in between */
    if (ret < 0) {
        co_mutex_lock(&q->alloc.meta_lock);
        /* The header may name it where that is in doubt: until a flush has ended well. */
        qcow2_quarantine_add(q->quarantine, offset, clusters << q->geo.cluster_bits,
                             q->alloc.discard_other);
        co_mutex_unlock(&q->alloc.meta_lock);
    }
    return ret;
}
