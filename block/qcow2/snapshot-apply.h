/* SPDX-License-Identifier: MIT */
/* The disk becomes what an internal snapshot holds. */
#ifndef QCOW2_SNAPSHOT_APPLY_H
#define QCOW2_SNAPSHOT_APPLY_H

#include "snapshot.h"

/* BlockSnapshotOps.co_apply */
int coroutine_fn qcow2_snapshot_apply_co_run(BlockDriverState *bs, const char *id_or_name,
                                             const BlockHold *hold, GError **errp);

#endif
