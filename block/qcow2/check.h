/* SPDX-License-Identifier: MIT */
/* Inside of check: who refers to which host cluster, counted from all tables. */
#ifndef QCOW2_CHECK_H
#define QCOW2_CHECK_H

#include "qcow2.h"

/*
 * INV-CHK-1  Two bits for each host cluster of the file: somebody refers to it; its count on disk
 *            is 1. What counts above 1 need comes on top: a byte for each cluster of a page of
 *            neighbours one of which has more than one reference, and a hash for more than 255.
 */
typedef struct RefMap {
    uint8_t *bits;      /* REFMAP_… of four clusters each */
    uint8_t **pages;    /* of REFMAP_PAGE clusters: references after the first; NULL: none */
    uint64_t clusters;  /* of the file, rounded up */
    uint64_t length;    /* of the file, in bytes */
    GHashTable *many;   /* cluster -> references: too many for a page */
    GHashTable *beyond; /* the same: past the end of the file */
    bool out_of_memory; /* a count was lost: what is counted is not to be used */
} RefMap;

#define REFMAP_SEEN 1u    /* at least one reference */
#define REFMAP_SINGLE 2u  /* the count on disk is 1 */
#define REFMAP_FOUR 0x55u /* times a bit: of all four clusters of a byte */
#define REFMAP_PAGE UINT64_C(4096)

static inline bool qcow2_check_refmap_has(const RefMap *m, uint64_t cluster, unsigned bit)
{
    return cluster < m->clusters && (m->bits[cluster / 4] >> cluster % 4 * 2 & bit);
}
static inline void qcow2_check_refmap_mark(RefMap *m, uint64_t cluster, unsigned bit)
{
    g_assert(cluster < m->clusters);
    m->bits[cluster / 4] |= (uint8_t)(bit << cluster % 4 * 2);
}

typedef struct CheckCounts CheckCounts;

typedef struct Check {
    Qcow2 *q;
    RefMap map;
    BlockCheckResult *res;
    const BlockCheckWatch *watch; /* NULL: nobody looks on */
    uint64_t at_guest, at_length; /* what of the disk is looked at; length 0: nothing of it */
    GHashTable *miscounted; /* with somebody who asks: cluster -> its references, before a repair */
    uint64_t steps, all_steps; /* of the first count, for the progress */
    bool stopped;              /* somebody wanted it to */
    CheckCounts *counts;       /* NULL: what is on disk does not matter */
    GHashTable *suspects;   /* active L2 tables with a COPIED flag that may be wrong; with counts */
    bool without_refcounts; /* the refcount structures are going to be made anew */
    unsigned fix;           /* BlockCheckFix: what of the findings is going to be repaired */
    bool found;             /* one of those since this was set to false */
    GHashTable *defects;    /* with fix: L2 tables with entries that are to be repaired */
    bool l1_defects;        /* ... and entries of L1 tables */
    bool blind;   /* INV-REP-5: bitmaps or snapshots are there whose clusters are not known */
    bool rebuild; /* the refcount structures are to be made anew */
    int64_t structure_errors; /* what of that is already told */
    uint64_t next_contiguous; /* where the next data cluster would be, if not fragmented */
} Check;

/* ---- check-counts.c: the refcounts as they are on disk ---- */
struct CheckCounts {
    Check *c;
    uint8_t **kept;   /* blocks by index, as far as they fit; NULL: not kept */
    uint64_t entries; /* of kept: what the table had at the init */
    uint64_t kept_bytes;
    uint8_t *scratch; /* the block that was read last */
    uint64_t loaded;  /* its index; UINT64_MAX: none */
    uint8_t *bad;     /* a bit for each block that cannot be read */
};
/* After the map; clear in any case. */
int qcow2_check_counts_init(CheckCounts *n, Check *c);
void qcow2_check_counts_clear(CheckCounts *n);
/* Read all blocks, in order; before anything else is asked. */
void coroutine_fn qcow2_check_counts_co_load(CheckCounts *n);
int coroutine_fn qcow2_check_counts_co_get(CheckCounts *n, uint64_t cluster, uint64_t *ret);
/* The COPIED flag of @e (an active entry) does not fit the count, as far as is known without I/O.
 */
bool qcow2_check_counts_copied_is_suspect(const CheckCounts *n, L2Entry e);
/* Where block @b is, or 0: none that can be read. */
uint64_t qcow2_check_counts_block_offset(const Check *c, uint64_t b);

/* The flag @copied of a reference to @host does not fit the count, as far as is known without
 * I/O. */
static inline bool qcow2_check_counts_is_suspect(const CheckCounts *n, uint64_t host, bool copied)
{
    return qcow2_check_refmap_has(&n->c->map, host >> n->c->q->geo.cluster_bits, REFMAP_SINGLE) !=
           copied;
}

void qcow2_check_report(Check *c, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* An error, told as "ERROR" and @fmt, and counted; one that is going to be repaired (@fixable, with
 * BLK_FIX_ERRORS) as "Repairing", and as repaired. */
void qcow2_check_error(Check *c, bool fixable, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
/* Tells @c->watch that [@guest, +@length) was found to be @what, and that repair made it what @fmt
 * says (NULL: nothing). */
void qcow2_check_found(Check *c, const char *what, uint64_t guest, uint64_t length, const char *fmt,
                       ...) G_GNUC_PRINTF(5, 6);
/* A step of the first count is done. -ECANCELED: no more of it. */
int qcow2_check_step(Check *c);
/* check-findings.c: tells what of the disk is in clusters with wrong counts; and what became of an
 * entry of an L1 or L2 table. */
int coroutine_fn qcow2_check_findings_co_counts(Check *c);
void qcow2_check_findings_l2(Check *c, L2Entry e, L2Entry fixed, uint64_t guest, bool active);
void qcow2_check_findings_l1(Check *c, uint64_t e, uint64_t fixed, uint32_t i, bool active);
int qcow2_check_refmap_init(RefMap *m, Qcow2 *q, int64_t file_length);
void qcow2_check_refmap_clear(RefMap *m);
/* @n references to each of the clusters that [offset, offset + bytes) touches. @data: of the guest;
 * counts made anew have to keep others from what its references dangle to. */
void qcow2_check_refmap_add_refs(Check *c, uint64_t offset, uint64_t bytes, uint64_t n, bool data);
/* One to each, from a table. */
void qcow2_check_refmap_add(Check *c, uint64_t offset, uint64_t bytes);
uint64_t qcow2_check_refmap_get(const RefMap *m, uint64_t cluster);
void qcow2_check_refmap_set(RefMap *m, uint64_t cluster, uint64_t n);
/* [offset, offset + bytes) ends so far past the end of the file that nothing can be there. */
bool qcow2_check_is_beyond(const Check *c, uint64_t offset, uint64_t bytes);

/* For lists of a hash's keys that are numbers. */
int qcow2_check_compare_keys(gconstpointer a, gconstpointer b);

/* check-tables.c: count what the header, L1, L2, snapshot, bitmap and refcount tables refer to. */
int coroutine_fn qcow2_check_tables_co_count(Check *c);
/* What sound entries have besides their offsets and flags: nothing. */
#define QCOW2_L1_RESERVED UINT64_C(0x7f000000000001ff)
#define QCOW2_L2_RESERVED_STD UINT64_C(0x3f000000000001fe)
#define QCOW2_L2_RESERVED_EXT UINT64_C(0x3f000000000001ff)
/* @table is where the header, an L1 table or another table of the image is: no L2 table. */
bool qcow2_check_is_other_table(const Check *c, uint64_t table);
/* check-copied.c: the COPIED flags of the active tables against the counts; corrected if
 * @repair. */
int coroutine_fn qcow2_check_copied_co_run(Check *c, bool repair);
/* check-entry.c: the entry as a repair leaves it; @e itself if it is sound. @align: what an
 * unaligned offset was most likely is known to be nobody else's. */
L2Entry qcow2_check_entry_repair(const Check *c, L2Entry e, uint64_t guest, bool align);
uint64_t qcow2_check_entry_repair_l1(const Check *c, uint64_t e, bool align);
/* Read a whole L2 table or other cluster; -EIO with a report. */
int coroutine_fn qcow2_check_co_read(Check *c, uint64_t offset, uint64_t bytes, void *buf,
                                     const char *what);

#endif
