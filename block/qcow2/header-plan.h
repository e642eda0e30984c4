/* SPDX-License-Identifier: MIT */
/*
 * From the header in the file to another one, step by step, so that at every instant it says all of
 * the old or all of the new.  Pure; header-io.h takes the steps.
 *
 * Only a write within the first sector is whole or not done.  So a step writes first what lies past
 * that sector, where the header that is there has nothing, and then the first sector.  Where old
 * and new lie over each other past the first sector, a form comes between that lies elsewhere:
 * without the table of feature names, which is a courtesy, or with the backing file's name at the
 * end of the cluster.  Where the new extensions themselves lie past the first sector, the old
 * header may give up its table of names first.
 *
 * INV-HDR-2  Past the first sector no step changes a byte that the header before it refers to.
 */
#ifndef QCOW2_HEADER_PLAN_H
#define QCOW2_HEADER_PLAN_H

#include "header.h"

#define QCOW2_HEADER_MAX_STEPS 3

typedef struct Qcow2HeaderPlan {
    unsigned n;
    /* The cluster after each step; what the header there does not refer to is as it was before. */
    uint8_t *steps[QCOW2_HEADER_MAX_STEPS];
    uint8_t *tidy; /* after the last one: all that the header does not refer to is zero */
} Qcow2HeaderPlan;

/* Steps from the header in @old (a cluster, @len bytes) to @h. -ENOSPC: the new header does not fit
 * into the cluster, or not beside the old one. */
int qcow2_header_plan(const uint8_t *old, size_t len, const Qcow2Header *h, Qcow2HeaderPlan *plan,
                      GError **errp);
void qcow2_header_plan_clear(Qcow2HeaderPlan *plan);

#endif
