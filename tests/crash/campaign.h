/* SPDX-License-Identifier: MIT */
/* Many programs, one after the other, until states or time are used up, or one fails. */
#ifndef CRASH_CAMPAIGN_H
#define CRASH_CAMPAIGN_H

#include "explorer.h"

typedef struct Campaign {
    uint64_t seed;
    uint64_t states;      /* to check; 0: no limit */
    double seconds;       /* to use; 0: no limit */
    uint64_t per_program; /* states of one program */
    unsigned per_event;
    unsigned deep_every;
    uint64_t reference_every;
    const char *only;     /* workloads, comma separated; NULL: all */
    const char *override; /* image options */
    const char *ops;      /* the program's operations instead of the workload's */
    bool once;            /* one program of each workload, with exactly this seed */
    bool no_shrink;
    bool verbose;
    /* Results */
    uint64_t programs, done, deep, reference, duplicates;
    uint64_t by_workload[64];
    double used;
} Campaign;

/* NULL, or a report of the first failure (g_free). */
char *campaign_run(Campaign *c);

#endif
