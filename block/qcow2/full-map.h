/* SPDX-License-Identifier: MIT */
/*
 * Stretches of host clusters, a slice of refcounts each, that are known to have no free one: so
 * that a search in a full file looks at some words and not at all counts.
 *
 * INV-FULL-1  A stretch that is marked has no count of 0: the mark goes as a count falls to 0, and
 *             all go when the counts are loaded anew.
 */
#ifndef QCOW2_FULL_MAP_H
#define QCOW2_FULL_MAP_H

#include "util/compiler.h"

typedef struct FullMap {
    uint64_t *words;
    uint64_t nwords;
} FullMap;

/* (Without memory for it, stretch @i stays unmarked: it is looked at again.) */
void qcow2_full_map_set(FullMap *m, uint64_t i);
void qcow2_full_map_clear(FullMap *m, uint64_t i);
/* All of them, and the memory. */
void qcow2_full_map_forget(FullMap *m);
/* The first from @i on that is not marked. */
uint64_t qcow2_full_map_next(const FullMap *m, uint64_t i);

#endif
