/* SPDX-License-Identifier: MIT */
/*
 * What the guest's disk may hold after a loss of power: for each sector the candidates, each with
 * when it was written.  A candidate falls away when a flush has completed that began after the end
 * of a write that itself began after the candidate's end.  A weak one (a hint, a failed request,
 * what a shrink lets go of) makes no other fall away.
 */
#ifndef CRASH_MODEL_H
#define CRASH_MODEL_H

#include "log.h"
#include "program.h"

#define NOT_YET UINT32_MAX

typedef struct Candidate {
    uint64_t word;
    uint32_t begin, end; /* event indices */
    uint32_t op;
    bool weak;
} Candidate;

typedef struct ModelSector {
    uint32_t n, cap;
    Candidate *c;
} ModelSector;

typedef struct Model {
    const Program *p;
    bool live;  /* of the running image: nothing is lost, so the end of a write is enough */
    bool keeps; /* nothing falls away any more: any moment from now on is meant */
    uint64_t nsectors;
    ModelSector *s;
    ModelSector size;    /* candidates of the disk's size */
    ModelSector backing; /* ... and of the backing file's name */
    uint64_t cur_size;   /* after the last resize that ended */
    bool snapshots_change; /* some are, or were being made, applied or deleted */
    uint32_t may, must;  /* internal snapshots that can be there, that are there: bits */
    uint32_t list, listing; /* operations of bitmaps: the last that ended well; that may have */
    bool created;        /* the image is there, or its creation has ended */
} Model;

Model *model_new(const Program *p, bool live);
void model_free(Model *m);
/* Takes the guest's events of the log, in order; true if candidates fell away. */
bool model_event(Model *m, Log *l, uint32_t i);
bool model_allows(const Model *m, uint64_t sector, uint64_t word);
bool model_allows_size(const Model *m, uint64_t size);
/* @name: of the backing file, as the image says. */
bool model_allows_backing(const Model *m, const char *name);
char *model_sector_text(const Model *m, uint64_t sector);

#endif
