/* SPDX-License-Identifier: MIT */
/*
 * A set of bits for dirty areas: setting is atomic and takes no lock, and looking for the next bit
 * skips what is empty by a summary above the words.
 *
 * INV-DB-1  A word that is not 0 has its bit in the summary set: it is set first. (A bit of the
 *           summary may stay when its word has become 0.)
 * INV-DB-2  Bits from n on are 0.
 */
#ifndef UTIL_DIRTY_BITS_H
#define UTIL_DIRTY_BITS_H

#include "util/compiler.h"

#include <stdatomic.h>

typedef struct DirtyBits {
    uint64_t n; /* constant, as the pointers are */
    atomic_int refs;
    _Atomic uint64_t *words, *summary;
} DirtyBits;

/* All clear. NULL without memory. One reference. */
DirtyBits *dirty_bits_new(uint64_t n);
DirtyBits *dirty_bits_ref(DirtyBits *b);
void dirty_bits_unref(DirtyBits *b); /* NULL is fine */
/* Bytes that one of @n bits takes. */
uint64_t dirty_bits_memory(uint64_t n);

/* Any thread; [@first, @first + @n) is inside of the set. */
void dirty_bits_set(DirtyBits *b, uint64_t first, uint64_t n);
void dirty_bits_clear(DirtyBits *b, uint64_t first, uint64_t n);
bool dirty_bits_test(const DirtyBits *b, uint64_t i);
uint64_t dirty_bits_count(const DirtyBits *b);
/* The first set bit of [@from, n), or n. */
uint64_t dirty_bits_next(const DirtyBits *b, uint64_t from);
/* The first clear bit of [@from, n), or n. */
uint64_t dirty_bits_next_clear(const DirtyBits *b, uint64_t from);
/* Whatever @src says is dirty becomes dirty in @dst, whose bits stand for 2^@dst_shift units each,
 * where those of @src stand for 2^@src_shift; of as many units. */
void dirty_bits_merge(DirtyBits *dst, unsigned dst_shift, const DirtyBits *src, unsigned src_shift);

/* Bits [@first, +8 * @len) as bytes, the lowest bit first; zeroes past the end. @first is a
 * multiple of 64, @len one of 8. */
void dirty_bits_store(const DirtyBits *b, uint64_t first, uint8_t *buf, size_t len);
/* The same back: what @buf has set becomes set. What lies past the end is ignored. */
void dirty_bits_load(DirtyBits *b, uint64_t first, const uint8_t *buf, size_t len);

#endif
