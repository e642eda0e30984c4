/* SPDX-License-Identifier: MIT */
/* Flags and plain structs that users and drivers of the block layer share.
 * Offsets and lengths are bytes. */
#ifndef BLOCK_COMMON_H
#define BLOCK_COMMON_H

#include "util/compiler.h"
#include "util/error.h"
#include "util/iov.h"
#include "util/opts.h"

typedef struct BlockDriver BlockDriver;
typedef struct BlockDriverState BlockDriverState;
typedef struct BdrvChild BdrvChild;
typedef struct BlockBackend BlockBackend;

typedef enum BlockOpenFlags {
    BLK_O_RDWR = 1 << 0,
    BLK_O_NOCACHE = 1 << 1,       /* O_DIRECT */
    BLK_O_NO_FLUSH = 1 << 2,      /* cache=unsafe: flush ends in the format layer */
    BLK_O_NO_BACKING = 1 << 3,    /* do not open the backing chain */
    BLK_O_FORCE_SHARE = 1 << 4,   /* -U: others may write; read-only only */
    BLK_O_CHECK = 1 << 5,         /* for check: a dirty image is not rebuilt at open */
    BLK_O_UNMAP = 1 << 6,         /* discard=unmap */
    BLK_O_NO_IO = 1 << 7,         /* metadata only: no guest data will be touched (info) */
    BLK_O_PROTOCOL = 1 << 8,      /* internal: open the protocol layer, no format probing */
    BLK_O_RESIZE = 1 << 9,        /* also ask for the resize permission */
    BLK_O_WRITETHROUGH = 1 << 10, /* blk flushes after each write */
    BLK_O_TEMPORARY = 1 << 11,    /* snapshot=on */
    BLK_O_COPY_ON_READ = 1 << 19, /* of a root: what is read of a backing file becomes its own */
    BLK_O_AUTO_RDONLY = 1 << 12,  /* fall back to read-only when writing is refused */
    BLK_O_NO_LINKS =
        1 << 14, /* internal: named by an image under a policy: follow no symbolic link */
    BLK_O_AIO_THREADS = 1 << 15, /* how files do I/O where they are not told, here and below */
    BLK_O_AIO_NATIVE = 1 << 16,
    BLK_O_AIO_URING = 1 << 17,
    BLK_O_AIO = BLK_O_AIO_THREADS | BLK_O_AIO_NATIVE | BLK_O_AIO_URING,
    BLK_O_NO_SHARE =
        1 << 18, /* nobody else may write to any layer meanwhile, even where its format allows it */
} BlockOpenFlags;

/* Values are those of the lock bytes that the reference takes on files
 * (100 + bit for a permission held, 200 + bit for one not shared). */
typedef enum BlockPerm {
    BLK_PERM_CONSISTENT_READ = 1 << 0,
    BLK_PERM_WRITE = 1 << 1,
    BLK_PERM_WRITE_UNCHANGED = 1 << 2,
    BLK_PERM_RESIZE = 1 << 3,
    BLK_PERM_ALL = (1 << 4) - 1,
    BLK_PERM_CHANGE = BLK_PERM_WRITE | BLK_PERM_RESIZE,
} BlockPerm;

typedef enum BlockReqFlags {
    BLK_REQ_FUA = 1 << 0,             /* on stable storage before the return */
    BLK_REQ_MAY_UNMAP = 1 << 1,       /* zero write may deallocate */
    BLK_REQ_NO_FALLBACK = 1 << 2,     /* zero write: -ENOTSUP rather than writing a buffer */
    BLK_REQ_WRITE_UNCHANGED = 1 << 3, /* what reads there already: copy-on-read, commit, stream */
    BLK_REQ_SERIALISING =
        1 << 4, /* nothing that overlaps runs meanwhile, on a node that is tracked */
    BLK_REQ_ZERO_WRITE = 1 << 5, /* truncate: the new area reads zero */
} BlockReqFlags;

typedef enum BlockStatus {
    BLK_DATA = 1 << 0,         /* allocated, reads as data */
    BLK_ZERO = 1 << 1,         /* reads as zero */
    BLK_OFFSET_VALID = 1 << 2, /* *map is a plain offset in *file */
    BLK_RAW = 1 << 3,          /* internal: ask *file at *map */
    BLK_ALLOCATED = 1 << 4,    /* this layer decides */
    BLK_EOF = 1 << 5,          /* ends at the end of the node */
    BLK_RECURSE = 1 << 6,      /* internal: *file may know about zeroes */
    BLK_COMPRESSED = 1 << 7,
} BlockStatus;

/* What a driver has of its own, where users or the core want to know beforehand. */
typedef enum BlockFeature {
    BLK_CAN_CREATE = 1 << 0,
    BLK_CAN_COMPRESS = 1 << 1,
    BLK_CAN_CHECK = 1 << 2,
    BLK_TAKES_EVENTS = 1 << 3, /* of blkdebug */
    BLK_CAN_AMEND = 1 << 4,
    BLK_HAS_BITMAPS = 1 << 8,
} BlockFeature;

typedef enum BlockPrealloc {
    BLK_PREALLOC_OFF,
    BLK_PREALLOC_METADATA,
    BLK_PREALLOC_FALLOC,
    BLK_PREALLOC_FULL,
} BlockPrealloc;
extern const char *const blk_prealloc_names[]; /* NULL-terminated */

typedef struct BlockLimits {
    uint32_t request_alignment; /* power of two, >= 1 */
    bool partial_end;           /* but a write may end within a block where the node ends */
    uint32_t max_transfer;      /* 0: no limit; the core makes it whole blocks, one at least */
    uint32_t opt_transfer;
    int64_t max_pdiscard;
    uint32_t pdiscard_alignment;
    int64_t max_pwrite_zeroes;
    uint32_t pwrite_zeroes_alignment;
    uint32_t min_mem_alignment; /* of buffers */
    uint32_t opt_mem_alignment;
    int max_iov;
} BlockLimits;

typedef struct BlockDriverInfo {
    uint32_t cluster_size; /* 0: none */
    uint32_t subcluster_size;
    bool is_dirty;
    int64_t vm_state_offset;
} BlockDriverInfo;

typedef struct BlockCheckResult {
    int64_t corruptions, leaks, check_errors;
    int64_t corruptions_fixed, leaks_fixed; /* by this check; not in the counts above */
    int64_t image_end_offset;
    int64_t total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
} BlockCheckResult;

/* How long an image's file will be, in bytes. */
typedef struct BlockMeasureInfo {
    /* With what its source holds (or nothing), and tables for all of the disk, as the reference
     * tells. */
    uint64_t required;
    uint64_t exact;           /* the same, but with the tables alone that come to be */
    uint64_t fully_allocated; /* all of the disk written */
    int64_t bitmaps; /* for the source's persistent bitmaps besides; -1: cannot be copied */
} BlockMeasureInfo;

typedef enum BlockCheckFix {
    BLK_FIX_LEAKS = 1,
    BLK_FIX_ERRORS = 2,
} BlockCheckFix;

/* An internal snapshot, as its image tells. */
typedef struct BlockSnapshotInfo {
    const char *id, *name; /* owned by the node, until snapshots change */
    uint64_t vm_state_size;
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec;
    uint64_t icount; /* UINT64_MAX: not known */
} BlockSnapshotInfo;

typedef enum BlockCompactFlags {
    BLK_COMPACT_DEFRAGMENT = 1, /* the guest's order becomes the file's, too */
} BlockCompactFlags;

/* One line of a report, without newline. */
typedef void BlockReportFunc(const char *line, void *opaque);

/* How far something has come, 0 to 1. False: no more of it (-ECANCELED). */
typedef bool BlockProgressFunc(double done, void *opaque);

/* One thing that a check found, in more detail than its line. */
typedef struct BlockFinding {
    const char *what;      /* the line without its "ERROR", or what is wrong: "cluster 6" */
    int64_t guest, length; /* what of the disk it touches; length 0: nothing that is known */
    const char *repair;    /* what repair has made of it: "zeroes", …; NULL: nothing */
} BlockFinding;

/* Who looks on while an image is checked; each function may be NULL. */
typedef struct BlockCheckWatch {
    BlockReportFunc *report; /* the lines */
    void (*found)(const BlockFinding *f, void *opaque);
    BlockProgressFunc *progress; /* false stops a check, but not a repair */
    void *opaque;
} BlockCheckWatch;

/* How an image is amended. */
typedef struct BlockAmend {
    bool force;                  /* also what loses the only way to something (the last key) */
    BlockProgressFunc *progress; /* NULL: nobody asks */
    void *opaque;
} BlockAmend;

typedef enum BlockOptionType {
    BLK_OPT_STRING,
    BLK_OPT_BOOL,
    BLK_OPT_NUMBER,
    BLK_OPT_SIZE
} BlockOptionType;

/* For `create -o help` and validation; an array ends with name == NULL. */
typedef struct BlockCreateOption {
    const char *name;
    BlockOptionType type;
    const char *help;
    const char *def; /* printed default, may be NULL */
} BlockCreateOption;

/* Sizes the embedder may lower; 0 is the default. */
#define BLK_MAX_CHAIN_DEPTH 200

#endif
