/* SPDX-License-Identifier: MIT */
/* Entries of a refcount block, 1 to 64 bits wide (1 << order). Pure. */
#ifndef QCOW2_REFCOUNT_CODEC_H
#define QCOW2_REFCOUNT_CODEC_H

#include "util/compiler.h"

/* Widths under a byte count from the least significant bit up. */
uint64_t qcow2_refcount_codec_get(unsigned order, const void *block, uint64_t index);
/* @value fits the width. */
void qcow2_refcount_codec_set(unsigned order, void *block, uint64_t index, uint64_t value);
/* How many entries from @index on, at most @n, are not zero. */
uint64_t qcow2_refcount_codec_used_run(unsigned order, const void *block, uint64_t index,
                                       uint64_t n);
/* How many entries from @index on, at most @n, are zero. */
uint64_t qcow2_refcount_codec_zero_run(unsigned order, const void *block, uint64_t index,
                                       uint64_t n);

#endif
