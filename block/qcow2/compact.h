/* SPDX-License-Identifier: MIT */
/*
 * Inside of compacting: the image is made smaller in place.  Nothing else runs on it.
 *
 * A pass counts who refers to each host cluster (compact-scan.c, compact-map.c), gives leaks back
 * (compact-leaks.c), and moves what lies past the end to come into free clusters below, batch by
 * batch (compact-batch.c); a reverse index (compact-index.c) tells who refers to what moves.
 *
 * INV-CMP-1  While a cluster has two places both hold the same bytes and both are counted: so any
 *            mix of old and new references, as a loss of power may leave it, reads the same, and
 *            nothing worse than a leak is left.
 * INV-CMP-2  A batch moves tables, or what tables name, never both: a table that moves keeps its
 *            bytes, and what changes in a table stays where it is.
 * INV-CMP-3  The new place has as many counts as references, and the COPIED flag of an active
 *            reference says whether that is one.
 * INV-CMP-4  A batch that can be neither ended nor undone leaves the image as INV-CMP-1 says, and
 *            writes are refused until it is opened again.
 */
#ifndef QCOW2_COMPACT_H
#define QCOW2_COMPACT_H

#include "qcow2.h"

#define COMPACT_MAX_BATCH (16 * MiB) /* bytes that are in two places at a time, at most */

/* ---- compact-map.c: who has which cluster ---- */

typedef struct CompactMap {
    uint32_t *refs;      /* references to each cluster, from all tables */
    uint8_t *fixed;      /* a bit: moves not by itself (tables of many clusters, compressed data) */
    uint8_t *meta;       /* a bit: holds no data of a guest */
    uint64_t clusters;   /* that the arrays have */
    uint64_t used, end;  /* clusters with references; past the last of them */
    uint64_t maybe_free; /* below it none is free */
} CompactMap;

int qcow2_compact_map_init(CompactMap *m, uint64_t clusters);
void qcow2_compact_map_clear(CompactMap *m);
/* @n more references to @c, or fewer; false: there is no such cluster, or too many. */
bool qcow2_compact_map_add(CompactMap *m, uint64_t c, uint64_t n);
bool qcow2_compact_map_sub(CompactMap *m, uint64_t c, uint64_t n);
/* used and end, after all were added. */
void qcow2_compact_map_sum_up(CompactMap *m);
/* The first free cluster (of @n in a row) in [@from, @below); 0: none. Not taken yet. */
uint64_t qcow2_compact_map_find(CompactMap *m, uint64_t from, uint64_t n, uint64_t below);
static inline uint64_t qcow2_compact_map_refs(const CompactMap *m, uint64_t c)
{
    return m->refs[c];
}
static inline bool qcow2_compact_map_bit(const uint8_t *bits, uint64_t c)
{
    return bits[c / 8] >> c % 8 & 1;
}

/* ---- compact-scan.c: the tables ---- */

typedef enum CompactKind {
    CO_HEADER,
    CO_L1, /* the active one */
    CO_SNAPSHOT_L1,
    CO_L2,
    CO_SNAPSHOTS, /* the table of them */
    CO_BITMAPS,   /* their directory */
    CO_BITMAP_TABLE,
    CO_REFTABLE,
    CO_CRYPT, /* the encryption header: names nothing */
} CompactKind;

/* A piece of metadata that names clusters in slots of 8 bytes. */
typedef struct CompactTable {
    uint64_t offset, bytes;
    CompactKind kind;
    bool active;           /* the guest's disk is read through it */
    uint32_t refs;         /* how many tables name it: so often counts what it names */
    uint32_t parent, slot; /* where its place is written (an L2 table: in L1 tables; not here) */
    uint32_t number;       /* of the snapshot */
} CompactTable;

/* ---- compact-index.c: who refers to it? ---- */

typedef struct CompactRef {
    uint64_t value; /* of the slot */
    uint32_t table, slot;
    uint32_t next; /* the next one to the same cluster; 0: none */
} CompactRef;

typedef struct CompactIndex {
    uint64_t lo, hi;     /* of clusters */
    const uint8_t *only; /* a bit for those that matter; NULL: all */
    uint32_t *heads;     /* of the chains in refs, by cluster from lo on */
    CompactRef *refs;    /* [0] is no one's */
    uint32_t n, cap;
} CompactIndex;

typedef struct Compact {
    Qcow2 *q;
    BlockProgressFunc *progress;
    void *opaque;
    uint64_t done, todo; /* clusters */
    uint64_t batch;      /* so many bytes move at a time */

    CompactMap map;
    GArray *tables; /* of CompactTable; [0] is the header */
    GHashTable *at; /* first cluster of a table -> its index */
    CompactIndex index;
    bool ordering;   /* the guest's order, too */
    uint64_t slack;  /* clusters past the end that may be taken, too */
    uint64_t packed; /* next byte for compressed data; 0: none */
    uint64_t moved;  /* clusters, in this pass */
} Compact;

static inline CompactTable *qcow2_compact_table(const Compact *c, uint32_t i)
{
    return &g_array_index(c->tables, CompactTable, i);
}
/* One slot that names something: @value, of table @table. False ends the walk with -EIO. */
typedef bool CompactVisit(Compact *c, uint32_t table, uint32_t slot, uint64_t value);
/* What the slot of a table of @kind names, in bytes of the file: *@bytes of them; 0: nothing. */
uint64_t qcow2_compact_target(const Compact *c, CompactKind kind, uint64_t value, uint64_t *bytes);
/* c->tables and c->at from what the file holds; the map has what they fill and name. */
int coroutine_fn qcow2_compact_scan_co_all(Compact *c);
/* All slots of L1 and L2 tables, bitmap tables and the refcount table. */
int coroutine_fn qcow2_compact_scan_co_visit(Compact *c, CompactVisit *visit);

/* The index of [@lo, *@hi), or of less where there is not so much memory: *@hi. */
int coroutine_fn qcow2_compact_index_co_make(Compact *c, uint64_t lo, uint64_t *hi,
                                             const uint8_t *only);
void qcow2_compact_index_clear(CompactIndex *x);
/* The first reference to cluster @cluster (compressed data: whose first cluster it is); NULL. */
CompactRef *qcow2_compact_index_first(const CompactIndex *x, uint64_t cluster);
static inline CompactRef *qcow2_compact_index_next(const CompactIndex *x, const CompactRef *r)
{
    return r->next ? &x->refs[r->next] : NULL;
}
/* All that referred to @from refers to @to now. */
void qcow2_compact_index_rename(CompactIndex *x, uint64_t from, uint64_t to);

/* ---- compact-batch.c: one step ---- */

typedef struct CompactBatch {
    GArray *copies, *changes, *takes, *drops;
    uint64_t bytes;    /* to copy */
    uint64_t clusters; /* that come into use */
} CompactBatch;

void qcow2_compact_batch_init(CompactBatch *b);
void qcow2_compact_batch_clear(CompactBatch *b);
static inline bool qcow2_compact_batch_is_full(const Compact *c, const CompactBatch *b)
{
    return b->bytes >= c->batch;
}
/* Cluster @src, with all that refers to it, goes to @dst, which is free. @src is in the index. */
int qcow2_compact_batch_add(Compact *c, CompactBatch *b, uint64_t src, uint64_t dst);
/* The same for data that @r alone refers to. */
int qcow2_compact_batch_add_only(Compact *c, CompactBatch *b, CompactRef *r, uint64_t dst);
/* Table @table (of many clusters, perhaps) goes to cluster @dst. */
int qcow2_compact_batch_add_table(Compact *c, CompactBatch *b, uint32_t table, uint64_t dst);
/* The compressed data that @r names, @bytes at @src, goes to @dst. */
int qcow2_compact_batch_add_packed(Compact *c, CompactBatch *b, const CompactRef *r, uint64_t dst);
/* Do it; empties @b. On failure the image is as it was, or takes no more writes. */
int coroutine_fn qcow2_compact_batch_co_run(Compact *c, CompactBatch *b);

/* Tells how far it is; -ECANCELED: stop here. */
int qcow2_compact_progress(Compact *c, uint64_t clusters);

typedef struct CompactCopy {
    uint64_t src, dst, bytes;
    bool data; /* clusters of a guest's */
} CompactCopy;
typedef struct CompactChange {
    uint32_t table, slot;
    uint64_t was, is;
} CompactChange;
typedef struct CompactCount {
    uint64_t cluster, n;
} CompactCount;

/* compact-slots.c: the changes of a batch, in the file; @back: undone. Sorted by table and slot. */
int coroutine_fn qcow2_compact_slots_co_write(Compact *c, GArray *changes, bool back);
/* ... and in memory, when they are on disk. */
void coroutine_fn qcow2_compact_slots_co_note(Compact *c, const CompactChange *ch)
    REQUIRES_LOCK(c->q->alloc.meta_lock);

/* ---- the parts of a pass ---- */

/* compact-leaks.c: no count is above its references, but for clusters in *@lonely (a bit each;
 * NULL: none), which are to move: they had been shared, and their flag says so still. */
int coroutine_fn qcow2_compact_leaks_co_return(Compact *c, uint8_t **lonely);
/* Blocks of counts that count nothing past cluster @end. */
int coroutine_fn qcow2_compact_leaks_co_drop_blocks(Compact *c, uint64_t end);
/* compact-move.c: clusters of [@lo, @hi), which the index has, that can move by themselves (of
 * @only, if not NULL) go to free ones below @below, outside of @avoid; as far as there are such. */
int coroutine_fn qcow2_compact_move_co_out(Compact *c, uint64_t lo, uint64_t hi,
                                           const uint8_t *only, uint64_t below, ClusterRange avoid);
/* compact-tables.c: tables of many clusters that lie past @end, below it. */
int coroutine_fn qcow2_compact_tables_co_move(Compact *c, uint64_t end);
/* compact-packed.c: compressed data that touches clusters of the index from @lo on. */
int coroutine_fn qcow2_compact_packed_co_move(Compact *c, uint64_t lo, uint64_t below);
/* compact-order.c: the guest's order. 1: it is not there, and needs room past the end (slack). */
int coroutine_fn qcow2_compact_order_co_make(Compact *c);

#endif
