/* SPDX-License-Identifier: MIT */
/* A persistent bitmap of the image, a bit for each sector: it is never in use, and wherever the
 * disk is not as it was when the bitmap was made, its bit is set. */
#ifndef CRASH_BITMAP_H
#define CRASH_BITMAP_H

#include "mem.h"

/* Make an enabled one with the reference's tool; false: it is not there. */
bool bitmap_make(MemFile *image);
typedef struct BitmapPlace {
    uint64_t table;
    uint32_t entries, cluster_bits, granularity_bits;
} BitmapPlace;

/* NULL, or why the image's bitmap can no longer be found, or be believed (g_free). */
char *bitmap_find(const MemFile *image, BitmapPlace *place);
/* The one of that name and its flags; false: there is none, or its entry cannot be read. */
bool bitmap_find_named(const MemFile *image, const char *name, BitmapPlace *place, uint32_t *flags);
bool bitmap_has(const MemFile *image, const BitmapPlace *place, uint64_t sector);

#endif
