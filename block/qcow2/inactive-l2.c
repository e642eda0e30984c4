/* SPDX-License-Identifier: MIT */
/* Which clusters are L2 tables of snapshots: see inactive-l2.h. */
#include "inactive-l2.h"

#include "snapshot.h"

#include <errno.h>

/* Of L1 tables of snapshots, in all: entries that a file without data names cost memory, too. */
#define MAX_L1_TABLES ((uint64_t)(256 * MiB))

/* An entry that names nothing is no table's. */
static bool is_table(const Qcow2 *q, uint64_t offset)
{
    return offset && geo_in_cluster(&q->geo, offset) == 0;
}

void qcow2_inactive_l2_add(Qcow2 *q, const uint64_t *l1, uint64_t n)
{
    for (uint64_t i = 0; i < n && qcow2_metadata_wants_inactive_l2(q->metadata); i++) {
        if (is_table(q, l1[i])) {
            qcow2_metadata_add_inactive_l2(q->metadata, l1[i]);
        }
    }
}

void qcow2_inactive_l2_remove(Qcow2 *q, const uint64_t *l1, uint64_t n)
{
    for (uint64_t i = 0; i < n && qcow2_metadata_wants_inactive_l2(q->metadata); i++) {
        if (is_table(q, l1[i])) {
            qcow2_metadata_remove_inactive_l2(q->metadata, l1[i]);
        }
    }
}

static int coroutine_fn co_load_one(Qcow2 *q, const Snapshot *s, uint64_t file_length)
{
    g_autofree uint64_t *l1 = NULL;
    int ret = qcow2_snapshot_co_read_offsets(q, s, 0, &l1);

    for (uint32_t i = 0; i < s->l1_size && ret == 0; i++) {
        if (is_table(q, l1[i]) && l1[i] < file_length) {
            qcow2_metadata_add_inactive_l2(q->metadata, l1[i]);
        }
    }
    return ret;
}

int coroutine_fn qcow2_inactive_l2_co_load(Qcow2 *q, unsigned kinds, GError **errp)
{
    uint64_t left = MAX_L1_TABLES;
    int64_t length;
    int ret = 0;

    qcow2_metadata_clear_inactive_l2(q->metadata);
    if (!(kinds & METADATA_INACTIVE_L2) || !q->hdr.nb_snapshots) {
        return 0;
    }
    length = bdrv_co_getlength(q->file->bs);
    if (length < 0) {
        return error_set_errno(errp, (int)length, "Failed to read the snapshots' L1 tables");
    }
    for (uint32_t i = 0; i < q->hdr.nb_snapshots && ret == 0; i++) {
        const Snapshot *s = &q->snapshots[i];

        if (!s->l1_size || !qcow2_snapshot_l1_sound(q, s, (uint64_t)length)) {
            continue;
        }
        if (s->l1_size * UINT64_C(8) > left) {
            return error_set(errp, EFBIG,
                             "Snapshots' L1 tables are too large for overlap-check.inactive-l2");
        }
        left -= s->l1_size * UINT64_C(8);
        ret = co_load_one(q, s, (uint64_t)length);
    }
    return ret < 0 ? error_set_errno(errp, ret, "Failed to read the snapshots' L1 tables") : 0;
}

int coroutine_fn qcow2_inactive_l2_co_reload(Qcow2 *q)
{
    bool wanted = qcow2_metadata_wants_inactive_l2(q->metadata);

    return qcow2_inactive_l2_co_load(q, wanted ? METADATA_INACTIVE_L2 : 0, NULL);
}
