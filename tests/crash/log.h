/* SPDX-License-Identifier: MIT */
/*
 * What happened to the files, and when the guest's operations began and ended.
 *
 * crash-record, a filter between qcow2 and crash-mem, writes the log: an event when a request
 * begins (with its data) and one when it has ended.  Between the two it yields a few times, at
 * random from a seed, so that requests of the driver mix in ways that a real file would allow.
 */
#ifndef CRASH_LOG_H
#define CRASH_LOG_H

#include "util/compiler.h"

#include <glib.h>

typedef enum EventType {
    EV_WRITE,
    EV_ZERO,
    EV_PUNCH,
    EV_TRUNCATE, /* begin; "offset" is the new size of a truncate */
    EV_DONE,     /* ... and the end of the one at index "ref" */
    EV_SYNC,
    EV_SYNCED,   /* the end of the sync at "ref": what was done before that is on the disk */
    EV_OP,       /* the guest's operation "ref" begins */
    EV_OP_DONE,  /* ... has ended; "result" */
    EV_POWER,    /* power failed before: the files are those in Run.after[result] now; "ref" is the
                    operation */
    EV_OBSERVED, /* what stands in "bytes" at "offset" of the guest's disk after operation "ref": a
                    word a sector */
} EventType;

typedef struct Event {
    EventType type;
    uint8_t file; /* 0 the image, 1 the external data file */
    int result;
    uint32_t ref;
    uint32_t done; /* index of EV_DONE; 0: not yet */
    uint64_t offset, bytes;
    uint8_t *data;
} Event;

typedef struct Log {
    GArray *events; /* of Event */
    GHashTable *memo; /* NULL: nothing; what others have found out of it (snapshots.c) */
} Log;

Log *log_new(void);
void log_free(Log *l);
uint32_t log_add(Log *l, Event e); /* its index */
void log_cut(Log *l, uint32_t n);  /* all from index @n on did not happen */
static inline Event *log_event(const Log *l, uint32_t i)
{
    return &g_array_index(l->events, Event, i);
}

/* Where the filter writes; NULL: it only passes requests on. */
extern Log *crash_log;
/* The process is dead: nothing reaches the files any more. */
extern bool crash_dead;
/* The nth write from now on fails, once; 0: none does. Of it nothing, a part or all reaches the
 * file. */
extern unsigned crash_die; /* so many writes and syncs, and the process is dead; 0: it lives */
extern unsigned crash_fault;
extern unsigned crash_faults_met; /* ever */
/* Seed of the yields. */
extern uint64_t crash_yield_seed;
void record_register(void);

#endif
