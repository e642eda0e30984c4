/* SPDX-License-Identifier: MIT */
/* Clusters of an internal snapshot: whatever the guest does, their bytes stay as they are. */
#ifndef CRASH_SHARED_H
#define CRASH_SHARED_H

#include "mem.h"

typedef struct Shared Shared;

/* Make a snapshot of @image with the reference's tool; false: it is not there. */
bool shared_make_snapshot(MemFile *image);
/* What the first snapshot of @image refers to; NULL: there is none. */
Shared *shared_new(const MemFile *image);
void shared_free(Shared *s);
/* NULL, or which cluster of @state is not as it was (g_free). */
char *shared_check(const Shared *s, const MemFile *state);

#endif
