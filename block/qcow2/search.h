/* SPDX-License-Identifier: MIT */
/* Finding free clusters; nothing is taken. */
#ifndef QCOW2_SEARCH_H
#define QCOW2_SEARCH_H

#include "allocator.h"

/* The end of the file in clusters, as last known: asking the file is a system call. */
uint64_t qcow2_search_file_end(const Allocator *a);
/* Looks at the counts of some clusters from *@c on, so that a search does not have to, and moves
 * *@c past them. What fails is left to the search. */
void coroutine_fn qcow2_search_co_look_ahead(Allocator *a, uint64_t *c) REQUIRES_LOCK(a->meta_lock);
/* First run of free clusters from @start on, that avoids @avoid: exactly @n if @exact, else 1..@n.
 * *@seen (may be NULL): the first free cluster met. -EFBIG: there is none. */
int coroutine_fn qcow2_search_co_free(Allocator *a, uint64_t start, uint64_t n, bool exact,
                                      ClusterRange avoid, uint64_t *first, uint64_t *got,
                                      uint64_t *seen) REQUIRES_LOCK(a->meta_lock);

#endif
