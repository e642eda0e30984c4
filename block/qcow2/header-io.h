/* SPDX-License-Identifier: MIT */
/*
 * The header in the file: the only place that reads or writes it there.
 *
 * INV-HDR-1  All that the header of an image says changes by one write within its first sector,
 *            under the header lock: so none is torn, and no two writers undo each other. What lies
 *            past it is written only where the header on disk does not refer to it, and is on disk
 *            before the sector that does (header-plan.h).
 */
#ifndef QCOW2_HEADER_IO_H
#define QCOW2_HEADER_IO_H

#include "block/io.h"
#include "header.h"
#include "util/co-lock.h"

typedef struct HeaderFile {
    BdrvChild *file;
    CoMutex lock; /* of its fields in the file; taken inside of all other locks but spin locks */
} HeaderFile;

void qcow2_header_file_init(HeaderFile *f, BdrvChild *file);
int coroutine_fn qcow2_header_co_read(BdrvChild *file, Qcow2Header *h, int flags, GError **errp);
/* Bytes [@from, @to) as @h has them; both are among the places in header.h (Qcow2HeaderPlace). Not
 * synced. */
int coroutine_fn qcow2_header_co_write_fields(HeaderFile *f, const Qcow2Header *h, size_t from,
                                              size_t to) EXCLUDES_LOCK(f->lock);
/* The same for a caller that changes @h with it. */
int coroutine_fn qcow2_header_co_write_fields_locked(HeaderFile *f, const Qcow2Header *h,
                                                     size_t from, size_t to) REQUIRES_LOCK(f->lock);
/* What a failed rewrite leaves. */
typedef enum HeaderFailure {
    HEADER_UNTOUCHED,
    HEADER_IN_DOUBT,   /* the file says the old or the new */
    HEADER_SYNC_FAILED /* that, too (INV-FLUSH-3) */
} HeaderFailure;
/* The whole of it, as @h says, with its extensions and names, and synced. At every instant the file
 * says all of what it said or all of @h. (A corrupt bit that is set meanwhile stays.) On failure
 * *@failure is set; -ENOSPC and HEADER_UNTOUCHED: there is no room for it in the cluster. */
int coroutine_fn qcow2_header_co_rewrite(HeaderFile *f, const Qcow2Header *h,
                                         HeaderFailure *failure, GError **errp)
    REQUIRES_LOCK(f->lock);
/* All fields that the header has but for its length and the backing file's name, in one write: the
 * image becomes another one at once. Not synced. */
int coroutine_fn qcow2_header_co_switch(HeaderFile *f, const Qcow2Header *h) EXCLUDES_LOCK(f->lock);
/* Which bytes of the cluster, @len bytes, the header in the file is, and the length of its
 * fields. */
int coroutine_fn qcow2_header_co_places(HeaderFile *f, size_t len, Qcow2HeaderPlaces *places,
                                        size_t *fields);
/* Set the corrupt bit, where the version has it, and sync; no other bit changes. */
int coroutine_fn qcow2_header_co_mark_corrupt(HeaderFile *f) EXCLUDES_LOCK(f->lock);
/* All of it, for a new image: more than a sector, so it can be torn. Not synced. */
int coroutine_fn qcow2_header_co_write_new(BdrvChild *file, const Qcow2Header *h);

#endif
