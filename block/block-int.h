/* SPDX-License-Identifier: MIT */
/*
 * What the files of the core share among themselves; no driver sees it.
 *
 * INV-CORE-1  The graph changes at open and close only; I/O goes down it without a lock. (Up, from
 *             a node to its parents, which come and go: INV-GRAPH-1.)
 * INV-CORE-2  Requests in flight are counted once, at the BlockBackend: its subtree needs no count.
 * INV-CORE-3  A node with request_alignment == 1 tracks no requests, but those that INV-GUARD-1
 * says; else every write is tracked.
 */
#ifndef BLOCK_BLOCK_INT_H
#define BLOCK_BLOCK_INT_H

#include "block/backend.h"
#include "block/io.h"
#include "policy-int.h"

#define PROBE_BYTES 512
/* Lengths of nodes are whole sectors, as the reference's: what a file lacks of its last reads
 * zero. */
#define LENGTH_UNIT INT64_C(512)

enum { BDRV_DETECT_ZEROES_OFF, BDRV_DETECT_ZEROES_ON, BDRV_DETECT_ZEROES_UNMAP };

typedef struct TrackedReq TrackedReq;

typedef struct BdrvCore {
    SpinLock lock;
    TrackedReq *head, **tail; /* writes in order of arrival; lock */
    CoQueue track_queue;      /* lock */
    CoMutex sync_lock;        /* one co_flush_to_disk at a time */
    GPtrArray *parents;       /* BdrvChild *; under the graph's lock (INV-GRAPH-1) */
    BdrvChild *pending_file;  /* opened for probing, not yet claimed by the driver's open */
    BlockDriverState *opener; /* while opening: who opens this as backing file; else NULL */
    int depth;                /* nodes above it in the graph, while opening */
    int layer;                /* images above it in its chain */
    int open_fd;              /* while opening a protocol: stands for the file; -1: none */
    BlockPolicy *policy;      /* of its root; NULL: none */
    uint64_t dev, ino;        /* of a backing chain's file; 0: unknown */
    bool handed_over;         /* a protocol whose file came as a descriptor */
    bool named;               /* node_name is in the table of names */
    atomic_bool opened; /* whole; until then nobody finds it by its name, itself least of all */
    bool backing_overridden; /* by options: not what the image says */
} BdrvCore;

/* One cache line of a counter that many threads change. */
#define BLK_STRIPES 16
#define BLK_QUIESCED (1 << 30) /* in a count: a drain is on */
typedef struct BlkStripe {
    atomic_int n;
    char pad[64 - sizeof(atomic_int)];
} BlkStripe;

struct BlockBackend {
    BdrvChild *root;
    BlockDriverState *bs; /* == root->bs */
    bool writable;
    BlockReportFunc *report; /* set before requests run */
    void *report_opaque;
    atomic_bool writethrough;
    CoMutex exclusive;    /* INV-DRAIN-2 */
    SpinLock lock;        /* of the next four */
    bool shut;            /* closed, or about to be: requests are refused */
    int quiesce;          /* drains that hold requests back */
    CoQueue idle_queue;   /* who drains */
    CoQueue resume_queue; /* requests held back */
    _Alignas(64) BlkStripe in_flight[BLK_STRIPES];
};

/* ---- driver-defaults.c ---- */
/* Fills in the callbacks that @drv leaves NULL, and its features. */
void bdrv_driver_complete(BlockDriver *drv);

/* ---- registry.c ---- */
const BlockDriver *bdrv_find_driver(const char *name); /* format or protocol, by format_name */
/* Best guess from the first bytes. NULL: a format that has no driver here, *foreign is its name. */
const BlockDriver *bdrv_probe(const uint8_t *buf, size_t len, const char *filename,
                              const char **foreign);

/* ---- foreign.c ---- */
/* The same for formats without a driver: a name, or NULL with *score 0. */
const char *bdrv_probe_foreign(const uint8_t *buf, size_t len, const char *filename, int *score);

/* For a name without a protocol: file, or host_device. */
const BlockDriver *bdrv_plain_file_driver(const char *filename);
bool bdrv_is_protocol_driver(const BlockDriver *drv);

/* ---- graph.c ---- */
/* INV-GRAPH-1; never held over a yield. */
void bdrv_graph_lock(void);
void bdrv_graph_unlock(void);
/* In a child, the names are of the parent's nodes. */
void bdrv_graph_after_fork(bool child);
void bdrv_names_forget(void);
BlockDriverState *bdrv_new(void);
BlockDriverState *bdrv_ref(BlockDriverState *bs);
/* The last reference closes the node and what only it holds, whatever fails: 0, or the first error
 * of what had to be written. NULL is fine. */
int coroutine_fn bdrv_co_unref(BlockDriverState *bs);
/* Takes over the reference @bs. NULL and the reference dropped if the permissions are refused. */
BdrvChild *coroutine_fn bdrv_co_attach(BlockDriverState *parent, BlockDriverState *bs,
                                       const char *name, BdrvRole role, GError **errp);
BdrvChild *bdrv_root_attach(BlockDriverState *bs, unsigned perm, unsigned shared, GError **errp);
/* Drops the edge and its reference; as bdrv_co_unref(). NULL is fine. */
int coroutine_fn bdrv_co_detach(BdrvChild *c);

/* ---- perm.c ---- */
/* Recompute what @bs's parents hold, tell the driver, and go on to its children; undone on
 * failure. This, the next and the last under the graph's lock. */
bool bdrv_refresh_perms(BlockDriverState *bs, GError **errp);
bool bdrv_change_perm(BdrvChild *c, unsigned perm, unsigned shared, GError **errp);
bool bdrv_child_set_perm(BdrvChild *c, unsigned perm, unsigned shared, GError **errp);
void bdrv_default_child_perm(BdrvChild *c, unsigned perm, unsigned shared);

/* ---- open.c, open-opts.c ---- */
typedef struct OpenRequest {
    const char *filename; /* may be NULL */
    Options *options;     /* owned by the callee */
    int flags;
    BlockDriverState *opener; /* of a backing file */
    int depth;           /* of nodes; a graph of an image's making must not exhaust the stack */
    int layer;           /* of images in a chain */
    int fd_plus_1;       /* descriptor that stands for the file, taken over; 0: none */
    BlockPolicy *policy; /* inherited; NULL at a root */
    BlockOpenReference *open_reference; /* at a root: the user's */
    void *opaque;
} OpenRequest;
BlockDriverState *coroutine_fn bdrv_co_open_node(OpenRequest *req, GError **errp);
/* As a root that a user holds, with the permissions that the flags ask for. */
BdrvChild *coroutine_fn bdrv_co_open_root_request(OpenRequest *req, GError **errp);
/* The same for BLK_O_TEMPORARY. */
BlockDriverState *coroutine_fn bdrv_co_open_temporary(OpenRequest *req, GError **errp);
/* Options that every node has, out of @options into @bs and *flags. */
bool bdrv_take_common_options(BlockDriverState *bs, Options *options, int *flags, GError **errp);
/* Flags of a child, by its role. */
int bdrv_child_flags(BlockDriverState *parent, int flags, BdrvRole role);
void bdrv_refresh_limits(BlockDriverState *bs);
int64_t coroutine_fn bdrv_co_refresh_length(BlockDriverState *bs);

/* ---- backing.c ---- */
int coroutine_fn bdrv_co_open_backing(BlockDriverState *bs, Options *backing, const char *reference,
                                      int flags, GError **errp);
/* Fails when @bs's file is also that of a node above it in the chain, or the chain is too deep. */
bool bdrv_check_chain(BlockDriverState *bs, GError **errp);

/* @reference as @bs's image names it, as a path (relative ones start at the image's folder);
 * g_free(). */
char *bdrv_reference_path(BlockDriverState *bs, const char *reference, GError **errp);
/* The name at the bottom of the image, whose folder relative names start from; NULL: none. */
const char *bdrv_name_for_paths(BlockDriverState *bs);

/* ---- filename.c ---- */
/* Length of the protocol prefix of @path, without the ':'; 0: none. */
size_t bdrv_protocol_prefix(const char *path);
/* "json:{}" into @options (which win); false on bad text. */
bool bdrv_parse_json_filename(const char *filename, Options *options, GError **errp);

/* ---- names.c ---- */
bool bdrv_name_register(BlockDriverState *bs, const char *name, GError **errp);
void bdrv_name_unregister(BlockDriverState *bs);
BlockDriverState *bdrv_name_lookup(const char *name); /* a new reference, or NULL */
/* filename and exact_filename, once open. @given: what the user typed, may be NULL. */
void bdrv_refresh_filename(BlockDriverState *bs, const char *given);

/* ---- io-read.c, io-write.c, io-zero.c, io-discard.c: the gates, for @bs itself ---- */
int coroutine_fn bdrv_co_read_gate(BlockDriverState *bs, int64_t offset, IOVector *v,
                                   unsigned flags);
int coroutine_fn bdrv_co_zero_unguarded(BdrvChild *c, int64_t offset, int64_t bytes,
                                        unsigned flags);
int coroutine_fn bdrv_co_write_gate(BdrvChild *c, int64_t offset, IOVector *v, unsigned flags);
int bdrv_check_range(int64_t offset, int64_t bytes);
/* Permission and end-of-file rules of a write; 0 or -errno. */
int bdrv_check_write(BdrvChild *c, int64_t offset, int64_t bytes);
/* Through an aligned buffer, the ends read first; the range is tracked by the caller. @v NULL:
 * zeroes. */
int coroutine_fn bdrv_co_write_bounce(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      const IOVector *v, unsigned flags);
/* The length that a write, which ended with @ret, gave the node. */
void coroutine_fn bdrv_co_write_grew(BlockDriverState *bs, int64_t end, int ret);
/* After a write: length, unsynced, FUA by flush. */
int coroutine_fn bdrv_co_write_done(BlockDriverState *bs, int64_t end, int ret, bool fua);

/* ---- io-track.c ---- */
struct TrackedReq {
    int64_t start, end;
    bool serialising;
    TrackedReq *next, **prev;
};
/* Queue behind earlier requests that conflict (overlap, and one of the two serialises). */
void coroutine_fn bdrv_co_track_begin(BlockDriverState *bs, TrackedReq *r, int64_t start,
                                      int64_t end, bool serialising);
void bdrv_track_end(BlockDriverState *bs, TrackedReq *r);

/* ---- guard.c: of a guarded child's file, where a change of it begins within PROBE_BYTES ---- */
typedef struct StartGuard {
    TrackedReq req;
    uint8_t head[PROBE_BYTES]; /* as it is to be */
} StartGuard;
/* May [offset, offset + bytes) become @v (NULL: zeroes)? -EPERM: no. On success the first block is
 * the caller's alone until bdrv_guard_end(), and what of @v lies in it is to be taken from head. */
int coroutine_fn bdrv_co_guard_begin(BdrvChild *c, StartGuard *g, int64_t offset, int64_t bytes,
                                     const IOVector *v);
void bdrv_guard_end(BdrvChild *c, StartGuard *g);

/* ---- drain.c ---- */
int coroutine_fn blk_co_enter_slow(BlockBackend *blk);
/* Those that are held back, or come, get -ESHUTDOWN from now on; for the close, which follows. */
void coroutine_fn blk_co_refuse_requests(BlockBackend *blk);
void blk_leave_slow(BlockBackend *blk);
int blk_stripe(void);
/* Hold back new requests and wait for the others; the caller's own must not be counted. */
void coroutine_fn blk_co_drain_begin(BlockBackend *blk);
void blk_drain_end(BlockBackend *blk);

/* The same for who changes what all requests rely on: one at a time. */
void coroutine_fn blk_co_alone_begin(BlockBackend *blk);
void coroutine_fn blk_co_alone_end(BlockBackend *blk);

/* 0: the request is counted, and leaves by blk_leave(); -ESHUTDOWN: it is not, the image is being
 * closed. */
static inline int coroutine_fn blk_co_enter(BlockBackend *blk)
{
    if (unlikely(atomic_fetch_add(&blk->in_flight[blk_stripe()].n, 1) >= BLK_QUIESCED / 2)) {
        return blk_co_enter_slow(blk);
    }
    return 0;
}

static inline void blk_leave(BlockBackend *blk)
{
    atomic_int *n = &blk->in_flight[blk_stripe()].n;
    int old = atomic_load_explicit(n, memory_order_relaxed);

    while (likely(old < BLK_QUIESCED / 2)) {
        if (likely(atomic_compare_exchange_weak(n, &old, old - 1))) {
            return; /* @blk may be gone */
        }
    }
    blk_leave_slow(blk);
}

/* For a node itself, not a child: bdrv_co_debug_event. */
void coroutine_fn bdrv_co_debug_event_bs(BlockDriverState *bs, BlkdebugEvent event);

#endif
