/* SPDX-License-Identifier: MIT */
/*
 * What the core keeps of each node, for the rooms beside this file; no driver sees it. The rooms,
 * each of which calls those before it only: request/ (one gate for each operation on a node),
 * graph/ (nodes, edges, permissions, names), driver/ (tables, defaults, probing), open/ (from names
 * and options to nodes), backend/ (the users' side).
 *
 * INV-CORE-1  The graph changes at open and close only; I/O goes down it without a lock. (Up, from
 *             a node to its parents, which come and go: INV-GRAPH-1.)
 * INV-CORE-2  Requests in flight are counted once, at the BlockBackend: its subtree needs no count.
 * INV-CORE-3  A node with request_alignment == 1 tracks no requests, but those that INV-GUARD-1
 *             says; else every write is tracked.
 */
#ifndef BLOCK_CORE_H
#define BLOCK_CORE_H

#include "block/io.h"

#define PROBE_BYTES 512
/* Lengths of nodes are whole sectors, as the reference's: what a file lacks of its last reads
 * zero. */
#define LENGTH_UNIT INT64_C(512)

enum { BDRV_DETECT_ZEROES_OFF, BDRV_DETECT_ZEROES_ON, BDRV_DETECT_ZEROES_UNMAP };

typedef struct TrackedReq TrackedReq;
typedef struct BlockPolicy BlockPolicy;

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

#endif
