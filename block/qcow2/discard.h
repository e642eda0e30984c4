/* SPDX-License-Identifier: MIT */
/* Discards, as others need them. */
#ifndef QCOW2_DISCARD_H
#define QCOW2_DISCARD_H

#include "qcow2.h"

/* For truncate: the entries of guest [start, end), cluster aligned, become 0; zero by flag where a
 * backing file would show. */
int coroutine_fn qcow2_discard_co_forget(Qcow2 *q, uint64_t start, uint64_t end)
    EXCLUDES_LOCK(q->alloc.meta_lock);

/* The same, also where a backing file shows then; entries that hold nothing show it already. */
int coroutine_fn qcow2_discard_co_empty(Qcow2 *q, uint64_t start, uint64_t end)
    EXCLUDES_LOCK(q->alloc.meta_lock);

/* Give back the space of host clusters that keep their place, where entries of guest [start, end)
 * read zero. The lock is dropped meanwhile; others do not change these entries. Best effort. */
void coroutine_fn qcow2_discard_co_punch_kept(Qcow2 *q, uint64_t start, uint64_t end)
    REQUIRES_LOCK(q->alloc.meta_lock);

#endif
