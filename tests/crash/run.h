/* SPDX-License-Identifier: MIT */
/* Running a program: the log of what it did to the files, and the files as they were before. */
#ifndef CRASH_RUN_H
#define CRASH_RUN_H

#include "log.h"
#include "mem.h"
#include "program.h"
#include "shared.h"

#include "block/backend.h"

typedef struct Run {
    const Program *p;
    Log *log;
    MemFile start[2]; /* image, data file */
    Shared *shared;   /* what an internal snapshot holds; NULL: there is none */
    uint64_t *rest;   /* the disk, a word a sector, when its bitmap was made; NULL: it has none */
    int64_t corruptions; /* that a check finds when the recording begins: p->cfg.damage */
    GArray *after;       /* of MemFile, two for each loss of power in the program */
    char *error;         /* an operation failed, or the running image shows what it must not */
} Run;

Run *run_program(const Program *p);
void run_free(Run *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Run, run_free)

/* The image in files @image and @data (names), through @driver (crash-mem or crash-record). */
BlockBackend *open_image(const Program *p, const char *driver, const char *image, const char *data,
                         int flags, GError **errp);

#endif
