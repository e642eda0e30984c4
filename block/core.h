/* SPDX-License-Identifier: MIT */
/*
 * What the core keeps of each node, for the rooms beside this file; no driver sees it. The rooms,
 * each of which calls those before it only: request/ (one gate for each operation on a node),
 * graph/ (nodes, edges, permissions, names), driver/ (tables, defaults, probing), open/ (from names
 * and options to nodes), backend/ (the users' side).
 *
 * INV-CORE-1  The graph changes at open, at close and under a drain; I/O goes down it without a
 *             lock. (Up, from a node to its parents, which come and go: INV-GRAPH-1.)
 * INV-CORE-2  Requests in flight are counted once, where they enter the graph: at the BlockBackend,
 *             or at the node whose own they are. What lies below needs no count.
 * INV-CORE-3  A node with request_alignment == 1 tracks no requests unless it is asked to
 *             (bdrv_co_track_requests): then reads and changes are. Else every change is tracked.
 */
#ifndef BLOCK_CORE_H
#define BLOCK_CORE_H

#include "block/io.h"
#include "util/thread-mutex.h"

/* Of a file, what drivers see to know their format by; a guessed image's guard watches over it. The
 * formats that the reference knows need 512 bytes. */
#define PROBE_BYTES 4096
/* Lengths of nodes are whole sectors, as the reference's: what a file lacks of its last reads
 * zero. */
#define LENGTH_UNIT INT64_C(512)

enum { BDRV_DETECT_ZEROES_OFF, BDRV_DETECT_ZEROES_ON, BDRV_DETECT_ZEROES_UNMAP };

typedef struct TrackedReq TrackedReq;
typedef struct BlockPolicy BlockPolicy;

/* What a parent from outside of the graph does when asked. */
struct BdrvParentOps {
    void (*ref)(void *owner); /* its memory; under the graph's lock, the others not */
    void (*unref)(void *owner);
    /* Holds back new requests, and returns when those in flight have ended. */
    void coroutine_fn (*co_drain_begin)(void *owner);
    void (*drain_end)(void *owner);
    void (*moved)(BdrvChild *c); /* c->bs is another node; under a drain and the graph's lock */
    void (*resized)(void *owner);
    void (*report)(void *owner, const char *line); /* under the graph's lock */
};

typedef struct BdrvOwner {
    const BdrvParentOps *ops;
    void *owner;
} BdrvOwner;

typedef struct BdrvCore {
    SpinLock lock;
    TrackedReq *head, **tail; /* writes in order of arrival; lock */
    CoQueue track_queue;      /* lock */
    CoMutex sync_lock;        /* one co_flush_to_disk at a time */
    CoMutex guard_lock;       /* INV-GUARD-1 */
    GPtrArray *parents;       /* BdrvChild *; under the graph's lock (INV-GRAPH-1) */
    BdrvChild *pending_file;  /* opened for probing, not yet claimed by the driver's open */
    BlockDriverState *opener; /* while opening: who opens this as backing file; else NULL */
    int depth;                /* nodes above it in the graph, while opening */
    int layer;                /* images above it in its chain */
    int open_fd;              /* while opening a protocol: stands for the file; -1: none */
    BlockPolicy *policy;      /* of its root; NULL: none */
    Options *common;          /* given of those that every node takes; NULL: not opened */
    uint64_t dev, ino;        /* of a backing chain's file; 0: unknown */
    bool handed_over;         /* a protocol whose file came as a descriptor */
    bool named;               /* node_name is in the table of names */
    atomic_bool copies_up; /* what is read of a backing file becomes its own; tracked, too */
    atomic_bool opened;    /* whole; until then nobody finds it by its name, itself least of all */
    unsigned own;       /* requests of the node's own; lock, as the next two */
    unsigned quiesce;   /* drains */
    unsigned pins;      /* they keep its memory: it is freed after the last */
    CoQueue idle_queue, resume_queue; /* waiters for own and pins to be 0; for quiesce */
    bool backing_overridden;          /* by options: not what the image says */
} BdrvCore;

/* ---- core.c ---- */
/* INV-GRAPH-1; never held over a yield. */
extern ThreadMutex bdrv_graph_mutex;
void bdrv_graph_lock(void) ACQUIRES_LOCK(bdrv_graph_mutex);
void bdrv_graph_unlock(void) RELEASES_LOCK(bdrv_graph_mutex);
/* @bs, found under the graph's lock, is not freed until bdrv_unpin() (it may close, though). */
void bdrv_pin(BlockDriverState *bs);
void bdrv_unpin(BlockDriverState *bs);
/* Who holds @c from outside, if anybody does, goes to @owners (of
 * BdrvOwner) with a reference of its memory. */
void bdrv_add_owner(GArray *owners, const BdrvChild *c) REQUIRES_LOCK(bdrv_graph_mutex);

#endif
