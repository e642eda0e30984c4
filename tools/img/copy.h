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

/* What to do, filled in by the caller; all in bytes. */
typedef struct Copy {
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
} Copy;

/* Copy it all; false and told on an error. */
bool copy_run(Copy *c);

#endif
