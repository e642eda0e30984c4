/* SPDX-License-Identifier: MIT */
/* What lies past the disk's end, within the table that describes it: others show it when the disk
 * grows. */
#ifndef CRASH_PAST_END_H
#define CRASH_PAST_END_H

#include "mem.h"

/* The header of @image gives the disk whole clusters more, up to @most bytes and no table more: the
 * guest's area [*@start, *@end) that is new but for the rest of a cluster. False: there is none. */
bool past_end_grow(MemFile *image, uint64_t most, uint64_t *start, uint64_t *end);
/* As it was: a disk of @size bytes. */
void past_end_restore(MemFile *image, uint64_t size);

#endif
