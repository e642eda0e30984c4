/* SPDX-License-Identifier: MIT */
/*
 * May the image be written?  Not when its bytes were found bad (corrupt), and not after a sync
 * failed.  Both last until it is opened again.
 *
 * INV-HEALTH-1  A corruption is reported once, and marked in the header once, where the image may
 *               be written.
 */
#ifndef QCOW2_HEALTH_H
#define QCOW2_HEALTH_H

#include "block/io.h"
#include "header-io.h"

typedef struct Health {
    BlockDriverState *bs;
    HeaderFile *header;
    atomic_bool corrupt;
    atomic_int write_error; /* -errno of a failed sync, or of what keeps all writes out */
} Health;

void qcow2_health_init(Health *h, BlockDriverState *bs, HeaderFile *header);
/* Bad bytes at @offset of the file: remembers them, marks the image corrupt (if it is writable)
 * once, returns -EIO. */
int coroutine_fn qcow2_health_co_corrupt(Health *h, const char *site, int64_t offset,
                                         const char *what);
/* The same, with a reason as the reference words it. */
int coroutine_fn qcow2_health_co_corrupt_by(Health *h, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* A write, or an allocation, would be where metadata (@what) is. */
int coroutine_fn qcow2_health_co_overlaps(Health *h, const char *what);
/* 0, or why nothing may be written (-errno). */
int qcow2_health_may_write(const Health *h);
/* A sync failed with @ret elsewhere: remembers it (INV-FLUSH-3). */
void qcow2_health_sync_failed(Health *h, int ret);
/* Sync @bs, the image's file or its data file; a failure is remembered (INV-FLUSH-3). Any lock may
 * be held. */
int coroutine_fn qcow2_health_co_sync(Health *h, BlockDriverState *bs);

#endif
