/* SPDX-License-Identifier: MIT */
/* The driver's callbacks, for driver.c and for modules that do to the image what a guest does.
 * Their contracts are in block/driver.h. */
#ifndef QCOW2_CALLBACKS_H
#define QCOW2_CALLBACKS_H

#include "block/io.h"

extern const BlockDriver bdrv_qcow2;
extern const BlockCreateOption qcow2_create_options[];

/* open.c, create.c */
int coroutine_fn qcow2_co_open(BlockDriverState *bs, Options *options, int flags, GError **errp);
int coroutine_fn qcow2_co_close(BlockDriverState *bs);
int coroutine_fn qcow2_co_create(const char *filename, Options *opts, GError **errp);
/* measure.c */
int coroutine_fn qcow2_co_measure(Options *opts, BlockDriverState *src, BlockMeasureInfo *info,
                                  GError **errp);
/* reopen.c */
int coroutine_fn qcow2_co_reopen_prepare(BlockDriverState *bs, Options *options, int flags,
                                         void **state, GError **errp);
void qcow2_reopen_commit(BlockDriverState *bs, void *state);
void qcow2_reopen_abort(BlockDriverState *bs, void *state);
/* read.c, write.c, zero.c, discard.c, compress.c, status.c, flush.c */
int coroutine_fn qcow2_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v, unsigned flags);
int coroutine_fn qcow2_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                  unsigned flags);
int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        unsigned flags);
int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes);
int coroutine_fn qcow2_co_pwritev_compressed(BlockDriverState *bs, int64_t offset, IOVector *v);
int coroutine_fn qcow2_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                       int64_t bytes, int64_t *pnum, int64_t *map,
                                       BlockDriverState **file);
int coroutine_fn qcow2_co_flush_to_os(BlockDriverState *bs);
/* truncate.c, vmstate.c, check.c */
int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                   BlockPrealloc prealloc, unsigned flags, GError **errp);
int coroutine_fn qcow2_co_truncate_beside(BlockDriverState *bs, int64_t bytes, bool exact,
                                          BlockPrealloc prealloc, const BlockHold *hold,
                                          GError **errp);
int coroutine_fn qcow2_co_vmstate(BlockDriverState *bs, int64_t pos, IOVector *v, bool save);
int coroutine_fn qcow2_co_check(BlockDriverState *bs, BlockCheckResult *res, unsigned fix,
                                const BlockCheckWatch *watch);
/* amend-options.c, amend.c, backing-file.c */
extern const BlockCreateOption qcow2_amend_options[];
int coroutine_fn qcow2_co_amend(BlockDriverState *bs, Options *opts, const BlockAmend *how,
                                GError **errp);
int coroutine_fn qcow2_co_change_backing_file(BlockDriverState *bs, const char *file,
                                              const char *format, GError **errp);
/* bitmap-change.c */
extern const BlockBitmapOps qcow2_bitmap_ops;
/* compact.c */
int coroutine_fn qcow2_co_make_empty(BlockDriverState *bs);
int coroutine_fn qcow2_co_compact(BlockDriverState *bs, unsigned flags,
                                  BlockProgressFunc *progress, void *opaque, GError **errp);
/* snapshot-ops.c */
extern const BlockSnapshotOps qcow2_snapshot_ops;
/* info.c */
bool qcow2_unwritten_reads_zero(BlockDriverState *bs);
int qcow2_get_info(BlockDriverState *bs, BlockDriverInfo *info);
GArray *qcow2_list_snapshots(BlockDriverState *bs);
Options *qcow2_get_specific_info(BlockDriverState *bs, GError **errp);

#endif
