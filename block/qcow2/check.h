/* SPDX-License-Identifier: MIT */
/* Inside of check: who refers to which host cluster, counted from all tables. */
#ifndef QCOW2_CHECK_H
#define QCOW2_CHECK_H

#include "qcow2.h"

typedef struct RefMap {
    uint32_t *refs;     /* per host cluster of the file */
    uint64_t clusters;  /* of the file, rounded up */
    uint64_t length;    /* of the file, in bytes */
    GHashTable *beyond; /* cluster -> references, past the end of the file */
} RefMap;

typedef struct CheckCounts CheckCounts;

typedef struct Check {
    Qcow2 *q;
    RefMap map;
    BlockCheckResult *res;
    BlockReportFunc *report; /* may be NULL */
    void *opaque;
    CheckCounts *counts;    /* NULL: what is on disk does not matter */
    GHashTable *suspects;   /* active L2 tables with a COPIED flag that may be wrong; with counts */
    bool without_refcounts; /* the refcount structures are going to be made anew */
    uint64_t next_contiguous; /* where the next data cluster would be, if not fragmented */
} Check;

/* ---- check-counts.c: the refcounts as they are on disk ---- */
struct CheckCounts {
    Check *c;
    uint8_t **kept; /* blocks by index, as far as they fit; NULL: not kept */
    uint64_t kept_bytes;
    uint8_t *scratch; /* the block that was read last */
    uint64_t loaded;  /* its index; UINT64_MAX: none */
    uint8_t *bad;     /* a bit for each block that cannot be read */
    uint8_t *single;  /* a bit for each cluster of the file whose count is 1 */
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
/* The flag @copied of a reference to @host does not fit the count, as far as is known without
 * I/O. */
bool qcow2_check_counts_is_suspect(const CheckCounts *n, uint64_t host, bool copied);
/* Without I/O; false of clusters past the end of the file, too. */
bool qcow2_check_counts_is_single(const CheckCounts *n, uint64_t cluster);

void qcow2_check_report(Check *c, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
int qcow2_check_refmap_init(RefMap *m, Qcow2 *q, int64_t file_length);
void qcow2_check_refmap_clear(RefMap *m);
/* @n references to each of the clusters that [offset, offset + bytes) touches. @data: of the guest;
 * counts made anew have to keep others from what its references dangle to. */
void qcow2_check_refmap_add_refs(Check *c, uint64_t offset, uint64_t bytes, uint64_t n, bool data);
/* One to each, from a table. */
void qcow2_check_refmap_add(Check *c, uint64_t offset, uint64_t bytes);
uint64_t qcow2_check_refmap_get(const RefMap *m, uint64_t cluster);

/* For lists of a hash's keys that are numbers. */
int qcow2_check_compare_keys(gconstpointer a, gconstpointer b);

/* check-tables.c: count what the header, L1, L2, snapshot, bitmap and refcount tables refer to. */
int coroutine_fn qcow2_check_tables_co_count(Check *c);
/* Read a whole L2 table or other cluster; -EIO with a report. */
int coroutine_fn qcow2_check_co_read(Check *c, uint64_t offset, uint64_t bytes, void *buf,
                                     const char *what);

#endif
