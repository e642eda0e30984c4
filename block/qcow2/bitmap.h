/* SPDX-License-Identifier: MIT */
/*
 * Persistent bitmaps: their directory.  Those that must tell of every change of the disk (auto) are
 * kept true while we write (track.h).  One that cannot be (its table is bad, it needs too much
 * memory) is marked as in use before the first change, which is what the format has for a bitmap
 * that is not to be believed.  An image that nobody writes to stays as it is, to the byte.
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
#define BITMAP_MIN_GRANULARITY_BITS 9
#define BITMAP_MAX_GRANULARITY_BITS 31
#define BITMAP_MAX_NAME 1023
#define BITMAP_MAX_COUNT 65535
#define BITMAP_MAX_DIR_BYTES (BITMAP_MAX_COUNT * UINT64_C(1024)) /* the format's */

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
/* Are its type, flags, granularity and name what the format allows? */
bool qcow2_bitmap_is_known(const BitmapEntry *e);
/* Bytes of the entry @e in a directory. */
size_t qcow2_bitmap_dir_entry_bytes(const BitmapEntry *e);
/* Writes it to zeroed bytes; @extra: extra_len bytes. */
void qcow2_bitmap_dir_put(uint8_t *p, const BitmapEntry *e, const uint8_t *extra);
/* The directory as it is on disk, hdr.bitmap_dir_size bytes; g_free(). */
int coroutine_fn qcow2_bitmap_co_read_dir(Qcow2 *q, uint8_t **ret_dir, GError **errp);
/* A writer opens the image: its bitmaps can be marked, and their tables are metadata. *@to_mark:
 * some are to be marked before the disk changes. */
int coroutine_fn qcow2_bitmap_co_open(Qcow2 *q, bool *to_mark, GError **errp);
/* Of those that must tell of every change, the ones that @is_kept denies are in use from now on;
 * its argument is an entry's name. *@marked: there are some. Not synced. */
int coroutine_fn qcow2_bitmap_co_mark_in_use(Qcow2 *q,
                                             bool (*is_kept)(const Qcow2 *q, const BitmapEntry *e),
                                             bool *marked);
/* What a user is to know of bitmaps that are not to be believed; NULL: nothing. g_free(). */
char *qcow2_bitmap_warning(const Qcow2 *q);
/* Adds "bitmaps.N.…" to @o. */
bool qcow2_bitmap_list(Qcow2 *q, Options *o, GError **errp);

#endif
