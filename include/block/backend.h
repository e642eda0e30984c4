/* SPDX-License-Identifier: MIT */
/*
 * BlockBackend: how users (tools, exports, the public API) hold an image.
 *
 * blk_co_* run in a coroutine, in any AioContext; the plain forms run the same
 * in aio_current() and poll until done (not from a coroutine of another request).
 * Offsets and lengths are bytes, any alignment. I/O returns 0 or -errno.
 */
#ifndef BLOCK_BACKEND_H
#define BLOCK_BACKEND_H

#include "block/bitmap-ops.h"
#include "block/common.h"
#include "block/debug-event.h"
#include "block/policy.h"
#include "block/secret.h"
#include "util/aio.h"

/* Open @filename (plain, proto:…, json:{}; may be NULL with options) with
 * @options (consumed, may be NULL; "driver" forces the format). NULL with @errp set.
 * The message has no prefix of the core's ("Image is not in qcow2 format"; the file driver's own
 * begins "Could not open 'x': "): the img tool adds "Could not open 'x': ", the io tool "can't open
 * device x: ". */
BlockBackend *blk_open(const char *filename, Options *options, int flags, GError **errp);
/* The same; what the image refers to is opened by @open_reference (policy.h), and by it alone. */
BlockBackend *blk_open_confined(const char *filename, Options *options, int flags,
                                BlockOpenReference *open_reference, void *opaque, GError **errp);
/* Waits for requests in flight, flushes and closes. Returns 0 or -errno: the first error of what
 * had to be written, here and below. The image is closed all the same, and @blk is gone. NULL is
 * fine. */
int blk_close(BlockBackend *blk);
/* The same in two steps: between them @blk is memory that answers requests with -ESHUTDOWN. */
int blk_shut(BlockBackend *blk);
void blk_free(BlockBackend *blk);
/* For images that were only read; one that was written is closed by blk_close(), whose result
 * counts. */
static inline void blk_close_reader(BlockBackend *blk)
{
    (void)blk_close(blk);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BlockBackend, blk_close_reader)

/* The node at its root, until the graph changes. */
BlockDriverState *blk_bs(BlockBackend *blk);
/* Opened for writing with a guessed format, and that is raw: the name of its file, for a warning
 * (writes to its first sector that make it another format are refused); else NULL. */
const char *blk_probed_raw(BlockBackend *blk);
/* What a person should know of an open that went well, node by node; g_strfreev(). */
char **blk_warnings(BlockBackend *blk);
/* From now on @report is told what a person should know of the image, once each (that it is found
 * corrupt): a line without newline, in the thread of the request that met it. NULL: nobody is. Set
 * it before requests run. */
void blk_set_report(BlockBackend *blk, BlockReportFunc *report, void *opaque);
/* Other options (consumed) for @blk's node and those below it that nobody else uses: read-only,
 * cache.direct and what else a driver lets change, children's with their names before ("file.x").
 * All, or none and false: the image goes on as it was. Its locks are held all the time; requests
 * wait meanwhile. */
bool blk_reopen(BlockBackend *blk, Options *options, GError **errp);
bool blk_is_writable(BlockBackend *blk);
/* From now on @fn is called after the disk became longer or shorter, or another node, in the thread
 * where that happened. It must not wait for requests to @blk. Set it before requests run. */
void blk_set_resize_callback(BlockBackend *blk, void (*fn)(void *opaque), void *opaque);
int64_t blk_getlength(BlockBackend *blk); /* cached; or -errno */
int64_t coroutine_fn blk_co_getlength(BlockBackend *blk);
int64_t blk_length(BlockBackend *blk); /* its plain form: -ESHUTDOWN while @blk is closed */

int coroutine_fn blk_co_preadv(BlockBackend *blk, int64_t offset, IOVector *v, unsigned flags);
int coroutine_fn blk_co_pwritev(BlockBackend *blk, int64_t offset, IOVector *v, unsigned flags);
int coroutine_fn blk_co_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf,
                              unsigned flags);
int coroutine_fn blk_co_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf,
                               unsigned flags);
int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes,
                                      unsigned flags);
/* Reads from @src and writes to @dst, by a shorter way where there is one; within one image the
 * ranges do not overlap (-EINVAL). */
int coroutine_fn blk_co_copy_range(BlockBackend *src, int64_t src_offset, BlockBackend *dst,
                                   int64_t dst_offset, int64_t bytes, unsigned flags);
int coroutine_fn blk_co_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes);
int coroutine_fn blk_co_flush(BlockBackend *blk);
int coroutine_fn blk_co_truncate(BlockBackend *blk, int64_t bytes, bool exact,
                                 BlockPrealloc prealloc, unsigned flags, GError **errp);
int coroutine_fn blk_co_pwritev_compressed(BlockBackend *blk, int64_t offset, IOVector *v);
/* The state of a virtual machine that the image holds beside the disk, while requests run; -ENOTSUP
 * where it has no place for one. */
int coroutine_fn blk_co_save_vmstate(BlockBackend *blk, int64_t pos, IOVector *v);
int coroutine_fn blk_co_load_vmstate(BlockBackend *blk, int64_t pos, IOVector *v);

int blk_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf, unsigned flags);
int blk_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf, unsigned flags);
int blk_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes, unsigned flags);
int blk_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes);
int blk_flush(BlockBackend *blk);
int blk_truncate(BlockBackend *blk, int64_t bytes, bool exact, BlockPrealloc prealloc,
                 unsigned flags, GError **errp);
/* Other values for what the image's creation chose: @opts (consumed) hold those that are to change,
 * by the names of `create`. What cannot be is refused before anything changes; cut off at any
 * moment the image is valid, and the same call goes on. Waits until nothing else runs on @blk, and
 * lets nothing run until it is done. */
int coroutine_fn blk_co_amend(BlockBackend *blk, Options *opts, const BlockAmend *how,
                              GError **errp);
int blk_amend(BlockBackend *blk, Options *opts, const BlockAmend *how, GError **errp);
/* What a format's amendment takes; ends with name == NULL. NULL: there is no such format, or it
 * amends nothing. */
const BlockCreateOption *blk_amend_options(const char *format, GError **errp);
/* What the image says its backing file and that one's format are (NULL: none), on stable storage
 * when it returns; nothing is opened or copied. A format without a file is an error, names of more
 * than 1023 bytes are. Waits until nothing else runs on @blk. */
int coroutine_fn blk_co_change_backing_file(BlockBackend *blk, const char *file, const char *format,
                                            GError **errp);
int blk_change_backing_file(BlockBackend *blk, const char *file, const char *format, GError **errp);
int blk_check(BlockBackend *blk, BlockCheckResult *res, unsigned fix, BlockReportFunc *report,
              void *opaque);
/* The same for those who want to know more than the lines: which parts of the disk each finding
 * touches and what a repair (@fix) makes of it, and how far it has come. To see what a repair would
 * do, without it, open the image over a "scratch" node and repair that. */
int blk_check_watched(BlockBackend *blk, BlockCheckResult *res, unsigned fix,
                      const BlockCheckWatch *watch);
/* Makes the image's file shorter, in place, while requests to @blk wait: what is free in it is at
 * its end afterwards, and cut off. @flags: BlockCompactFlags. @progress (may be NULL) is called
 * after every few MiB, and may stop it: -ECANCELED, the image is sound, and the next call goes on
 * from there. Takes up to 64 MiB more of the file system meanwhile. An image with errors is
 * refused. 0, or -errno with the reason. */
int coroutine_fn blk_co_compact(BlockBackend *blk, unsigned flags, BlockProgressFunc *progress,
                                void *opaque, GError **errp);
int blk_compact(BlockBackend *blk, unsigned flags, BlockProgressFunc *progress, void *opaque,
                GError **errp);
/* A user of its own of a node in a chain that is open, for writing; blk_close() as ever. What a
 * layer over it does not hold itself changes with it: write what those hold, or drop them. NULL:
 * the node cannot be written. */
BlockBackend *blk_open_layer(BlockDriverState *bs, GError **errp);
/* The disk shows its backing file, everywhere, and the space that it took is free. For when that
 * one, which is flushed before, holds the same: what the guest sees does not change then, not even
 * by a loss of power in the middle. Waits until nothing else runs on @blk. -ENOTSUP: the format
 * cannot. */
int coroutine_fn blk_co_make_empty(BlockBackend *blk);
int blk_make_empty(BlockBackend *blk);
/* As bdrv_co_block_status_above(), of @layer (NULL: the root, else one of its chain), counted like
 * any request. And the plain forms. */
int coroutine_fn blk_co_block_status_above(BlockBackend *blk, BlockDriverState *layer,
                                           BlockDriverState *base, int64_t offset, int64_t bytes,
                                           int64_t *pnum, int64_t *map, BlockDriverState **file,
                                           int *depth);
int coroutine_fn blk_co_is_allocated(BlockBackend *blk, int64_t offset, int64_t bytes,
                                     int64_t *pnum);
int blk_block_status_above(BlockBackend *blk, BlockDriverState *layer, BlockDriverState *base,
                           int64_t offset, int64_t bytes, int64_t *pnum, int64_t *map,
                           BlockDriverState **file, int *depth);
int blk_is_allocated(BlockBackend *blk, int64_t offset, int64_t bytes, int64_t *pnum);

/* Waits until no request to @blk is in flight; new ones may begin at once. Not from a coroutine. */
void blk_drain(BlockBackend *blk);
/* off: each change is on stable storage before it ends (FUA). Any thread, also while requests run;
 * those that have begun keep what they began with. */
bool blk_write_cache(BlockBackend *blk);
void blk_set_write_cache(BlockBackend *blk, bool on);

/* ---- Nodes, to show them ---- */

typedef struct BlockNodeFacts {
    const char *filename;                      /* what a person sees: plain, or json:{} */
    const char *exact_filename;                /* plain, or "" */
    const char *driver;                        /* its format's name */
    const char *backing_file, *backing_format; /* as the image says; NULL: none */
    int64_t length;
    unsigned features; /* BlockFeature */
    bool is_format, encrypted;
    unsigned children;
    uint32_t alignment; /* of requests that need no reading before */
} BlockNodeFacts;
/* The texts are the node's, until the graph changes or the image is closed. */
BlockNodeFacts blk_node_facts(BlockDriverState *bs);
/* A child and its name; @n < children. *@is_file: not a backing file, nor one of data only. */
BlockDriverState *blk_node_child(BlockDriverState *bs, unsigned n, const char **name,
                                 bool *is_file);
/* The opened backing file, below filters; NULL: none. */
BlockDriverState *blk_node_backing(BlockDriverState *bs);
/* Of BlockSnapshotInfo; g_array_unref(). */
GArray *blk_list_snapshots(BlockDriverState *bs);
/* Internal snapshots, as BlockSnapshotOps (block/driver.h) has them: requests run meanwhile, but
 * for instants (a load is alone on the image); what needs the image alone waits. */
int coroutine_fn blk_co_snapshot_create(BlockBackend *blk, const BlockSnapshotInfo *info,
                                        GError **errp);
int coroutine_fn blk_co_snapshot_apply(BlockBackend *blk, const char *id_or_name, GError **errp);
int coroutine_fn blk_co_snapshot_delete(BlockBackend *blk, const char *id, const char *name,
                                        GError **errp);
int coroutine_fn blk_co_snapshot_load(BlockBackend *blk, const char *id, const char *name,
                                      GError **errp);
int blk_snapshot_create(BlockBackend *blk, const BlockSnapshotInfo *info, GError **errp);
int blk_snapshot_apply(BlockBackend *blk, const char *id_or_name, GError **errp);
int blk_snapshot_delete(BlockBackend *blk, const char *id, const char *name, GError **errp);
int blk_snapshot_load(BlockBackend *blk, const char *id, const char *name, GError **errp);
/* BlockFeature of a format; -1: there is no such format. */
int blk_format_features(const char *format);
int blk_get_info(BlockDriverState *bs, BlockDriverInfo *info);
Options *blk_get_specific_info(BlockDriverState *bs, GError **errp);
int64_t blk_allocated_size(BlockDriverState *bs);
/* Just after its creation: does it read zero, a backing file aside? */
bool blk_unwritten_reads_zero(BlockDriverState *bs);
const char *blk_driver_name(BlockDriverState *bs);
/* Full name of the backing file as opened or to be opened; NULL: none. g_free(). */
char *blk_backing_path(BlockDriverState *bs, GError **errp);

/* Create an image: @format with @opts (consumed; "size", "backing_file" … as -o names them). */
int blk_create(const char *filename, const char *format, Options *opts, GError **errp);
/* What `create` of the tool does: also checks the backing file, takes its size when none is given,
 * validates names.
 * @size < 0: not given. @opts consumed; on success *ret_opts (may be NULL) holds the complete
 * options for "Formatting …". */
typedef struct BlockCreateParams {
    const char *filename, *format;
    const char *base_filename, *base_format; /* -b, -F */
    int64_t size;
    bool no_backing_open; /* -u */
    Options *opts;
} BlockCreateParams;
/* *@ret_opts is set on failure too when only the creation itself failed ("Formatting" is printed
 * before). */
bool blk_create_image(BlockCreateParams *params, Options **ret_opts, GError **errp);
/* How long would the file of an image be that @format makes by @opts (consumed), with what @src
 * (NULL: nothing, and "size" of @opts is the disk's) shows in it? 0 or -errno with @errp set. */
int coroutine_fn blk_co_measure(const char *format, Options *opts, BlockBackend *src,
                                BlockMeasureInfo *info, GError **errp);
int blk_measure(const char *format, Options *opts, BlockBackend *src, BlockMeasureInfo *info,
                GError **errp);
/* The options that a format and its protocol take, each once, for `-o help`; ends with name ==
 * NULL. g_free(). NULL: the format is unknown or cannot create. */
BlockCreateOption *blk_create_options(const char *filename, const char *format, GError **errp);

/* Whether @opts hold nothing but these, with values that they take. */
bool blk_check_create_options(const char *filename, const char *format, const Options *opts,
                              GError **errp);

/* Persistent bitmaps: bitmap-ops.h. Requests wait meanwhile. */
int blk_bitmap_change(BlockBackend *blk, const BlockBitmapChange *change, GError **errp);
/* What it says; @data->bits is the caller's (dirty_bits_unref). */
int blk_bitmap_read(BlockBackend *blk, const char *name, BlockBitmapData *data, GError **errp);
/* BlockBitmapInfo; g_array_unref(). NULL and @errp set. */
GArray *blk_bitmap_list(BlockBackend *blk, GError **errp);
bool blk_bitmap_can_store(BlockBackend *blk);

/* Debug (blkdebug below): 0 or -errno. */
int blk_debug_breakpoint(BlockBackend *blk, const char *event, const char *tag);
int blk_debug_remove_breakpoint(BlockBackend *blk, const char *tag);
int blk_debug_resume(BlockBackend *blk, const char *tag);
bool blk_debug_is_suspended(BlockBackend *blk, const char *tag);

/* cache=none|writeback|writethrough|directsync|unsafe and discard=, as -t and -d read them; false:
 * unknown. */
bool blk_parse_cache_mode(const char *mode, int *flags, bool *writethrough);
bool blk_parse_discard(const char *mode, int *flags);
/* aio=threads|native|io_uring, as -i reads it; false: unknown. */
bool blk_parse_aio(const char *mode, int *flags);
/* A "filename" is relative to its image's folder: the rule of backing files. g_free(). */
char *blk_path_combine(const char *base, const char *filename);
/* List of format names, sorted, for messages and --help; g_strfreev. */
char **blk_format_names(void);

#endif
