/* SPDX-License-Identifier: MIT */
/*
 * The L2 tables that snapshots have, in the set of metadata: what overlap-check's part inactive-l2
 * guards. Read once, when the image is opened or reopened with that part, and kept up to date from
 * then on; without it nothing is read or kept.
 */
#ifndef QCOW2_INACTIVE_L2_H
#define QCOW2_INACTIVE_L2_H

#include "qcow2.h"

/* All of them, anew, if @kinds (MetadataKind) has them looked for. L1 tables that lie, and entries
 * that do, are left to check. Nothing else runs on the image. */
int coroutine_fn qcow2_inactive_l2_co_load(Qcow2 *q, unsigned kinds, GError **errp);
/* After a repair, which changes tables of snapshots. */
int coroutine_fn qcow2_inactive_l2_co_reload(Qcow2 *q);
/* There is a snapshot with the L1 table @l1 (@n entries, offsets). */
void qcow2_inactive_l2_add(Qcow2 *q, const uint64_t *l1, uint64_t n);
/* There is none any more; before its counts fall. */
void qcow2_inactive_l2_remove(Qcow2 *q, const uint64_t *l1, uint64_t n);

#endif
