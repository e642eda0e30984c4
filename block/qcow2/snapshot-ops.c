/* SPDX-License-Identifier: MIT */
/*
 * Internal snapshots: created, deleted, read. The orders are snapshot-change.h's.
 *
 * A new one is a copy of the active L1 table as it was at one instant, and what that names is
 * counted once more, while requests run (sharing.h). Deleted, its entry in the table of snapshots
 * goes first, then what it named is counted once less.
 */
#include "callbacks.h"
#include "change.h"
#include "discard.h"
#include "flush.h"
#include "inactive-l2.h"
#include "l1.h"
#include "rules.h"
#include "sharing.h"
#include "snapshot-apply.h"
#include "snapshot-change.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- Create ---- */

/* One more than the largest that there is. */
static char *new_id(const Qcow2 *q)
{
    unsigned long max = 0;

    for (uint32_t i = 0; i < q->hdr.nb_snapshots; i++) {
        max = MAX(max, strtoul(q->snapshots[i].id, NULL, 10));
    }
    return g_strdup_printf("%lu", max + 1);
}

static Snapshot describe(const Qcow2 *q, const BlockSnapshotInfo *info)
{
    return (Snapshot){ .id = info->id && *info->id ? g_strdup(info->id) : new_id(q),
                       .name = g_strdup(info->name),
                       .l1_size = q->l1_size,
                       .vm_state_size = info->vm_state_size,
                       .disk_size = (uint64_t)atomic_load(&q->bs->total_bytes),
                       .date_sec = info->date_sec,
                       .date_nsec = info->date_nsec,
                       .vm_clock_nsec = info->vm_clock_nsec,
                       .icount = info->icount,
                       .extra_len = SNAPSHOT_KNOWN_EXTRA };
}

/* The list with @s at its end; its elements' texts are theirs. */
static Snapshot *list_with(const Qcow2 *q, const Snapshot *s)
{
    uint32_t n = q->hdr.nb_snapshots;
    Snapshot *list = g_try_new(Snapshot, n + 1);

    if (list) {
        if (n) {
            memcpy(list, q->snapshots, n * sizeof(*list));
        }
        list[n] = *s;
    }
    return list;
}

/* The counts have risen. */
static int coroutine_fn co_register(Qcow2 *q, Snapshot *s, const uint64_t *l1)
{
    Snapshot *list = NULL;
    int ret = qcow2_snapshot_change_co_write_l1(q, l1, s->l1_size, &s->l1_offset);

    if (ret < 0) {
        return ret;
    }
    list = list_with(q, s);
    ret = list ? qcow2_snapshot_change_co_install(q, list, q->hdr.nb_snapshots + 1) : -ENOMEM;
    if (ret < 0) {
        qcow2_snapshot_change_co_drop(q, s->l1_offset, s->l1_size * UINT64_C(8));
        g_free(list);
        return ret;
    }
    if (s->l1_size) {
        qcow2_metadata_add(q->metadata, s->l1_offset, s->l1_size * UINT64_C(8),
                           "inactive L1 table");
    }
    qcow2_inactive_l2_add(q, l1, s->l1_size);
    return 0;
}

/* The instant of which it is: *@l1 is what the active table is then, and @s says the rest. */
static int coroutine_fn co_freeze(Qcow2 *q, const BlockSnapshotInfo *info, const BlockHold *hold,
                                  Snapshot *s, uint64_t **l1)
{
    int ret;

    if (!RULE_BROKEN(HELD_AT_INSTANT)) {
        hold->co_begin(hold->opaque); /* INV-SHR-2 */
    }
    *s = describe(q, info);
    *l1 = qcow2_snapshot_change_copy_l1(q);
    ret = *l1 ? qcow2_sharing_begin(q, *l1, s->l1_size) : -ENOMEM;
    if (!RULE_BROKEN(HELD_AT_INSTANT)) {
        hold->end(hold->opaque);
    }
    return ret;
}

static int coroutine_fn co_take(Qcow2 *q, const BlockSnapshotInfo *info, const BlockHold *hold,
                                Snapshot *s)
{
    g_autofree uint64_t *l1 = NULL;
    int ret;

    qcow2_snapshot_change_co_look_ahead(q);
    ret = co_freeze(q, info, hold, s, &l1);

    if (ret < 0) {
        return ret;
    }
    ret = qcow2_snapshot_change_co_share(q, l1, s->l1_size);
    ret = ret < 0 ? ret : co_register(q, s, l1);
    if (ret < 0) {
        qcow2_snapshot_change_co_unshare(q, l1, s->l1_size);
    }
    return ret;
}

/* The snapshot has the machine's state; in the active table it would only be copied. A failure
 * leaves it there, which does no harm. */
static void coroutine_fn co_forget_state(Qcow2 *q, uint64_t bytes)
{
    uint64_t start = geo_state_start(&q->geo, q->hdr.size);
    uint64_t end = geo_l1_start(&q->geo, q->l1_size);

    if (bytes && start < end) {
        (void)qcow2_discard_co_forget(
            q, start, start + MIN(ALIGN_UP(bytes, q->geo.cluster_size), end - start));
    }
}

static int check_new(const Qcow2 *q, const BlockSnapshotInfo *info)
{
    if (q->geo.external_data) {
        return -ENOTSUP; /* data in the other file has no counts */
    }
    if (q->hdr.nb_snapshots >= QCOW2_MAX_SNAPSHOTS) {
        return -EFBIG;
    }
    if ((info->id && strlen(info->id) > UINT16_MAX) || strlen(info->name) > UINT16_MAX) {
        return -EINVAL;
    }
    return info->id && *info->id && qcow2_snapshot_find(q, info->id, NULL) >= 0 ? -EEXIST : 0;
}

static int coroutine_fn qcow2_co_snapshot_create(BlockDriverState *bs,
                                                 const BlockSnapshotInfo *info,
                                                 const BlockHold *hold, GError **errp)
{
    Qcow2 *q = bs->opaque;
    Snapshot s = { 0 };
    int ret = check_new(q, info);

    ret = ret < 0 ? ret : qcow2_snapshot_change_co_begin(q, QCOW2_CHANGE_IMAGE);
    if (ret < 0) {
        return error_set(errp, -ret, "%s", g_strerror(-ret));
    }
    ret = co_take(q, info, hold, &s);
    if (ret < 0) {
        qcow2_snapshot_clear(&s);
    } else {
        co_forget_state(q, s.vm_state_size);
    }
    ret = qcow2_snapshot_change_co_end(q, ret);
    return ret < 0 ? error_set(errp, -ret, "%s", g_strerror(-ret)) : 0;
}

/* ---- Delete ---- */

static int coroutine_fn co_unregister(Qcow2 *q, uint32_t at)
{
    uint32_t n = q->hdr.nb_snapshots - 1;
    Snapshot *list = g_try_new(Snapshot, MAX(n, 1));
    int ret;

    if (!list) {
        return -ENOMEM;
    }
    memcpy(list, q->snapshots, at * sizeof(*list));
    memcpy(list + at, q->snapshots + at + 1, (n - at) * sizeof(*list));
    ret = qcow2_snapshot_change_co_install(q, list, n);
    if (ret < 0) {
        g_free(list);
    }
    return ret;
}

static int coroutine_fn co_delete(Qcow2 *q, uint32_t at, const uint64_t *l1)
{
    Snapshot s = q->snapshots[at];
    bool early = RULE_BROKEN(GONE_BEFORE_COUNTS_FALL);
    int ret = early ? qcow2_snapshot_change_co_remove(q, l1, s.l1_size) : 0;

    ret = ret == 0 && early ? qcow2_flush_co_all(q) : ret;
    ret = ret < 0 ? ret : co_unregister(q, at);
    if (ret < 0) {
        return ret;
    }
    qcow2_inactive_l2_remove(q, l1, s.l1_size);
    if (!early) {
        (void)qcow2_snapshot_change_co_remove(q, l1, s.l1_size); /* what fails leaks */
    }
    if (s.l1_size) {
        qcow2_metadata_remove(q->metadata, s.l1_offset, s.l1_size * UINT64_C(8));
        qcow2_snapshot_change_co_drop(q, s.l1_offset, s.l1_size * UINT64_C(8));
    }
    qcow2_snapshot_clear(&s);
    return 0;
}

static int coroutine_fn qcow2_co_snapshot_delete(BlockDriverState *bs, const char *id,
                                                 const char *name, const BlockHold *hold,
                                                 GError **errp)
{
    Qcow2 *q = bs->opaque;
    int64_t at = qcow2_snapshot_find(q, id, name);
    g_autofree uint64_t *l1 = NULL;
    int ret;

    if (at < 0) {
        return error_set(errp, ENOENT, "Can't find the snapshot");
    }
    ret = qcow2_snapshot_co_read_l1(q, &q->snapshots[at], 0, &l1, errp);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_snapshot_change_co_begin(q, QCOW2_CHANGE_IMAGE);
    if (ret == 0) {
        ret = co_delete(q, (uint32_t)at, l1);
        ret = qcow2_snapshot_change_co_end(q, ret);
    }
    return ret < 0 ? error_set_errno(errp, ret, "Failed to remove snapshot from snapshot list") : 0;
}

/* ---- Read ---- */

/* Nothing is read or written meanwhile; nothing is written afterwards. */
static int coroutine_fn qcow2_co_snapshot_load(BlockDriverState *bs, const char *id,
                                               const char *name, GError **errp)
{
    Qcow2 *q = bs->opaque;
    int64_t at = qcow2_snapshot_find(q, id, name);
    g_autofree uint64_t *l1 = NULL;
    const Snapshot *s;
    void *old;
    int ret;

    if (!bs->read_only) {
        return error_set(errp, EINVAL, "Device is not readonly");
    }
    if (at < 0) {
        return error_set(errp, ENOENT, "Can't find snapshot");
    }
    s = &q->snapshots[at];
    ret = qcow2_snapshot_co_read_l1(q, s, 0, &l1, errp);
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&q->alloc.meta_lock);
    old = (void *)q->l1;
    q->l1 = (void *)g_steal_pointer(&l1);
    q->l1_size = s->l1_size;
    q->hdr.size = s->disk_size;
    q->at_snapshot = true;
    q->opened_empty = false;
    qcow2_pin_retire(q->pin, old);
    co_mutex_unlock(&q->alloc.meta_lock);
    qcow2_show_length(q, s->disk_size);
    return 0;
}

const BlockSnapshotOps qcow2_snapshot_ops = {
    .co_create = qcow2_co_snapshot_create,
    .co_apply = qcow2_snapshot_apply_co_run,
    .co_delete = qcow2_co_snapshot_delete,
    .co_load = qcow2_co_snapshot_load,
};
