/* SPDX-License-Identifier: MIT */
/* The table of internal snapshots: written anew for each change, and looked up. */
#include "alloc.h"
#include "refcount.h"
#include "snapshot.h"
#include "table.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>

uint64_t qcow2_snapshot_table_bytes(const Snapshot *list, uint32_t n)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < n; i++) {
        const Snapshot *s = &list[i];

        bytes += ALIGN_UP((uint64_t)SNAPSHOT_FIXED_SIZE + s->extra_len + s->extra_cut +
                              strlen(s->id) + strlen(s->name),
                          UINT64_C(8));
    }
    return bytes;
}

static void put_extra(uint8_t *b, const Snapshot *s)
{
    uint8_t known[SNAPSHOT_KNOWN_EXTRA];

    stbe64(known, s->vm_state_size);
    stbe64(known + 8, s->disk_size);
    stbe64(known + 16, s->icount);
    memcpy(b, known, MIN(sizeof(known), (size_t)s->extra_len));
    if (s->extra_rest) {
        memcpy(b + sizeof(known), s->extra_rest, s->extra_len - sizeof(known));
    }
}

/* @b is zero before. */
static uint64_t put_one(uint8_t *b, const Snapshot *s)
{
    size_t id = strlen(s->id), name = strlen(s->name);

    g_assert(id <= UINT16_MAX && name <= UINT16_MAX && !s->extra_cut);
    stbe64(b, s->l1_offset);
    stbe32(b + 8, s->l1_size);
    stbe16(b + 12, (uint16_t)id);
    stbe16(b + 14, (uint16_t)name);
    stbe32(b + 16, s->date_sec);
    stbe32(b + 20, s->date_nsec);
    stbe64(b + 24, s->vm_clock_nsec);
    stbe32(b + 32, s->vm_state_size > UINT32_MAX ? 0 : (uint32_t)s->vm_state_size);
    stbe32(b + 36, s->extra_len);
    put_extra(b + SNAPSHOT_FIXED_SIZE, s);
    memcpy(b + SNAPSHOT_FIXED_SIZE + s->extra_len, s->id, id);
    memcpy(b + SNAPSHOT_FIXED_SIZE + s->extra_len + id, s->name, name);
    return qcow2_snapshot_table_bytes(s, 1);
}

static int coroutine_fn co_put(Qcow2 *q, uint64_t offset, const uint8_t *buf, uint64_t bytes)
{
    return bdrv_co_pwrite(q->file, (int64_t)offset, (int64_t)bytes, buf, 0);
}

int coroutine_fn qcow2_snapshot_co_write_table(Qcow2 *q, const Snapshot *list, uint32_t n,
                                               uint64_t *offset)
{
    uint64_t bytes = qcow2_snapshot_table_bytes(list, n), at = 0, place = 0;
    uint64_t whole = ALIGN_UP(bytes, q->geo.cluster_size);
    g_autofree uint8_t *buf = NULL;
    int ret;

    *offset = 0;
    if (n == 0) {
        return 0;
    }
    if (bytes > (uint64_t)SNAPSHOT_MAX_TABLE) {
        return -EFBIG;
    }
    buf = g_try_malloc0(whole);
    if (!buf) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        at += put_one(buf + at, &list[i]);
    }
    g_assert(at == bytes);
    co_mutex_lock(&q->alloc.meta_lock);
    ret = qcow2_alloc_co_clusters(&q->alloc, whole >> q->geo.cluster_bits, &place);
    co_mutex_unlock(&q->alloc.meta_lock);
    if (ret < 0) {
        return ret;
    }
    ret = co_put(q, place, buf, whole);
    if (ret < 0) {
        co_mutex_lock(&q->alloc.meta_lock);
        qcow2_refcount_co_free_unused(&q->alloc, place, whole);
        co_mutex_unlock(&q->alloc.meta_lock);
        return ret;
    }
    *offset = place;
    return 0;
}

/* ---- Look-up ---- */

int64_t qcow2_snapshot_find(const Qcow2 *q, const char *id, const char *name)
{
    for (uint32_t i = 0; i < q->hdr.nb_snapshots; i++) {
        const Snapshot *s = &q->snapshots[i];

        if ((!id || !strcmp(s->id, id)) && (!name || !strcmp(s->name, name))) {
            return i;
        }
    }
    return -1;
}

int64_t qcow2_snapshot_find_either(const Qcow2 *q, const char *id_or_name)
{
    int64_t i = qcow2_snapshot_find(q, id_or_name, NULL);

    return i >= 0 ? i : qcow2_snapshot_find(q, NULL, id_or_name);
}

int coroutine_fn qcow2_snapshot_co_read_offsets(Qcow2 *q, const Snapshot *s, uint64_t entries,
                                                uint64_t **ret)
{
    g_autofree uint64_t *l1 = g_try_new0(uint64_t, MAX(MAX(entries, s->l1_size), 1));
    int r = !l1          ? -ENOMEM
            : s->l1_size ? qcow2_table_co_read(q->file, s->l1_offset, s->l1_size * UINT64_C(8), l1)
                         : 0;

    for (uint32_t i = 0; i < s->l1_size && r == 0; i++) {
        l1[i] = ldbe64(&l1[i]) & QCOW2_OFFSET_MASK;
    }
    *ret = r == 0 ? g_steal_pointer(&l1) : NULL;
    return r;
}

int coroutine_fn qcow2_snapshot_co_read_l1(Qcow2 *q, const Snapshot *s, uint64_t entries,
                                           uint64_t **ret, GError **errp)
{
    int64_t length = bdrv_co_getlength(q->file->bs);
    g_autofree uint64_t *l1 = NULL;
    int r;

    if (length < 0) {
        return error_set_errno(errp, (int)length, "Failed to read the snapshot's L1 table");
    }
    if (!qcow2_snapshot_l1_sound(q, s, (uint64_t)length)) {
        return error_set(errp, EIO, "Snapshot L1 table offset invalid");
    }
    r = qcow2_snapshot_co_read_offsets(q, s, entries, &l1);
    if (r < 0) {
        return error_set_errno(errp, r, "Failed to read the snapshot's L1 table");
    }
    for (uint32_t i = 0; i < s->l1_size; i++) {
        if (geo_in_cluster(&q->geo, l1[i])) {
            return error_set(errp, EIO, "Snapshot L1 table entry is not aligned");
        }
    }
    *ret = g_steal_pointer(&l1);
    return 0;
}
