/* SPDX-License-Identifier: MIT */
/*
 * Amend: other values for what the creation chose.  All that is refused is refused before anything
 * changes (amend-options.c); then steps follow one another (amend.c), each of which leaves a valid
 * image and says itself in which order it writes: what was cut off goes on when it is called again.
 */
#ifndef QCOW2_AMEND_H
#define QCOW2_AMEND_H

#include "qcow2.h"
#include "remake.h"

typedef struct AmendPlan {
    uint32_t version; /* that it is to have */
    bool lazy_refcounts, data_raw;
    bool lazy_lost; /* newly asked for, and the version has none */
    bool name_data_file;
    char *data_file; /* NULL or empty: no name */
    bool resize;
    uint64_t size;
    uint32_t compression_level; /* that the image remembers; 0: none */
    RemakeTarget target;
} AmendPlan;

/* What is to be, from @o and the image; or why it cannot be. No I/O. */
int qcow2_amend_plan(const Qcow2 *q, Options *o, AmendPlan *plan, GError **errp);
void qcow2_amend_plan_clear(AmendPlan *plan);

#endif
