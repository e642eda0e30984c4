/* SPDX-License-Identifier: MIT */
/* The engine of convert: from one or more sources, laid end to end, to a target. */
#ifndef TOOLS_COPY_H
#define TOOLS_COPY_H

#include "img.h"
#include "util/co-lock.h"

#define COPY_MAX_WORKERS 16

typedef struct CopySource {
    BlockBackend *blk;
    int64_t start, bytes; /* in the whole */
    int64_t skip;         /* bytes of it that are left out before */
} CopySource;

typedef enum CopyKind {
    PIECE_DATA,
    PIECE_ZERO,
    PIECE_BASE, /* the backing file has the same already */
    PIECE_DIFF, /* the same as data where it differs from the backing file */
} CopyKind;

typedef struct CopyPiece {
    CopyKind kind;
    int64_t offset, bytes;
    bool plain; /* not packed, though the copy is: a cluster that the target holds in part */
    uint64_t ticket;
} CopyPiece;

typedef struct Copy Copy;

/* What to do, filled in by the caller; all in bytes. */
struct Copy {
    CopySource *sources;
    int n_sources;
    int64_t total;
    BlockBackend *target;
    /* The node of the source's chain that is the target's backing file: nothing from there on is
     * copied. NULL with @base_blk: not in the chain, so ranges are compared with @base_blk. */
    BlockDriverState *shared_base;
    BlockBackend *base_blk; /* the target's backing file; NULL: none */
    bool target_has_data;   /* was there before: shows its base only where it has nothing */
    bool reads_zero;        /* the target, where nothing is written */
    bool compress, out_of_order, salvage, quiet;
    int64_t min_sparse; /* unit of zero detection; 0: everything is written */
    int64_t rate;       /* bytes per second; 0: no limit */
    int workers;
    /* Kind and length of what lies at p->offset, p->bytes at most; NULL: as the sources say. */
    int coroutine_fn (*co_classify)(Copy *c, CopyPiece *p);

    /* The engine's own: */
    int64_t piece;   /* bytes that are read at once, at most */
    int64_t cluster; /* unit of compressed writes */
    int64_t work;    /* bytes to read, if they were @counted, for the progress line */
    bool counted;
    int64_t next, done, started_ns, paced;
    uint64_t tickets, turn;
    int running, ret;
    CoMutex hand_out; /* guards next and tickets */
    CoQueue turn_queue;
};

/* Copy it all; false and told on an error. */
bool copy_run(Copy *c);

#endif
