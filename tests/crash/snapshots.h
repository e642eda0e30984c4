/* SPDX-License-Identifier: MIT */
/* Internal snapshots that a program takes: each holds what the running image showed then. */
#ifndef CRASH_SNAPSHOTS_H
#define CRASH_SNAPSHOTS_H

#include "log.h"
#include "model.h"
#include "program.h"

#include "block/backend.h"

#define SNAPSHOTS_MAX 32

/* OP_SNAPSHOT, OP_APPLY, OP_DELETE */
int coroutine_fn snapshots_co_op(BlockBackend *blk, const Op *op);
/* Which one the operation is about; 0: none. */
uint32_t snapshots_bit(const Op *op);
/* What the disk was when the @k-th had been taken: words, as EV_OBSERVED; NULL: it was not, or not
 * alone. */
const Event *snapshots_find(const Program *p, const Log *l, uint64_t k);
/* What the @k-th may hold where requests ran beside it: what the disk was at any moment between its
 * begin and its end. NULL: it was never begun. The log's. */
const Model *snapshots_model(const Program *p, Log *l, uint64_t k);
/* Is the @k-th there, if it @must, and holds what it may? NULL, or what is wrong. @blk, read-only,
 * shows the snapshot then. */
char *snapshots_check(BlockBackend *blk, const Program *p, Log *l, unsigned k, bool must);

#endif
