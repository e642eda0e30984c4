/* SPDX-License-Identifier: MIT */
/*
 * The oracle of the cache: checksums of slices that left it clean, beside the file that they are
 * loaded from again. What comes back must be what left. With the cache's lock.
 */
#ifndef QCOW2_ORACLE_SLICES_H
#define QCOW2_ORACLE_SLICES_H

#include "util/compiler.h"

typedef struct SliceOracle SliceOracle;

SliceOracle *qcow2_oracle_slices_new(size_t slice_size);
void qcow2_oracle_slices_free(SliceOracle *o); /* NULL is fine */
/* The slice at @offset leaves, with @data. */
void qcow2_oracle_slices_leave(SliceOracle *o, uint64_t offset, const void *data);
/* It is back: as it left, if it did. */
void qcow2_oracle_slices_check(SliceOracle *o, uint64_t offset, const void *data);
/* It changes, or is another table's from now on. */
void qcow2_oracle_slices_forget(SliceOracle *o, uint64_t offset);

#endif
