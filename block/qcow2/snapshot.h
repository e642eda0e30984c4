/* SPDX-License-Identifier: MIT */
/* Internal snapshots: the table of them. */
#ifndef QCOW2_SNAPSHOT_H
#define QCOW2_SNAPSHOT_H

#include "qcow2.h"

typedef struct Snapshot {
    uint64_t l1_offset;
    uint32_t l1_size;
    char *id, *name;
    uint64_t vm_state_size;
    uint64_t disk_size; /* the image's, where the table does not say */
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec;
    uint64_t icount;
    uint32_t extra_len; /* bytes of extra data in the table */
} Snapshot;

int coroutine_fn qcow2_snapshot_co_load(Qcow2 *q, GError **errp);
void qcow2_snapshot_free_all(Qcow2 *q);
/* Its L1 table is aligned, no larger than any may be, and inside of the file. */
bool qcow2_snapshot_l1_sound(const Qcow2 *q, const Snapshot *s, uint64_t file_length);

#endif
