/* SPDX-License-Identifier: MIT */
/*
 * Persistent bitmaps.  They are kept, not kept up to date: those that must tell of every change of
 * the disk (auto) are marked as in use before the first one, which is what the format has for a
 * bitmap that is not to be believed.  An image that nobody writes to stays as it is, to the byte.
 *
 * INV-BM-1  The marks are on stable storage before any change of what the guest reads is written.
 * INV-BM-2  Only flags change, each within one sector: a torn write marks some bitmaps and leaves
 *           others, and both are true, as nothing else has changed yet.
 */
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
bool qcow2_bitmap_dir_next(const uint8_t *dir, uint64_t size, uint64_t *at, BitmapEntry *e);
/* A writer opens the image: its bitmaps can be marked, and their tables are metadata. *@to_mark:
 * some are to be marked before the disk changes. */
int coroutine_fn qcow2_bitmap_co_open(Qcow2 *q, bool *to_mark, GError **errp);
/* Those that must tell of every change are in use from now on. Not synced. */
int coroutine_fn qcow2_bitmap_co_mark_in_use(Qcow2 *q);
/* Adds "bitmaps.N.…" to @o. */
bool qcow2_bitmap_list(Qcow2 *q, Options *o, GError **errp);

#endif
