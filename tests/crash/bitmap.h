/* SPDX-License-Identifier: MIT */
/* A persistent bitmap of the image: as long as it does not say that it is in use, the disk is as it
 * was when the bitmap was made. */
#ifndef CRASH_BITMAP_H
#define CRASH_BITMAP_H

#include "mem.h"

/* Make an enabled one with the reference's tool; false: it is not there. */
bool bitmap_make(MemFile *image);
/* NULL, or why the image's bitmap can no longer be found (g_free). *@in_use: it is not to be
 * believed. */
char *bitmap_find(const MemFile *image, bool *in_use);

#endif
