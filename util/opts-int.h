/* SPDX-License-Identifier: MIT */
/* Inside of Options: what opts.c and opts-json.c share. */
#ifndef UTIL_OPTS_INT_H
#define UTIL_OPTS_INT_H

#include "util/opts.h"

typedef struct OptEntry {
    char *key, *value;
    OptKind kind;
} OptEntry;

struct Options {
    GPtrArray *entries; /* OptEntry, insertion order; owned through opts_free() */
    GHashTable *index;  /* key -> OptEntry */
    Secrets *secrets;   /* held; NULL: none */
};

void opts_set_typed(Options *o, const char *key, const char *value, OptKind kind);

#endif
