/* SPDX-License-Identifier: MIT */
/*
 * What a block driver implements (BlockDriver) and what it may touch of a node
 * (BlockDriverState, BdrvChild).  A driver includes this, block/io.h and util/, no more.
 *
 * coroutine_fn callbacks run in the coroutine of the request, in whatever
 * AioContext that has; several contexts may call at a time, so a driver locks
 * what it shares.  I/O returns 0 or a negative errno.  The core has checked
 * range, alignment (limits.request_alignment) and permission before a call,
 * and has split the request to the limits.
 */
#ifndef BLOCK_DRIVER_H
#define BLOCK_DRIVER_H

#include "block/bitmap-ops.h"
#include "block/common.h"
#include "block/debug-event.h"
#include "util/aio.h"
#include "util/co-lock.h"
#include <stdatomic.h>

DRIVER_API_BEGIN

typedef enum BdrvRole {
    BDRV_ROLE_FILE,    /* primary: data and metadata of a format; filtered child of a filter */
    BDRV_ROLE_DATA,    /* data only (external data file) */
    BDRV_ROLE_BACKING, /* read where this node is unallocated */
} BdrvRole;

typedef struct BdrvParentOps BdrvParentOps; /* core's own */

struct BdrvChild {
    BlockDriverState *bs;
    char *name; /* "file", "backing", "data-file", "root" */
    BdrvRole role;
    BlockDriverState *parent;      /* NULL: held from outside of the graph, by @owner */
    _Atomic unsigned perm, shared; /* BlockPerm; requests look while others change them */
    const BdrvParentOps *ops;      /* of a BlockBackend, a job ...; NULL: it sends no requests */
    void *owner;
    /* The file of an image that was guessed to be raw: may its first bytes become @head? Else
     * NULL. Core's own. */
    bool (*guard)(const BdrvChild *c, const uint8_t *head, size_t len);
};

struct BlockDriverState {
    const BlockDriver *drv;
    void *opaque;         /* drv->instance_size bytes, zeroed before open */
    char *node_name;      /* generated "#blockNNN" if not given */
    char *filename;       /* what a person sees: plain, or json:{} */
    char *exact_filename; /* plain filename, or "" */
    char *
        warning; /* set by open: it went well, but not as the user wants it; NULL: nothing to say */
    int open_flags; /* BlockOpenFlags */
    bool read_only;
    bool probed;               /* format was guessed */
    Options *options;          /* as given, with driver and children */
    BdrvChild *file, *backing; /* of children */
    GPtrArray *children;       /* BdrvChild *, owned */
    BlockLimits limits;
    _Atomic int64_t total_bytes; /* cached length; drivers keep it through truncate */
    /* From the image, set by co_open of a format: */
    char *backing_file; /* as stored; NULL: none */
    char *backing_format;
    unsigned supported_write_flags; /* BLK_REQ_FUA … that co_pwritev handles itself */
    unsigned supported_zero_flags;
    unsigned supported_truncate_flags;
    bool encrypted;
    bool debug_below; /* this node or one under it through bs->file takes debug events */
    /* Core's own: */
    atomic_int refcnt;
    uint8_t detect_zeroes; /* BDRV_DETECT_ZEROES_* */
    _Atomic unsigned tracked; /* so many asked for all requests to be; grows under a drain */
    atomic_bool unsynced;  /* a write ended since the last sync to disk began, or none began yet */
    struct BdrvCore *core; /* request tracking, parents, wait queues; private to block/ */
};

/* Holds all requests to a node back: none is in flight from co_begin to end. Not nested. */
typedef struct BlockHold {
    void coroutine_fn (*co_begin)(void *opaque);
    void (*end)(void *opaque);
    void *opaque;
} BlockHold;

/*
 * Internal snapshots: states of the disk (and of a machine) that an image keeps in itself. Guest
 * requests (reads, writes, zeroes, discards, flushes) run meanwhile, but for instants for which
 * the driver takes @hold; nothing else is done to the image. A snapshot is of one instant between
 * the call and the return, and so is the change of the disk to one. On failure the image is as it
 * was, at worst with leaks.
 */
typedef struct BlockSnapshotOps {
    /* Of the disk as it is now. @info->id "" or NULL: the image finds one. On stable storage when
     * it returns. */
    int coroutine_fn (*co_create)(BlockDriverState *bs, const BlockSnapshotInfo *info,
                                  const BlockHold *hold, GError **errp);
    /* The disk becomes what the snapshot (its id, or else its name) holds, its size too. */
    int coroutine_fn (*co_apply)(BlockDriverState *bs, const char *id_or_name,
                                 const BlockHold *hold, GError **errp);
    /* The first that has @id and @name, each if not NULL. -ENOENT: there is none. */
    int coroutine_fn (*co_delete)(BlockDriverState *bs, const char *id, const char *name,
                                  const BlockHold *hold, GError **errp);
    /* The same one is what a read-only node shows from now on. Alone on the image. */
    int coroutine_fn (*co_load)(BlockDriverState *bs, const char *id, const char *name,
                                GError **errp);
} BlockSnapshotOps;

/* Begins every table. A driver that was compiled for another version is refused; one whose table
 * is shorter lacks what was added at the end since. */
#define BLOCK_DRIVER_VERSION 3
#define BLOCK_DRIVER_TABLE .version = BLOCK_DRIVER_VERSION, .table_size = sizeof(BlockDriver)

/* Callbacks that a driver leaves NULL are filled in when it registers (block/driver/defaults.c):
 * those of a filter pass the operation on to bs->file. */
struct BlockDriver {
    unsigned version;
    size_t table_size;
    const char *format_name;
    const char *protocol_name; /* "file": answers file:…; NULL: a format */
    size_t instance_size;
    bool is_filter; /* passes data of bs->file unchanged */
    bool is_format;
    bool supports_backing;
    bool read_only;    /* has no co_pwritev; opens for writing are refused */
    unsigned features; /* BlockFeature; of the registered table, core's own */

    /* Confidence 0..100 that the first bytes are this format. */
    int (*probe)(const uint8_t *buf, size_t len, const char *filename);
    /* "proto:rest" into options; removes "filename" if it consumed it. */
    bool (*parse_filename)(const char *filename, Options *options, GError **errp);

    /* Take own options out of @options (what is left is refused by the core, children's
     * subtrees are opened with bdrv_co_open_child()). */
    int coroutine_fn (*co_open)(BlockDriverState *bs, Options *options, int flags, GError **errp);
    /* After the core's flush: writes what is left to write and frees all. The node is closed
     * whatever it returns: 0, or -errno for what could not be written. The core closes the children
     * after it. Called after a failed co_open too (read_only is set then): takes whatever state
     * that left. */
    int coroutine_fn (*co_close)(BlockDriverState *bs);
    void (*refresh_limits)(BlockDriverState *bs);
    /* Other options and flags for a node that stays. prepare, under a drain, does all that can
     * fail, and leaves the node as it is: takes out of @options (all that the node is to have) what
     * can be changed, and has in *@state what commit or abort, one of which follows, needs.
     * Children have prepared before their parents, and commit before them. Without it: filters have
     * nothing to do, others refuse. */
    int coroutine_fn (*co_reopen_prepare)(BlockDriverState *bs, Options *options, int flags,
                                          void **state, GError **errp);
    void (*reopen_commit)(BlockDriverState *bs, void *state);
    void (*reopen_abort)(BlockDriverState *bs, void *state);
    /* Protocols: @perm is held and @shared is let to others (BlockPerm; locks on the file). Called
     * before the first I/O and at each change; on failure the old locks still hold. Without it:
     * nothing to do. */
    int (*set_perm)(BlockDriverState *bs, unsigned perm, unsigned shared, GError **errp);

    /* What a child must give and may let others do, for parents of this node that hold @perm and
     * share
     * @shared. Without it: filters pass both on; formats guard their file, share their backing
     * file. */
    void (*child_perm)(BlockDriverState *bs, BdrvRole role, unsigned perm, unsigned shared,
                       unsigned *child_perm, unsigned *child_shared);
    /* Options that change what the guest sees (NULL-terminated): a node with one has no plain
     * filename. */
    const char *const *strong_options;

    const BlockCreateOption *create_options;
    /* @filename is without protocol prefix for a protocol driver. Takes what it knows of @opts
     * ("size" among them). 0, or -errno; protocols: 1 when nothing was there before, so that it can
     * be removed after a later failure. On failure nothing is there that was not before. */
    int coroutine_fn (*co_create)(const char *filename, Options *opts, GError **errp);
    /* Is it certain that what nobody has written, since co_create made the node or past its end,
     * reads zero (a backing file aside)? Without it: what bs->file says, for filters; else no. No
     * I/O: for what is not created anew, the question means nothing. */
    bool (*unwritten_reads_zero)(BlockDriverState *bs);
    /* Protocols: take back what co_create made (@filename as there); -ENOTSUP: it is no file of its
     * own. */
    int (*remove)(const char *filename);

    int coroutine_fn (*co_preadv)(BlockDriverState *bs, int64_t offset, IOVector *v,
                                  unsigned flags);
    int coroutine_fn (*co_pwritev)(BlockDriverState *bs, int64_t offset, IOVector *v,
                                   unsigned flags);
    /* -ENOTSUP: the core writes a zero buffer. */
    int coroutine_fn (*co_pwrite_zeroes)(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                         unsigned flags);
    int coroutine_fn (*co_pdiscard)(BlockDriverState *bs, int64_t offset, int64_t bytes);
    /* @bytes == 0: the end mark (pad and finish). Whole clusters but for the image's tail. */
    int coroutine_fn (*co_pwritev_compressed)(BlockDriverState *bs, int64_t offset, IOVector *v);
    /* A copy that need not pass through memory: writes to @dst by bdrv_co_...() or by means of the
     * two drivers' own. -ENOTSUP: the core reads and writes. */
    int coroutine_fn (*co_copy_range)(BlockDriverState *bs, int64_t offset, BdrvChild *dst,
                                      int64_t dst_offset, int64_t bytes, unsigned flags);
    /* Returns BlockStatus bits or -errno; *pnum > 0, <= bytes. */
    int coroutine_fn (*co_block_status)(BlockDriverState *bs, bool want_zero, int64_t offset,
                                        int64_t bytes, int64_t *pnum, int64_t *map,
                                        BlockDriverState **file);
    /* Caches of the driver to its children (no fsync of the last step: the core
     * flushes bs->file and data children after it). */
    int coroutine_fn (*co_flush_to_os)(BlockDriverState *bs);
    /* Protocols: to stable storage. */
    int coroutine_fn (*co_flush_to_disk)(BlockDriverState *bs);
    int coroutine_fn (*co_truncate)(BlockDriverState *bs, int64_t bytes, bool exact,
                                    BlockPrealloc prealloc, unsigned flags, GError **errp);
    /* The same while guest requests run, but for instants for which the driver takes @hold; nothing
     * else is done to the image. What is new reads zero when it returns. -ENOTSUP, with nothing
     * changed: not this way (the core holds requests back and calls co_truncate). */
    int coroutine_fn (*co_truncate_beside)(BlockDriverState *bs, int64_t bytes, bool exact,
                                           BlockPrealloc prealloc, const BlockHold *hold,
                                           GError **errp);
    int64_t coroutine_fn (*co_getlength)(BlockDriverState *bs);
    int64_t coroutine_fn (*co_get_allocated_size)(BlockDriverState *bs); /* on the host */

    /* A machine's state, beside the disk: @v to (@save) or from byte @pos of it. Guest requests run
     * meanwhile, but no other save, nor what else changes the image. */
    int coroutine_fn (*co_vmstate)(BlockDriverState *bs, int64_t pos, IOVector *v, bool save);

    int coroutine_fn (*co_check)(BlockDriverState *bs, BlockCheckResult *res, unsigned fix,
                                 const BlockCheckWatch *watch);
    /* Makes the image's file as short as what it holds lets it be, in place (BlockCompactFlags).
     * Alone on the image. What the guest, snapshots and bitmaps hold stays the same at any instant
     * (a loss of power leaves leaks, which the next run gives back), and so it may stop, and go on,
     * anywhere. -ECANCELED: @progress (may be NULL) wanted it to. */
    int coroutine_fn (*co_compact)(BlockDriverState *bs, unsigned flags,
                                   BlockProgressFunc *progress, void *opaque, GError **errp);
    /* The whole disk shows the backing file, whose content the caller has made the same, so that
     * what the guest sees does not change at any instant of it; the space goes. Alone on the
     * image. -ENOTSUP: not this image. */
    int coroutine_fn (*co_make_empty)(BlockDriverState *bs);
    int (*get_info)(BlockDriverState *bs, BlockDriverInfo *info);
    /* Typed keys for info's "format-specific" data ("compression-type"); NULL: none. g_free by
     * opts_free. */
    Options *(*get_specific_info)(BlockDriverState *bs, GError **errp);

    /* Of BlockSnapshotInfo; g_array_unref(). */
    GArray *(*list_snapshots)(BlockDriverState *bs);
    const BlockSnapshotOps *snapshot; /* none of its callbacks is NULL */

    /* The image names @file as its backing file from now on (NULL: none), of @format (NULL: it is
     * guessed). Nothing is opened, and what the image shows above it is the caller's matter. Alone
     * on the image; on stable storage when it returns. -ENOTSUP: images of the format have none. */
    int coroutine_fn (*co_change_backing_file)(BlockDriverState *bs, const char *file,
                                               const char *format, GError **errp);
    /* Other values for what a creation chose, as far as amend_options (which ends with name ==
     * NULL) have it; takes them out of @opts. Alone on the image, which is valid at every instant.
     * What is refused is refused before anything changes. */
    const BlockCreateOption *amend_options;
    int coroutine_fn (*co_amend)(BlockDriverState *bs, Options *opts, const BlockAmend *how,
                                 GError **errp);

    const BlockBitmapOps *bitmaps;

    /* blkdebug; filters without own form pass to bs->file. */
    void coroutine_fn (*co_debug_event)(BlockDriverState *bs, BlkdebugEvent event);
    int (*debug_breakpoint)(BlockDriverState *bs, const char *event, const char *tag);
    int (*debug_remove_breakpoint)(BlockDriverState *bs, const char *tag);
    int (*debug_resume)(BlockDriverState *bs, const char *tag);
    bool (*debug_is_suspended)(BlockDriverState *bs, const char *tag);

    /* How long would the file of an image be that co_create makes by @opts (completed), and that
     * gets what @src (NULL: nothing) shows? Takes what it knows of @opts; "size" is the disk's
     * where there is no source. Nothing is created or written. */
    int coroutine_fn (*co_measure)(Options *opts, BlockDriverState *src, BlockMeasureInfo *info,
                                   GError **errp);
};

/* Registration: block/drivers.c lists every driver, one line each. A driver from elsewhere (a
 * test's, an embedder's, a loaded module's) adds itself before it is named. The table is copied;
 * its strings and functions must live as long as the process. Any thread. False: the table is of
 * another version, lacks what no driver can do without, or its name is taken. */
bool block_register_driver(const BlockDriver *drv, GError **errp);
const BlockDriver *bdrv_find_format(const char *name);
const BlockDriver *bdrv_find_protocol(const char *filename);

DRIVER_API_END

#endif
