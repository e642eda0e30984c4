/* SPDX-License-Identifier: MIT */
/*
 * What becomes of the data of one new cluster, decided from the entries that map it now.  Pure;
 * tested exhaustively.
 */
#ifndef QCOW2_REMAKE_PLAN_H
#define QCOW2_REMAKE_PLAN_H

#include "l2.h"

/* Those that map the bytes of a new cluster: @n of them, of which it begins @skip bytes into the
 * first. (Either n is 1, or skip is 0.) */
typedef struct RemakeSource {
    const L2Entry *entries;
    unsigned n;
    uint64_t skip;
    uint64_t guest; /* where entries[0] begins on the disk; an external data file has it there */
} RemakeSource;

typedef enum RemakeAction {
    REMAKE_BARE, /* the entry has no host cluster */
    REMAKE_STAY, /* what it refers to stays where it is */
    REMAKE_FILL, /* subclusters @fill get their data, in a new cluster (with an external data file:
                    in place) */
    REMAKE_PACK, /* all of it becomes a compressed cluster, if it gets smaller */
} RemakeAction;

typedef struct RemakePlan {
    RemakeAction action;
    L2Entry entry; /* STAY: of what stays; FILL: without a host cluster. Never COPIED, but with an
                      external data file */
    uint32_t fill;
} RemakePlan;

typedef struct RemakeRules {
    Geometry from, to;
    bool backing;       /* what is not mapped may read other than zero */
    bool no_zero_flags; /* an entry cannot say that it reads zero: it is not mapped, or data */
    bool repack;        /* the type of compression changes, or the cluster size does */
} RemakeRules;

RemakePlan qcow2_remake_plan(const RemakeRules *r, const RemakeSource *s);

#endif
