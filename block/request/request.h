/* SPDX-License-Identifier: MIT */
/* Operations on a node: the gates, and what they share. */
#ifndef BLOCK_REQUEST_REQUEST_H
#define BLOCK_REQUEST_REQUEST_H

#include "block/core.h"

/* ---- read.c, write.c, zero.c: the gates, for @bs itself ---- */
int coroutine_fn bdrv_co_read_gate(BlockDriverState *bs, int64_t offset, IOVector *v,
                                   unsigned flags);
int coroutine_fn bdrv_co_zero_unguarded(BdrvChild *c, int64_t offset, int64_t bytes,
                                        unsigned flags);
int coroutine_fn bdrv_co_write_gate(BdrvChild *c, int64_t offset, IOVector *v, unsigned flags);

/* ---- read-aligned.c ---- */
int bdrv_check_range(int64_t offset, int64_t bytes);
/* For a caller that tracks the range already. */
int coroutine_fn bdrv_co_read_untracked(BlockDriverState *bs, int64_t offset, IOVector *v);

/* ---- copy-up.c ---- */
/* For @bs itself: bdrv_co_copy_up. */
int coroutine_fn bdrv_co_copy_up_node(BlockDriverState *bs, BlockDriverState *base, int64_t offset,
                                      int64_t bytes);

/* ---- write-aligned.c ---- */
/* Permission and end-of-file rules of a write; 0 or -errno. */
int bdrv_check_write(BdrvChild *c, int64_t offset, int64_t bytes, unsigned flags);
/* The write itself, once the range is aligned and its ends are filled. */
int coroutine_fn bdrv_co_write_aligned(BlockDriverState *bs, int64_t offset, IOVector *v,
                                       unsigned flags);
/* Through an aligned buffer, the ends read first; the range is tracked by the caller. @v NULL:
 * zeroes. */
int coroutine_fn bdrv_co_write_bounce(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      const IOVector *v, unsigned flags);
/* The length that a write, which ended with @ret, gave the node. */
void coroutine_fn bdrv_co_write_grew(BlockDriverState *bs, int64_t end, int ret);
/* After a write: length, unsynced, FUA by flush. */
int coroutine_fn bdrv_co_write_done(BlockDriverState *bs, int64_t end, int ret, bool fua);

/* ---- track.c ---- */
struct TrackedReq {
    int64_t start, end;
    bool serialising;
    TrackedReq *next, **prev;
};
/* Wait for earlier requests that conflict (overlap, and one of the two serialises). */
void coroutine_fn bdrv_co_track_begin(BlockDriverState *bs, TrackedReq *r, int64_t start,
                                      int64_t end, bool serialising);
void bdrv_track_end(BlockDriverState *bs, TrackedReq *r);

/* ---- guard.c: of a guarded child's file, where a change of it begins within PROBE_BYTES ---- */
typedef struct StartGuard {
    uint8_t head[PROBE_BYTES]; /* as it is to be */
} StartGuard;
/* May [offset, offset + bytes) become @v (NULL: zeroes)? -EPERM: no. On success the first block is
 * the caller's alone until bdrv_co_guard_end(), and what of @v lies in it is to be taken from head.
 */
int coroutine_fn bdrv_co_guard_begin(BdrvChild *c, StartGuard *g, int64_t offset, int64_t bytes,
                                     const IOVector *v);
void coroutine_fn bdrv_co_guard_end(BdrvChild *c);

/* ---- tell.c ---- */
/* @bs has another length, or is another node: those above look again, and are told. */
void coroutine_fn bdrv_co_notify_parents(BlockDriverState *bs);

/* ---- length.c ---- */
int64_t coroutine_fn bdrv_co_refresh_length(BlockDriverState *bs);

/* ---- debug-event.c ---- */
/* For a node itself, not a child: bdrv_co_debug_event. */
void coroutine_fn bdrv_co_debug_event_bs(BlockDriverState *bs, BlkdebugEvent event);

#endif
