/* SPDX-License-Identifier: MIT */
/*
 * What a driver does where its table has no callback. No callback of a registered table is NULL:
 * bdrv_driver_complete() fills in one of these, so that callers call and do not ask.
 *
 * A filter passes an operation on to its file. Where it has a write of its own it sees all that
 * changes the disk: what it lacks then becomes a plain write (zeroes), or is refused (compressed
 * data) or left out (discard). Other drivers refuse what they lack, or have nothing to do.
 */
#include "block/driver/registry.h"

/* ---- Nothing to do ---- */

static int none_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return 0;
}

static bool none_parse_filename(const char *filename, Options *options, GError **errp)
{
    return true;
}

static int coroutine_fn none_co(BlockDriverState *bs)
{
    return 0;
}

static void none_refresh_limits(BlockDriverState *bs)
{
}

static int none_set_perm(BlockDriverState *bs, unsigned perm, unsigned shared, GError **errp)
{
    return 0;
}

static Options *none_get_specific_info(BlockDriverState *bs, GError **errp)
{
    return NULL;
}

static GArray *none_list_snapshots(BlockDriverState *bs)
{
    return g_array_new(FALSE, FALSE, sizeof(BlockSnapshotInfo));
}

/* Nothing of it is in a filter but what the core keeps. */
static int coroutine_fn none_co_reopen_prepare(BlockDriverState *bs, Options *options, int flags,
                                               void **state, GError **errp)
{
    return 0;
}

static void none_reopen_end(BlockDriverState *bs, void *state)
{
}

static const char *const no_names[] = { NULL };
static const BlockCreateOption no_options[] = { { NULL } };

/* ---- Refused ---- */

static int coroutine_fn no_co_create(const char *filename, Options *opts, GError **errp)
{
    return -ENOTSUP;
}

static int coroutine_fn no_co_reopen_prepare(BlockDriverState *bs, Options *options, int flags,
                                             void **state, GError **errp)
{
    return error_set(errp, ENOTSUP,
                     "Block format '%s' used by node '%s' does not support reopening files",
                     bs->drv->format_name, bs->node_name);
}

static int coroutine_fn no_co_measure(Options *opts, BlockDriverState *src, BlockMeasureInfo *info,
                                      GError **errp)
{
    return -ENOTSUP;
}

static int no_remove(const char *filename)
{
    return -ENOTSUP;
}

static int coroutine_fn no_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                      unsigned flags)
{
    return -EACCES; /* read-only, as the open told */
}

static int coroutine_fn no_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                            unsigned flags)
{
    return -ENOTSUP;
}

static int coroutine_fn no_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return -ENOTSUP;
}

static int coroutine_fn no_co_pwritev_compressed(BlockDriverState *bs, int64_t offset, IOVector *v)
{
    return -ENOTSUP;
}

static int coroutine_fn no_co_copy_range(BlockDriverState *bs, int64_t offset, BdrvChild *dst,
                                         int64_t dst_offset, int64_t bytes, unsigned flags)
{
    return -ENOTSUP;
}

static int coroutine_fn no_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                       BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    return error_set(errp, ENOTSUP, "Image format driver does not support resize");
}

static int coroutine_fn no_co_change_backing_file(BlockDriverState *bs, const char *file,
                                                  const char *format, GError **errp)
{
    return error_set(errp, ENOTSUP, "Operation not supported");
}

static int coroutine_fn no_co_amend(BlockDriverState *bs, Options *opts, const BlockAmend *how,
                                    GError **errp)
{
    return error_set(errp, ENOTSUP, "Format driver '%s' does not support option amendment",
                     bs->drv->format_name);
}

static bool no_bitmap_store(BlockDriverState *bs)
{
    return false;
}

static int coroutine_fn no_co_bitmap_change(BlockDriverState *bs, const BlockBitmapChange *c,
                                            GError **errp)
{
    return c->action == BLK_BITMAP_ADD
               ? error_set(errp, ENOTSUP,
                           "Can't store persistent bitmaps to %s: Operation not supported",
                           bs->node_name)
               : error_set(errp, ENOENT, "Dirty bitmap '%s' not found", c->name);
}

static int coroutine_fn no_co_bitmap_read(BlockDriverState *bs, const char *name,
                                          BlockBitmapData *data, GError **errp)
{
    return error_set(errp, ENOENT, "Dirty bitmap '%s' not found", name);
}

static int coroutine_fn none_co_bitmap_list(BlockDriverState *bs, GArray *list, GError **errp)
{
    return 0;
}

static const BlockBitmapOps no_bitmaps = { no_bitmap_store, no_co_bitmap_change, no_co_bitmap_read,
                                           none_co_bitmap_list };

static int coroutine_fn no_co_check(BlockDriverState *bs, BlockCheckResult *res, unsigned fix,
                                    const BlockCheckWatch *watch)
{
    return -ENOTSUP;
}

static int coroutine_fn no_co_compact(BlockDriverState *bs, unsigned flags,
                                      BlockProgressFunc *progress, void *opaque, GError **errp)
{
    return error_set(errp, ENOTSUP, "Image format driver does not support compacting");
}

static int coroutine_fn no_co_make_empty(BlockDriverState *bs)
{
    return -ENOTSUP;
}

static int no_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    return -ENOTSUP;
}

static int coroutine_fn no_co_snapshot_create(BlockDriverState *bs, const BlockSnapshotInfo *info,
                                              const BlockHold *hold, GError **errp)
{
    return error_set(errp, ENOTSUP, "Operation not supported");
}

static int coroutine_fn no_co_snapshot_apply(BlockDriverState *bs, const char *id_or_name,
                                             const BlockHold *hold, GError **errp)
{
    return error_set(errp, ENOTSUP, "Block driver does not support snapshots");
}

static int coroutine_fn no_co_snapshot_delete(BlockDriverState *bs, const char *id,
                                              const char *name, const BlockHold *hold,
                                              GError **errp)
{
    return error_set(errp, ENOTSUP,
                     "Block format '%s' used by device '' does not support internal snapshot "
                     "deletion",
                     bs->drv->format_name);
}

static int coroutine_fn no_co_snapshot_load(BlockDriverState *bs, const char *id, const char *name,
                                            GError **errp)
{
    return error_set(errp, ENOTSUP,
                     "Block format '%s' used by device '' does not support temporarily loading "
                     "internal snapshots",
                     bs->drv->format_name);
}

static const BlockSnapshotOps no_snapshots = {
    .co_create = no_co_snapshot_create,
    .co_apply = no_co_snapshot_apply,
    .co_delete = no_co_snapshot_delete,
    .co_load = no_co_snapshot_load,
};

/* ---- What is true of any node ---- */

static void filter_child_perm(BlockDriverState *bs, BdrvRole role, unsigned perm, unsigned shared,
                              unsigned *child_perm, unsigned *child_shared)
{
    *child_perm = perm;
    *child_shared = shared;
}

static void format_child_perm(BlockDriverState *bs, BdrvRole role, unsigned perm, unsigned shared,
                              unsigned *child_perm, unsigned *child_shared)
{
    bool writable = (bs->open_flags & BLK_O_RDWR) && !bs->read_only;

    if (role == BDRV_ROLE_BACKING) {
        *child_perm = BLK_PERM_CONSISTENT_READ;
        *child_shared = shared & BLK_PERM_WRITE ? BLK_PERM_ALL : BLK_PERM_ALL & ~BLK_PERM_CHANGE;
    } else {
        *child_perm = BLK_PERM_CONSISTENT_READ | (writable ? BLK_PERM_CHANGE : 0);
        *child_shared =
            BLK_PERM_ALL & ~(role == BDRV_ROLE_DATA ? BLK_PERM_RESIZE : BLK_PERM_CHANGE);
    }
}

static bool unwritten_is_unknown(BlockDriverState *bs)
{
    return false;
}

static int coroutine_fn all_is_data(BlockDriverState *bs, bool want_zero, int64_t offset,
                                    int64_t bytes, int64_t *pnum, int64_t *map,
                                    BlockDriverState **file)
{
    *pnum = bytes;
    return BLK_DATA | BLK_ALLOCATED;
}

static int coroutine_fn all_is_data_here(BlockDriverState *bs, bool want_zero, int64_t offset,
                                         int64_t bytes, int64_t *pnum, int64_t *map,
                                         BlockDriverState **file)
{
    *pnum = bytes;
    *map = offset;
    *file = bs;
    return BLK_DATA | BLK_ALLOCATED | BLK_OFFSET_VALID;
}

static int64_t coroutine_fn known_length(BlockDriverState *bs)
{
    return atomic_load(&bs->total_bytes);
}

static int64_t coroutine_fn sum_of_children(BlockDriverState *bs)
{
    int64_t sum = 0;

    if (bs->children->len == 0) {
        return -ENOTSUP;
    }
    for (guint i = 0; i < bs->children->len; i++) {
        BdrvChild *c = g_ptr_array_index(bs->children, i);
        int64_t n = c->role == BDRV_ROLE_BACKING ? 0 : bdrv_co_get_allocated_size(c->bs);

        if (n < 0) {
            return n;
        }
        sum += n;
    }
    return sum;
}

/* ---- Passed on ---- */

static int coroutine_fn pass_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                       unsigned flags)
{
    return bdrv_co_preadv(bs->file, offset, v, flags);
}

static int coroutine_fn pass_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                        unsigned flags)
{
    return bdrv_co_pwritev(bs->file, offset, v, flags);
}

static int coroutine_fn pass_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              unsigned flags)
{
    return bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int coroutine_fn pass_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return bdrv_co_pdiscard(bs->file, offset, bytes);
}

static int coroutine_fn pass_co_pwritev_compressed(BlockDriverState *bs, int64_t offset,
                                                   IOVector *v)
{
    return bdrv_co_pwritev_compressed(bs->file, offset, v);
}

static int coroutine_fn pass_co_copy_range(BlockDriverState *bs, int64_t offset, BdrvChild *dst,
                                           int64_t dst_offset, int64_t bytes, unsigned flags)
{
    return bdrv_co_copy_range(bs->file, offset, dst, dst_offset, bytes, flags);
}

static int coroutine_fn pass_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                             int64_t bytes, int64_t *pnum, int64_t *map,
                                             BlockDriverState **file)
{
    *pnum = bytes;
    *map = offset;
    *file = bs->file->bs;
    return BLK_RAW | BLK_OFFSET_VALID;
}

static int coroutine_fn no_co_truncate_beside(BlockDriverState *bs, int64_t bytes, bool exact,
                                              BlockPrealloc prealloc, const BlockHold *hold,
                                              GError **errp)
{
    return -ENOTSUP;
}

static int coroutine_fn pass_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                         BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    return bdrv_co_truncate(bs->file, bytes, exact, prealloc, flags, errp);
}

static int64_t coroutine_fn pass_co_getlength(BlockDriverState *bs)
{
    return bdrv_co_getlength(bs->file->bs);
}

static bool pass_unwritten_reads_zero(BlockDriverState *bs)
{
    return bdrv_unwritten_reads_zero(bs->file->bs);
}

static int coroutine_fn pass_co_check(BlockDriverState *bs, BlockCheckResult *res, unsigned fix,
                                      const BlockCheckWatch *watch)
{
    return bdrv_co_check(bs->file->bs, res, fix, watch);
}

static int coroutine_fn pass_co_compact(BlockDriverState *bs, unsigned flags,
                                        BlockProgressFunc *progress, void *opaque, GError **errp)
{
    return bdrv_co_compact(bs->file->bs, flags, progress, opaque, errp);
}

static int coroutine_fn pass_co_make_empty(BlockDriverState *bs)
{
    return bdrv_co_make_empty(bs->file);
}

static int pass_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    return bs->file->bs->drv->get_info(bs->file->bs, info);
}

static GArray *pass_list_snapshots(BlockDriverState *bs)
{
    return bs->file->bs->drv->list_snapshots(bs->file->bs);
}

static int coroutine_fn pass_co_snapshot_create(BlockDriverState *bs, const BlockSnapshotInfo *info,
                                                const BlockHold *hold, GError **errp)
{
    return bdrv_co_snapshot_create(bs->file, info, hold, errp);
}

static int coroutine_fn pass_co_snapshot_apply(BlockDriverState *bs, const char *id_or_name,
                                               const BlockHold *hold, GError **errp)
{
    return bdrv_co_snapshot_apply(bs->file, id_or_name, hold, errp);
}

static int coroutine_fn pass_co_snapshot_delete(BlockDriverState *bs, const char *id,
                                                const char *name, const BlockHold *hold,
                                                GError **errp)
{
    return bdrv_co_snapshot_delete(bs->file, id, name, hold, errp);
}

static int coroutine_fn pass_co_snapshot_load(BlockDriverState *bs, const char *id,
                                              const char *name, GError **errp)
{
    return bdrv_co_snapshot_load(bs->file, id, name, errp);
}

static const BlockSnapshotOps pass_snapshots = {
    .co_create = pass_co_snapshot_create,
    .co_apply = pass_co_snapshot_apply,
    .co_delete = pass_co_snapshot_delete,
    .co_load = pass_co_snapshot_load,
};

/* Formats too: what lacks a place for it has it in its file. */
static int coroutine_fn pass_co_vmstate(BlockDriverState *bs, int64_t pos, IOVector *v, bool save)
{
    if (!bs->file) {
        return -ENOTSUP;
    }
    return save ? bdrv_co_save_vmstate(bs->file, pos, v, 0)
                : bdrv_co_load_vmstate(bs->file, pos, v);
}

static void coroutine_fn pass_co_debug_event(BlockDriverState *bs, BlkdebugEvent event)
{
    if (bs->file) {
        bdrv_co_debug_event(bs->file, event);
    }
}

static int pass_debug_breakpoint(BlockDriverState *bs, const char *event, const char *tag)
{
    bs = bdrv_file_bs(bs);
    return bs ? bs->drv->debug_breakpoint(bs, event, tag) : -ENOTSUP;
}

static int pass_debug_remove_breakpoint(BlockDriverState *bs, const char *tag)
{
    bs = bdrv_file_bs(bs);
    return bs ? bs->drv->debug_remove_breakpoint(bs, tag) : -ENOTSUP;
}

static int pass_debug_resume(BlockDriverState *bs, const char *tag)
{
    bs = bdrv_file_bs(bs);
    return bs ? bs->drv->debug_resume(bs, tag) : -ENOTSUP;
}

static bool pass_debug_is_suspended(BlockDriverState *bs, const char *tag)
{
    bs = bdrv_file_bs(bs);
    return bs && bs->drv->debug_is_suspended(bs, tag);
}

/* ---- The table ---- */

#define DEFAULT(callback, fn) (d->callback = d->callback ? d->callback : (fn))

static unsigned features_of(const BlockDriver *d)
{
    bool pure = d->is_filter && !d->co_pwritev; /* all that it lacks is passed on */

    return (d->co_create ? BLK_CAN_CREATE : 0) | (d->co_debug_event ? BLK_TAKES_EVENTS : 0) |
           (d->co_pwritev_compressed || pure ? BLK_CAN_COMPRESS : 0) |
           (d->co_check ? BLK_CAN_CHECK : 0) | (d->co_amend ? BLK_CAN_AMEND : 0) |
           (d->bitmaps ? BLK_HAS_BITMAPS : 0);
}

static void complete_changes(BlockDriver *d)
{
    bool pure = d->is_filter && !d->co_pwritev;

    DEFAULT(co_pwrite_zeroes, pure ? pass_co_pwrite_zeroes : no_co_pwrite_zeroes);
    DEFAULT(co_pdiscard, pure ? pass_co_pdiscard : no_co_pdiscard);
    DEFAULT(co_pwritev_compressed, pure ? pass_co_pwritev_compressed : no_co_pwritev_compressed);
    DEFAULT(co_pwritev, pure && !d->read_only ? pass_co_pwritev : no_co_pwritev);
}

static void complete_by_kind(BlockDriver *d)
{
    bool filter = d->is_filter;

    DEFAULT(co_reopen_prepare, filter ? none_co_reopen_prepare : no_co_reopen_prepare);
    DEFAULT(child_perm, filter || !d->is_format ? filter_child_perm : format_child_perm);
    DEFAULT(unwritten_reads_zero, filter ? pass_unwritten_reads_zero : unwritten_is_unknown);
    DEFAULT(co_copy_range, filter && !d->co_preadv ? pass_co_copy_range : no_co_copy_range);
    DEFAULT(co_preadv, pass_co_preadv);
    DEFAULT(co_block_status, filter             ? pass_co_block_status
                             : d->protocol_name ? all_is_data_here
                                                : all_is_data);
    DEFAULT(co_truncate, filter ? pass_co_truncate : no_co_truncate);
    DEFAULT(co_truncate_beside, no_co_truncate_beside);
    DEFAULT(co_getlength, filter ? pass_co_getlength : known_length);
    DEFAULT(co_check, filter ? pass_co_check : no_co_check);
    DEFAULT(co_compact, filter ? pass_co_compact : no_co_compact);
    DEFAULT(co_make_empty, filter ? pass_co_make_empty : no_co_make_empty);
    DEFAULT(get_info, filter ? pass_get_info : no_get_info);
    DEFAULT(list_snapshots, filter ? pass_list_snapshots : none_list_snapshots);
    DEFAULT(snapshot, filter ? &pass_snapshots : &no_snapshots);
}

void bdrv_driver_complete(BlockDriver *d)
{
    d->features = features_of(d);
    complete_changes(d);
    complete_by_kind(d);
    DEFAULT(probe, none_probe);
    DEFAULT(parse_filename, none_parse_filename);
    DEFAULT(co_close, none_co);
    DEFAULT(refresh_limits, none_refresh_limits);
    DEFAULT(reopen_commit, none_reopen_end);
    DEFAULT(reopen_abort, none_reopen_end);
    DEFAULT(set_perm, none_set_perm);
    DEFAULT(strong_options, no_names);
    DEFAULT(create_options, no_options);
    DEFAULT(co_create, no_co_create);
    DEFAULT(co_measure, no_co_measure);
    DEFAULT(remove, no_remove);
    DEFAULT(co_flush_to_os, none_co);
    DEFAULT(co_flush_to_disk, none_co);
    DEFAULT(co_get_allocated_size, sum_of_children);
    DEFAULT(co_vmstate, pass_co_vmstate);
    DEFAULT(get_specific_info, none_get_specific_info);
    DEFAULT(amend_options, no_options);
    DEFAULT(co_amend, no_co_amend);
    DEFAULT(bitmaps, &no_bitmaps);
    DEFAULT(co_change_backing_file, no_co_change_backing_file);
    DEFAULT(co_debug_event, pass_co_debug_event);
    DEFAULT(debug_breakpoint, pass_debug_breakpoint);
    DEFAULT(debug_remove_breakpoint, pass_debug_remove_breakpoint);
    DEFAULT(debug_resume, pass_debug_resume);
    DEFAULT(debug_is_suspended, pass_debug_is_suspended);
}
