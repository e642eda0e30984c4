/* SPDX-License-Identifier: MIT */
/*
 * Entries of the snapshot table with too much or too little extra data: the table is written anew.
 *
 * It needs clusters, so it comes last, once the counts are right; then it is what a change of a
 * snapshot is: the new table and its counts are on disk before one write of the header names it,
 * and the old one is free after that.
 */
#include "flush.h"
#include "repair.h"
#include "snapshot-change.h"

#include <errno.h>

/* What version 3 wants each entry to have: the sizes of the machine's state and of the disk. */
#define LEAST_EXTRA 16

static bool is_short(const Qcow2 *q, const Snapshot *s)
{
    return q->hdr.version >= 3 && s->extra_len < LEAST_EXTRA;
}

int qcow2_repair_tell_snapshots(Check *c, int64_t *found)
{
    Qcow2 *q = c->q;
    bool fixes = c->fix & BLK_FIX_ERRORS;

    *found = 0;
    for (uint32_t i = 0; i < q->hdr.nb_snapshots; i++) {
        const Snapshot *s = &q->snapshots[i];

        if (s->extra_cut && !fixes) {
            qcow2_check_report(
                c,
                "ERROR failed to read the snapshot table: Too much extra metadata in "
                "snapshot table entry %u\n"
                "You can force-remove this extra metadata with check -r all",
                i);
            return -EFBIG;
        }
        if (s->extra_cut) {
            qcow2_check_report(
                c, "Discarding too much extra metadata in snapshot table entry %u (%u > %d)", i,
                s->extra_len + s->extra_cut, SNAPSHOT_MAX_EXTRA);
            ++*found;
        } else if (is_short(q, s)) {
            qcow2_check_report(c, "%s snapshot table entry %u is incomplete",
                               fixes ? "Repairing" : "ERROR", i);
            ++*found;
        }
    }
    return 0;
}

int coroutine_fn qcow2_repair_co_snapshots(Check *c)
{
    Qcow2 *q = c->q;
    uint32_t n = q->hdr.nb_snapshots;
    g_autofree Snapshot *list = g_try_new(Snapshot, n);
    int ret = list ? qcow2_flush_co_all(q) : -ENOMEM;

    for (uint32_t i = 0; i < n && ret == 0; i++) {
        list[i] = q->snapshots[i];
        list[i].extra_cut = 0;
        if (is_short(q, &list[i])) {
            list[i].extra_len = LEAST_EXTRA;
        }
    }
    ret = ret < 0 ? ret : qcow2_snapshot_change_co_install(q, list, n);
    if (ret < 0) {
        return ret;
    }
    g_steal_pointer(&list); /* is the image's */
    return qcow2_flush_co_all(q);
}
