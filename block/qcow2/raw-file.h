/* SPDX-License-Identifier: MIT */
/* A raw external data file is the disk (raw-file.c has the rules). */
#ifndef QCOW2_RAW_FILE_H
#define QCOW2_RAW_FILE_H

#include "write.h"

/* The external data file holds what the guest sees, and is what changes. */
bool qcow2_raw_file_is_disk(const Qcow2 *q);
/* Guest [start, end) becomes zero there, as far as the disk goes. */
int coroutine_fn qcow2_raw_file_co_zero(Qcow2 *q, uint64_t start, uint64_t end, unsigned flags);
/* What the entries do not show yet of the run with what it fills in becomes zero there: then they
 * may. */
int coroutine_fn qcow2_raw_file_co_prepare(Qcow2 *q, const WriteRun *r)
    EXCLUDES_LOCK(q->alloc.meta_lock);

#endif
