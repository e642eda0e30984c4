/* SPDX-License-Identifier: MIT */
/* What a driver calls on its children: the one gate per operation, which checks
 * range, alignment and permission, splits to the limits, and tracks the request.
 * All return 0 or -errno unless said. */
#ifndef BLOCK_IO_H
#define BLOCK_IO_H

#include "block/driver.h"
#include "block/policy.h"

DRIVER_API_BEGIN

int coroutine_fn bdrv_co_preadv(BdrvChild *c, int64_t offset, IOVector *v, unsigned flags);
int coroutine_fn bdrv_co_pwritev(BdrvChild *c, int64_t offset, IOVector *v, unsigned flags);
int coroutine_fn bdrv_co_pread(BdrvChild *c, int64_t offset, int64_t bytes, void *buf,
                               unsigned flags);
int coroutine_fn bdrv_co_pwrite(BdrvChild *c, int64_t offset, int64_t bytes, const void *buf,
                                unsigned flags);
int coroutine_fn bdrv_co_pwrite_zeroes(BdrvChild *c, int64_t offset, int64_t bytes, unsigned flags);
int coroutine_fn bdrv_co_pdiscard(BdrvChild *c, int64_t offset, int64_t bytes);
/* Within one node the ranges do not overlap (-EINVAL). @flags are of the write. */
int coroutine_fn bdrv_co_copy_range(BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                                    int64_t dst_offset, int64_t bytes, unsigned flags);
/* What [offset, +bytes), and the rest of the clusters at its ends, shows of a backing file, of the
 * layers above @base (NULL: all), becomes @c's own. All requests to @c's node are tracked
 * (bdrv_co_track_requests). Nothing is done to a node that is read-only. */
int coroutine_fn bdrv_co_copy_up(BdrvChild *c, BlockDriverState *base, int64_t offset,
                                 int64_t bytes);
/* @v->size == 0: the end mark. -ENOTSUP: the node cannot compress. */
int coroutine_fn bdrv_co_pwritev_compressed(BdrvChild *c, int64_t offset, IOVector *v);
/* A machine's state, from byte @pos of it on; -ENOTSUP: there is no place for it. Beside a save
 * guest requests may run, and nothing else that changes the image (blk_co_save_vmstate). */
int coroutine_fn bdrv_co_save_vmstate(BdrvChild *c, int64_t pos, IOVector *v, unsigned flags);
int coroutine_fn bdrv_co_load_vmstate(BdrvChild *c, int64_t pos, IOVector *v);
/* Alone on the image (blk_check). @watch: NULL or who looks on. -ENOTSUP: the format has
 * nothing to check. */
int coroutine_fn bdrv_co_check(BlockDriverState *bs, BlockCheckResult *res, unsigned fix,
                               const BlockCheckWatch *watch);
/* Alone on the image, too (blk_change_backing_file). */
int coroutine_fn bdrv_co_change_backing_file(BdrvChild *c, const char *file, const char *format,
                                             GError **errp);
/* The same (blk_amend); takes what it knows out of @opts. The caller refreshes limits. */
/* Persistent bitmaps (bitmap-ops.h); alone on the image. */
int coroutine_fn bdrv_co_bitmap_change(BdrvChild *c, const BlockBitmapChange *change,
                                       GError **errp);
int coroutine_fn bdrv_co_bitmap_read(BdrvChild *c, const char *name, BlockBitmapData *data,
                                     GError **errp);
int coroutine_fn bdrv_co_bitmap_list(BdrvChild *c, GArray *list, GError **errp);
int coroutine_fn bdrv_co_amend(BdrvChild *c, Options *opts, const BlockAmend *how, GError **errp);
/* Alone on the image, too (blk_compact). */
int coroutine_fn bdrv_co_compact(BlockDriverState *bs, unsigned flags, BlockProgressFunc *progress,
                                 void *opaque, GError **errp);
/* Alone on the image, too (blk_make_empty). */
int coroutine_fn bdrv_co_make_empty(BdrvChild *c);
/* Internal snapshots, as BlockSnapshotOps has them (blk_snapshot_…). */
int coroutine_fn bdrv_co_snapshot_create(BdrvChild *c, const BlockSnapshotInfo *info,
                                         const BlockHold *hold, GError **errp);
int coroutine_fn bdrv_co_snapshot_apply(BdrvChild *c, const char *id_or_name,
                                        const BlockHold *hold, GError **errp);
int coroutine_fn bdrv_co_snapshot_delete(BdrvChild *c, const char *id, const char *name,
                                         const BlockHold *hold, GError **errp);
int coroutine_fn bdrv_co_snapshot_load(BdrvChild *c, const char *id, const char *name,
                                       GError **errp);
/* Whole flush of a node: to_os, children, to_disk, flushed. */
int coroutine_fn bdrv_co_flush(BlockDriverState *bs);
int coroutine_fn bdrv_co_truncate(BdrvChild *c, int64_t bytes, bool exact, BlockPrealloc prealloc,
                                  unsigned flags, GError **errp);
/* The same, with requests of the guest running where the driver can do that: @hold keeps them off
 * where it can't. */
int coroutine_fn bdrv_co_truncate_beside(BdrvChild *c, int64_t bytes, bool exact,
                                         BlockPrealloc prealloc, unsigned flags,
                                         const BlockHold *hold, GError **errp);
int64_t coroutine_fn bdrv_co_getlength(BlockDriverState *bs);
int64_t coroutine_fn bdrv_co_get_allocated_size(BlockDriverState *bs);
/* Through BLK_RAW and BLK_RECURSE of this node's file, not its backing chain. */
int coroutine_fn bdrv_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      int64_t *pnum, int64_t *map, BlockDriverState **file);
/* Down the chain until a layer decides or @base (exclusive; NULL: to the end); *depth (may be
 * NULL) counts layers, 0 is @bs. */
int coroutine_fn bdrv_co_block_status_above(BlockDriverState *bs, BlockDriverState *base,
                                            int64_t offset, int64_t bytes, int64_t *pnum,
                                            int64_t *map, BlockDriverState **file, int *depth);
/* 1 / 0 / -errno: allocated in @bs itself. */
int coroutine_fn bdrv_co_is_allocated(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      int64_t *pnum);

/* Open the child described by "name.*" keys or a "name" node reference of @options,
 * or @filename (may be NULL). The child gets flags derived from @flags and @role. Attached to
 * @parent; NULL on error (or when @allow_none and nothing is given). */
BdrvChild *coroutine_fn bdrv_co_open_child(const char *filename, Options *options, const char *name,
                                           BlockDriverState *parent, int flags, BdrvRole role,
                                           bool allow_none, GError **errp);

/* Open the data file that @parent's image itself names (@reference: a plain file, never a protocol
 * or json:), as the policy of the root lets it. A relative name starts at the working folder; under
 * a policy about folders, at the image's. Attached to @parent as @name; NULL on error. */
BdrvChild *coroutine_fn bdrv_co_open_data_file(const char *reference, const char *name,
                                               BlockDriverState *parent, int flags, GError **errp);
/* What the root's user lets an image take. */
const BlockCaps *bdrv_caps(BlockDriverState *bs);
/* Passes @line to the report function of each BlockBackend above @bs (blk_set_report). Any thread;
 * a receiver that keeps @line copies it. */
void bdrv_report(BlockDriverState *bs, const char *line);
/* For a protocol driver's open: the descriptor that stands for the file, taken over; -1: open it by
 * name. */
int bdrv_take_open_fd(BlockDriverState *bs);

/* For co_create of formats: create @filename by its protocol's driver, empty; nothing is opened
 * (bdrv_co_open_root() does that). 1: made anew; 0: it was there, and is empty now; or -errno. */
int coroutine_fn bdrv_co_create_file(const char *filename, Options *opts, GError **errp);
/* After a format's co_create failed: remove the file that it made (bdrv_co_create_file() returned
 * 1). Best effort: the failure before is the error that counts. */
void coroutine_fn bdrv_co_remove_file(const char *filename);
/* A root child on @filename's protocol layer (or, without BLK_O_PROTOCOL, any image);
 * drop it with bdrv_co_close_child(). @options may be NULL, is consumed. */
BdrvChild *coroutine_fn bdrv_co_open_root(const char *filename, Options *options, int flags,
                                          GError **errp);
/* Closed whatever it returns: 0, or -errno for what could not be written. */
int coroutine_fn bdrv_co_close_child(BdrvChild *c);

/* Buffer for I/O on @bs (its memory alignment); NULL without memory; mem_align_free(). */
void *bdrv_try_blockalign(BlockDriverState *bs, size_t size);

static inline BlockDriverState *bdrv_file_bs(BlockDriverState *bs)
{
    return bs->file ? bs->file->bs : NULL;
}
static inline BlockDriverState *bdrv_backing_bs(BlockDriverState *bs)
{
    return bs->backing ? bs->backing->bs : NULL;
}
/* Is it certain that what nobody has written since @bs was created, or past its end, reads zero?
 * Answered from the bottom: a device holds what was there before. */
bool bdrv_unwritten_reads_zero(BlockDriverState *bs);
/* For the tables of drivers that always say yes. */
bool bdrv_unwritten_always_zero(BlockDriverState *bs);
/* Skip filters (blkdebug, throttle…). */
BlockDriverState *bdrv_skip_filters(BlockDriverState *bs);

/* Nobody but the holder of @c uses what is below it, down to the protocol, through the graph. */
bool bdrv_child_is_alone(const BdrvChild *c);

/* A point that blkdebug rules and breakpoints name. Cheap when no blkdebug is below. */
void coroutine_fn bdrv_co_debug_event(BdrvChild *c, BlkdebugEvent event);

/* Hold back what reaches @bs from above, and what it and the nodes below send of their own, and
 * wait for what is in flight. The caller's own request must not be counted. Several may drain at a
 * time; nodes that it knows close after its end. Any thread. */
typedef struct BdrvDrain BdrvDrain;
BdrvDrain *coroutine_fn bdrv_co_drain_begin(BlockDriverState *bs);
void bdrv_drain_end(BdrvDrain *drain);
/* Round what a node does of its own, outside of any request to it: a drain waits for it, or it for
 * the drain. */
void coroutine_fn bdrv_co_own_begin(BlockDriverState *bs);
void bdrv_own_end(BlockDriverState *bs);
/* From now on all requests to @bs are tracked, so that BLK_REQ_SERIALISING is kept. Drains. */
void coroutine_fn bdrv_co_track_requests(BlockDriverState *bs);
/* No more, as far as the caller is concerned, who has no such request in flight. */
void bdrv_untrack_requests(BlockDriverState *bs);

/* The graph changes under a drain of these calls' own, while others send requests. All or nothing:
 * false, with the reason, when permissions, depth or a circle forbid it. Not from within a drain or
 * a request of the caller's. The references of nodes that go are dropped: *@ret (may be NULL) is
 * what closing one said. */
bool coroutine_fn bdrv_co_replace_child(BdrvChild *c, BlockDriverState *to, int *ret,
                                        GError **errp);
/* All parents of @from get @to in its place, but for those that lie below @to. */
bool coroutine_fn bdrv_co_replace_node(BlockDriverState *from, BlockDriverState *to, int *ret,
                                       GError **errp);
/* @filter, whose file is @below already, comes between it and those above; and goes again. */
bool coroutine_fn bdrv_co_insert_filter(BlockDriverState *filter, BlockDriverState *below,
                                        GError **errp);
bool coroutine_fn bdrv_co_remove_filter(BlockDriverState *filter, int *ret, GError **errp);
/* @backing NULL: none. */
bool coroutine_fn bdrv_co_set_backing(BlockDriverState *bs, BlockDriverState *backing, int *ret,
                                      GError **errp);

DRIVER_API_END

#endif
