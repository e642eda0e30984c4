/* SPDX-License-Identifier: MIT */
/* The directory of persistent bitmaps: its entries, read one after the other. */
#ifndef QCOW2_BITMAP_H
#define QCOW2_BITMAP_H

#include "qcow2.h"

#define BITMAP_IN_USE 1u /* not kept up to date: its content says nothing */
#define BITMAP_AUTO 2u   /* enabled: must tell of every change of the disk */
#define BITMAP_EXTRA_COMPATIBLE 4u
#define BITMAP_DIRTY_TRACKING 1 /* the one type that there is */
#define BITMAP_MAX_GRANULARITY_BITS 31

typedef struct BitmapEntry {
    uint64_t at; /* where it begins in the directory */
    uint64_t table_offset;
    uint32_t table_entries;
    uint32_t flags;
    uint8_t type, granularity_bits;
    uint16_t name_len;
    uint32_t extra_len;
    const char *name; /* within the directory, not terminated */
} BitmapEntry;

/* The entry at *@at of a directory of @size bytes; moves *@at past it. False: it is cut short. */
bool bitmap_dir_next(const uint8_t *dir, uint64_t size, uint64_t *at, BitmapEntry *e);

#endif
