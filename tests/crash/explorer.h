/* SPDX-License-Identifier: MIT */
/*
 * Walks the log of a run, and makes and checks the states that a loss of power could leave.
 *
 * At each event: the disk holds what was done before the begin of the last completed sync (of each
 * file), and any subset of the requests that began since, in their order, each whole or torn.  An
 * order of requests that do not touch the same sector needs no states of its own: what it leaves in
 * between is a subset.
 */
#ifndef CRASH_EXPLORER_H
#define CRASH_EXPLORER_H

#include "state.h"

typedef struct Explorer {
    const Run *run;
    uint64_t seed;
    unsigned per_event;  /* states tried at an event, at most */
    uint64_t max_states; /* of this run */
    unsigned deep_every;
    uint64_t reference_every;
    uint64_t before; /* states checked before this run, for the two lines above */
    /* Results */
    uint64_t states, deep, reference, duplicates;
    char *why;       /* the first failure, or NULL */
    uint32_t event;  /* ... its place */
    GArray *pending; /* ... the requests since the sync (uint32_t, indices) */
    GArray *choices; /* ... and what became of them (Choice) */
    bool no_leaks;
} Explorer;

void explore(Explorer *x);
/* Drop as little as possible: make choices of the failing state whole again while it fails. */
void explorer_minimise(Explorer *x);
char *explorer_state_text(const Explorer *x);
void explorer_clear(Explorer *x);
/* Power fails at an event of the run so far, at random: the log ends there, and @left is what is in
 * the files. */
void explorer_lose_power(Run *r, uint64_t seed, MemFile left[2]);

#endif
