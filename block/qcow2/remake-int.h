/* SPDX-License-Identifier: MIT */
/* Inside of remake: what its parts share.  Everything runs in one event loop, on an image that
 * nobody else uses; so nothing here is locked. */
#ifndef QCOW2_REMAKE_INT_H
#define QCOW2_REMAKE_INT_H

#include "remake.h"
#include "remake-plan.h"
#include "remake-space.h"

/* An L1 table: the disk's, or a snapshot's. It has two regions, the disk and, from the next L2
 * table on, a machine's state. */
typedef struct RemakeL1 {
    uint64_t *old;         /* host offsets of L2 tables */
    uint64_t entries;      /* of old, without trailing zeroes past the disk */
    uint64_t old_disk;     /* the first of them that belongs to the state */
    uint64_t new_disk, n;  /* the same of the new one, and its entries */
    uint64_t offset;       /* of the new one; 0: it has no entries */
    uint32_t *tables;      /* for each new entry: 0, or one more than the index in Remake.tables */
    uint64_t snapshot_pos; /* where in the snapshot table its entry is */
} RemakeL1;

/* A new L2 table; several L1 entries may name it. */
typedef struct RemakeTable {
    uint32_t l1, index; /* the first that does */
    uint32_t refs;
    bool active; /* the disk's */
    uint64_t offset;
} RemakeTable;

/* Writes to the file that follow each other, gathered. */
typedef struct RemakeOut {
    uint8_t *buf; /* NULL: none */
    uint64_t offset;
    size_t fill;
} RemakeOut;

typedef struct Remake {
    Qcow2 *q;
    RemakeTarget target;
    RemakeRules rules; /* with both geometries */
    RemakeSpace space;
    uint64_t old_length; /* of the file */
    bool tables_stay;    /* only the refcounts are made anew */
    GArray *l1s;         /* RemakeL1; the disk's is the first */
    GArray *tables;      /* RemakeTable */
    uint8_t *snapshot_table;
    uint64_t snapshot_bytes;
    RemakeOut out, packed;
    uint64_t pack_at, pack_end; /* room for packed data */
    GHashTable *moved;          /* what snapshots share, where it went (remake-data.c) */
    RemakeProgress *progress;
    void *opaque;
    GError *err;
    bool whole_header; /* is written anew for the switch, not only its fields */
    bool switched;     /* to what was made */
    bool in_doubt;     /* nobody knows whether the header is the old one or the new one */
    /* What the new header says. */
    uint64_t l1_offset, snapshots_offset, reftable_offset, bitmap_dir_offset, crypto_offset;
    uint64_t old_crypto_offset; /* 0: the header of the encryption stays, or there is none */
    uint32_t l1_size, reftable_clusters;
} Remake;

static inline RemakeL1 *remake_l1(const Remake *r, guint i)
{
    return &g_array_index(r->l1s, RemakeL1, i);
}
static inline RemakeTable *remake_table(const Remake *r, guint i)
{
    return &g_array_index(r->tables, RemakeTable, i);
}

/* remake-out.c. What is gathered is written by flush, or by what does not follow it. */
int coroutine_fn qcow2_remake_out_co_put(Remake *r, RemakeOut *o, uint64_t offset, const void *data,
                                         size_t bytes);
int coroutine_fn qcow2_remake_out_co_flush(Remake *r, RemakeOut *o);
/* -ECANCELED, with the text. */
int qcow2_remake_out_progress(Remake *r, double done);
/* Errors of clusters that are under way together: the first has its text. -@err. */
int qcow2_remake_out_refuse(Remake *r, int err, const char *text);
int qcow2_remake_out_overflow(Remake *r, uint64_t offset, uint64_t count);
/* @ret; its text, if it is an error that has none yet. */
int qcow2_remake_out_error(Remake *r, int ret, const char *what);

/* remake-survey.c: what is free, and, if the tables stay, counted; a damaged image is refused. What
 * @made, an image of the new tables, refers to fits the counts that were made. */
int coroutine_fn qcow2_remake_survey_co_old(Remake *r);
int coroutine_fn qcow2_remake_survey_co_new(Remake *r, Qcow2 *made);

/* remake-old.c: the L1 tables of the disk and of all snapshots are read, and which new L2 tables
 * there are going to be, and how often each is named. */
int coroutine_fn qcow2_remake_old_co_load(Remake *r);
/* The L2 tables that hold what entry @j of the new L1 @l is to map, and the part of the first
 * (where the new table covers less). */
typedef struct RemakeSlice {
    const uint64_t *old; /* host offsets; 0: none */
    uint64_t n, part;    /* n == 0: nothing */
    uint64_t guest;      /* where it begins; of the disk only */
    bool disk;
} RemakeSlice;
RemakeSlice qcow2_remake_old_slice(const Remake *r, const RemakeL1 *l, uint64_t j);

/* remake-tables.c: all new L2 tables, with the data that has to move; L1 and snapshot tables. */
int coroutine_fn qcow2_remake_tables_co_write(Remake *r);

/* remake-data.c: one cluster of data. */
typedef struct RemakeCluster {
    Remake *r;
    RemakePlan plan;
    L2Entry *entries; /* owned; of the source */
    RemakeSource source;
    uint64_t guest; /* of the new cluster */
    bool disk;      /* else of a machine's state, which no backing file has */
    uint64_t refs;  /* of the table */
    bool active;
    uint8_t *table; /* the new one, in memory */
    unsigned index;
} RemakeCluster;
/* The entry that is known at once (BARE, STAY), or of a cluster that was moved for another table.
 * False: qcow2_remake_data_co_run() is needed, which qcow2_remake_data_prepare() comes before. */
int qcow2_remake_data_settle(const RemakeCluster *c, bool *settled);
/* Room for what is filled, in the order of the disk; its entry. */
int qcow2_remake_data_prepare(RemakeCluster *c);
/* Frees the entries. */
int coroutine_fn qcow2_remake_data_co_run(void *cluster);
/* What was reserved for packed data, and is not used. */
void qcow2_remake_data_end(Remake *r);

/* remake-bitmaps.c: persistent bitmaps stay as far as their clusters do; counted. */
int coroutine_fn qcow2_remake_bitmaps_co_run(Remake *r);

/* remake-counts.c: everything else that the new counts count; the counts, written. */
int coroutine_fn qcow2_remake_counts_co_write(Remake *r);
/* After the switch: where the header of the encryption was, if it has moved, there are no keys
 * left. Best effort. */
void coroutine_fn qcow2_remake_counts_co_wipe_keys(Remake *r);

/* remake-switch.c: before anything else, the header takes no more than its new cluster has (a
 * rewrite, of the image as it is). */
int coroutine_fn qcow2_remake_switch_co_fit_header(Remake *r);
/* The header names what was made, and the image in memory is it. */
int coroutine_fn qcow2_remake_switch_co_run(Remake *r);

#endif
