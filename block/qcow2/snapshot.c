/* SPDX-License-Identifier: MIT */
/* The table of internal snapshots, read and validated at open. */
#include "snapshot.h"
#include "table.h"

#include "util/bytes.h"

#include <errno.h>
#include <string.h>

void qcow2_snapshot_clear(Snapshot *s)
{
    g_free(s->id);
    g_free(s->name);
    g_free(s->extra_rest);
}

void qcow2_snapshot_free_all(Qcow2 *q)
{
    for (uint32_t i = 0; q->snapshots && i < q->hdr.nb_snapshots; i++) {
        qcow2_snapshot_clear(&q->snapshots[i]);
    }
    g_clear_pointer(&q->snapshots, g_free);
}

/* Variable part: extra data, id, name. */
static int coroutine_fn co_read_rest(Qcow2 *q, Snapshot *s, uint64_t at, uint32_t extra,
                                     uint16_t id, uint16_t name, GError **errp)
{
    size_t names = (size_t)id + name, len = extra + names;
    g_autofree uint8_t *buf = g_try_malloc(MAX(len, 1));
    int ret;

    if (!buf) {
        return error_set_errno(errp, ENOMEM, "Failed to read snapshot table");
    }
    ret = len ? bdrv_co_pread(q->file, (int64_t)at, (int64_t)len, buf, 0) : 0;
    if (ret == 0 && s->extra_cut && names) {
        ret = bdrv_co_pread(q->file, (int64_t)(at + extra + s->extra_cut), (int64_t)names,
                            buf + extra, 0);
    }
    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to read snapshot table");
    }
    s->extra_len = extra;
    if (extra >= 8) {
        s->vm_state_size = ldbe64(buf);
    }
    s->disk_size = extra >= 16 ? ldbe64(buf + 8) : q->hdr.size;
    s->icount = extra >= 24 ? ldbe64(buf + 16) : UINT64_MAX;
    if (extra > SNAPSHOT_KNOWN_EXTRA) {
        s->extra_rest = g_memdup2(buf + SNAPSHOT_KNOWN_EXTRA, extra - SNAPSHOT_KNOWN_EXTRA);
    }
    s->id = g_strndup((char *)buf + extra, id);
    s->name = g_strndup((char *)buf + extra + id, name);
    return 0;
}

/* Number @i. */
static int coroutine_fn co_read_one(Qcow2 *q, Snapshot *s, uint32_t i, uint64_t *at, GError **errp)
{
    uint8_t b[SNAPSHOT_FIXED_SIZE];
    uint32_t extra;
    uint16_t id, name;
    int ret = bdrv_co_pread(q->file, (int64_t)*at, sizeof(b), b, 0);

    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to read snapshot table");
    }
    s->l1_offset = ldbe64(b);
    s->l1_size = ldbe32(b + 8);
    id = ldbe16(b + 12);
    name = ldbe16(b + 14);
    s->date_sec = ldbe32(b + 16);
    s->date_nsec = ldbe32(b + 20);
    s->vm_clock_nsec = ldbe64(b + 24);
    s->vm_state_size = ldbe32(b + 32);
    extra = ldbe32(b + 36);
    if (extra > SNAPSHOT_MAX_EXTRA && !(q->bs->open_flags & BLK_O_CHECK)) {
        return error_set(errp, EINVAL, "Too much extra metadata in snapshot table entry %u", i);
    }
    if (extra > SNAPSHOT_MAX_EXTRA) { /* left to check */
        s->extra_cut = extra - SNAPSHOT_KNOWN_EXTRA;
    }
    ret = co_read_rest(q, s, *at + SNAPSHOT_FIXED_SIZE, extra - s->extra_cut, id, name, errp);
    *at += ALIGN_UP((uint64_t)SNAPSHOT_FIXED_SIZE + extra + id + name, (uint64_t)8);
    return ret;
}

/* Where its L1 table lies; a bad one is left to check, and never followed. Tables do not overlap,
 * so all of them are no longer than the file: *@left bounds the work that 65536 entries of the same
 * large table would make. */
static void register_l1(Qcow2 *q, const Snapshot *s, uint64_t file_length, uint64_t *left)
{
    uint64_t bytes = s->l1_size * UINT64_C(8);

    if (bytes && qcow2_snapshot_l1_sound(q, s, file_length) && bytes <= *left) {
        qcow2_metadata_add(q->metadata, s->l1_offset, bytes, "inactive L1 table");
        *left -= bytes;
    }
}

bool qcow2_snapshot_l1_sound(const Qcow2 *q, const Snapshot *s, uint64_t file_length)
{
    uint64_t bytes = s->l1_size * UINT64_C(8);

    return bytes <= QCOW2_MAX_L1_BYTES && geo_in_cluster(&q->geo, s->l1_offset) == 0 &&
           (!bytes || (s->l1_offset <= file_length && bytes <= file_length - s->l1_offset));
}

int coroutine_fn qcow2_snapshot_co_load(Qcow2 *q, GError **errp)
{
    uint64_t at = q->hdr.snapshots_offset, left;
    int64_t length = bdrv_co_getlength(q->file->bs);
    int ret = 0;

    if (!q->hdr.nb_snapshots) {
        return 0;
    }
    if (length < 0) {
        return error_set_errno(errp, (int)length, "Failed to read snapshot table");
    }
    if (at > (uint64_t)length ||
        q->hdr.nb_snapshots * (uint64_t)SNAPSHOT_FIXED_SIZE > (uint64_t)length - at) {
        return error_set(errp, EIO,
                         "Failed to read snapshot table: it lies past the end of the file");
    }
    left = (uint64_t)length;
    q->snapshots = g_try_new0(Snapshot, q->hdr.nb_snapshots);
    if (!q->snapshots) {
        return error_set_errno(errp, ENOMEM, "Failed to read snapshot table");
    }
    for (uint32_t i = 0; i < q->hdr.nb_snapshots && ret == 0; i++) {
        ret = co_read_one(q, &q->snapshots[i], i, &at, errp);
        if (ret == 0 && at - q->hdr.snapshots_offset > (uint64_t)SNAPSHOT_MAX_TABLE) {
            ret = error_set(errp, EFBIG, "Snapshot table is too big");
        }
        if (ret == 0) {
            register_l1(q, &q->snapshots[i], (uint64_t)length, &left);
        }
    }
    if (ret == 0) {
        qcow2_metadata_add(q->metadata, q->hdr.snapshots_offset, at - q->hdr.snapshots_offset,
                           "snapshot table");
    }
    return ret;
}
