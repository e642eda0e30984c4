/* SPDX-License-Identifier: MIT */
/* Images that are damaged on purpose, for repairs: all that was readable, or is by what is left,
 * stays so. */
#ifndef CRASH_DAMAGE_H
#define CRASH_DAMAGE_H

#include "mem.h"

/* One to three defects of the tables of @image, by @seed. */
void damage_make(MemFile *image, uint64_t seed);
/* The image says that it is corrupt; @can: its version has a way to. */
bool damage_is_marked(const MemFile *image, bool *can);

#endif
