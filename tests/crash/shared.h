/* SPDX-License-Identifier: MIT */
/* Clusters of an internal snapshot: whatever the guest does, their bytes stay as they are. */
#ifndef CRASH_SHARED_H
#define CRASH_SHARED_H

#include "mem.h"

typedef struct Shared Shared;

/* Run the reference's tool on @image: @command, the image's name, @last (NULL: nothing). False: it
 * is not there, or fails. */
bool shared_edit(MemFile *image, const char *const *command, const char *last);
/* Fields of the image. */
uint64_t shared_be64(const MemFile *f, uint64_t at);
uint32_t shared_be32(const MemFile *f, uint64_t at);

/* Make a snapshot of @image with the reference's tool; false: it is not there. */
bool shared_make_snapshot(MemFile *image);
/* What the first snapshot of @image refers to; NULL: there is none. */
Shared *shared_new(const MemFile *image);
void shared_free(Shared *s);
/* NULL, or which cluster of @state is not as it was (g_free). */
char *shared_check(const Shared *s, const MemFile *state);

#endif
