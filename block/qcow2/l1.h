/* SPDX-License-Identifier: MIT */
/*
 * The L1 table: in memory whole, on disk where the header says.
 *
 * INV-TR-1  q->l1 is replaced by a table with the same prefix under meta_lock, and the old one
 *           lives until close: lookups without a lock may still read it, and a stale look at an
 *           entry is what they would have seen a moment before.
 */
#ifndef QCOW2_L1_H
#define QCOW2_L1_H

#include "qcow2.h"

/* At open; its L2 tables are known as metadata afterwards. */
int coroutine_fn qcow2_l1_co_load(Qcow2 *q, GError **errp);
/* In memory; dirty. */
void qcow2_l1_set(Qcow2 *q, uint32_t index, uint64_t entry) REQUIRES_LOCK(q->alloc.meta_lock);

/* For a flush: the dirty entries [first, first + n) in on-disk order; g_free(@data). */
typedef struct L1Seal {
    uint64_t *data;
    uint32_t first, n;
} L1Seal;
int qcow2_l1_seal(Qcow2 *q, L1Seal *s) REQUIRES_LOCK(q->alloc.meta_lock);
void qcow2_l1_unseal(Qcow2 *q, const L1Seal *s) REQUIRES_LOCK(q->alloc.meta_lock);
int coroutine_fn qcow2_l1_co_write(Qcow2 *q, const L1Seal *s);

/* l1-grow.c: the table gets @entries at least. The caller is alone on the image. */
int coroutine_fn qcow2_l1_co_grow(Qcow2 *q, uint64_t entries) EXCLUDES_LOCK(q->alloc.meta_lock);

#endif
