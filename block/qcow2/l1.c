/* SPDX-License-Identifier: MIT */
/* The L1 table: see l1.h. */
#include "l1.h"

#include "table.h"
#include "util/bytes.h"

#include <errno.h>

int coroutine_fn qcow2_l1_co_load(Qcow2 *q, GError **errp)
{
    size_t bytes = (size_t)q->hdr.l1_size * 8;
    uint64_t *raw = g_try_malloc(MAX(bytes, 8)); /* on-disk order, then swapped where it is */
    int ret = 0;

    q->l1_size = q->hdr.l1_size;
    q->l1 = (void *)raw;
    if (!raw) {
        return error_set_errno(errp, ENOMEM, "Could not allocate L1 table");
    }
    if (bytes) {
        ret = qcow2_table_co_read(q->file, q->hdr.l1_offset, bytes, raw);
    }
    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not read L1 table");
    }
    qcow2_metadata_add(q->metadata, 0, q->geo.cluster_size, "qcow2_header");
    if (q->hdr.crypto_length) {
        qcow2_metadata_add(q->metadata, q->hdr.crypto_offset, q->hdr.crypto_length,
                           "encryption header");
    }
    if (bytes) {
        qcow2_metadata_add(q->metadata, q->hdr.l1_offset, bytes, "active L1 table");
    }
    q->opened_empty = true;
    for (uint32_t i = 0; i < q->l1_size; i++) {
        uint64_t e = ldbe64(&raw[i]), off = e & QCOW2_OFFSET_MASK;

        atomic_init(&q->l1[i], e);
        q->opened_empty = q->opened_empty && off == 0;
        if (off && geo_in_cluster(&q->geo, off) == 0) {
            qcow2_metadata_add(q->metadata, off, q->geo.cluster_size, "active L2 table");
        }
    }
    return 0;
}

static void mark_dirty(Qcow2 *q, uint32_t first, uint32_t last) REQUIRES_LOCK(q->alloc.meta_lock)
{
    q->l1_dirty_first = q->l1_dirty ? MIN(q->l1_dirty_first, first) : first;
    q->l1_dirty_last = q->l1_dirty ? MAX(q->l1_dirty_last, last) : last;
    q->l1_dirty = true;
    g_assert(first <= last && q->l1_dirty_last < q->l1_size);
}

void qcow2_l1_set(Qcow2 *q, uint32_t index, uint64_t entry)
{
    g_assert(index < q->l1_size);
    atomic_store_explicit(&q->l1[index], entry, memory_order_release);
    mark_dirty(q, index, index);
}

int qcow2_l1_seal(Qcow2 *q, L1Seal *s)
{
    if (!q->l1_dirty) {
        return 0;
    }
    s->first = q->l1_dirty_first;
    s->n = q->l1_dirty_last - q->l1_dirty_first + 1;
    s->data = g_try_new(uint64_t, s->n);
    if (!s->data) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        stbe64(&s->data[i], atomic_load(&q->l1[s->first + i]));
    }
    q->l1_dirty = false;
    return 0;
}

void qcow2_l1_unseal(Qcow2 *q, const L1Seal *s)
{
    if (s->n) {
        mark_dirty(q, s->first, s->first + s->n - 1);
    }
}

int coroutine_fn qcow2_l1_co_write(Qcow2 *q, const L1Seal *s)
{
    g_assert(s->n > 0 && s->first + s->n <= q->l1_size);
    bdrv_co_debug_event(q->file, BLKDBG_L1_UPDATE);
    return bdrv_co_pwrite(q->file, (int64_t)(q->hdr.l1_offset + s->first * UINT64_C(8)),
                          s->n * INT64_C(8), s->data, 0);
}
