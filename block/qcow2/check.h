/* SPDX-License-Identifier: MIT */
/* Inside of check: who refers to which host cluster, counted from all tables. */
#ifndef QCOW2_CHECK_H
#define QCOW2_CHECK_H

#include "qcow2.h"

typedef struct RefMap {
    uint32_t *refs;     /* per host cluster of the file */
    uint64_t clusters;  /* of the file, rounded up */
    uint64_t length;    /* of the file, in bytes */
    GHashTable *beyond; /* cluster -> references, behind the end of the file */
} RefMap;

typedef struct Check {
    Qcow2 *q;
    RefMap map;
    BlockCheckResult *res;
    BlockReportFunc *report; /* may be NULL */
    void *opaque;
    bool without_refcounts;   /* the refcount structures are going to be made anew */
    uint64_t next_contiguous; /* where the next data cluster would be, if not fragmented */
} Check;

void check_report(Check *c, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
int refmap_init(RefMap *m, Qcow2 *q, int64_t file_length);
void refmap_clear(RefMap *m);
/* References to all clusters that [offset, offset + bytes) touches. */
void refmap_add(Check *c, uint64_t offset, uint64_t bytes);
uint64_t refmap_get(const RefMap *m, uint64_t cluster);

/* For lists of a hash's keys that are numbers. */
int check_compare_keys(gconstpointer a, gconstpointer b);

/* check-tables.c: count what the header, L1, L2, snapshot, bitmap and refcount tables refer to. */
int coroutine_fn check_co_count_references(Check *c);
/* Read a whole L2 table or other cluster; -EIO with a report. */
int coroutine_fn check_co_read(Check *c, uint64_t offset, uint64_t bytes, void *buf,
                               const char *what);

#endif
