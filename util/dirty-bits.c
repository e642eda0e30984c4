/* SPDX-License-Identifier: MIT */
/* Sets of bits for dirty areas: see dirty-bits.h. */
#include "util/dirty-bits.h"

#define WORD_BITS 64
#define WORDS(n) (((n) + WORD_BITS - 1) / WORD_BITS)

uint64_t dirty_bits_memory(uint64_t n)
{
    return (WORDS(n) + WORDS(WORDS(n))) * 8 + sizeof(DirtyBits);
}

DirtyBits *dirty_bits_new(uint64_t n)
{
    DirtyBits *b = g_try_new0(DirtyBits, 1);

    if (!b) {
        return NULL;
    }
    b->n = n;
    atomic_init(&b->refs, 1);
    b->words = g_try_malloc0(MAX(WORDS(n), 1) * 8);
    b->summary = g_try_malloc0(MAX(WORDS(WORDS(n)), 1) * 8);
    if (!b->words || !b->summary) {
        dirty_bits_unref(b);
        return NULL;
    }
    return b;
}

DirtyBits *dirty_bits_ref(DirtyBits *b)
{
    atomic_fetch_add(&b->refs, 1);
    return b;
}

void dirty_bits_unref(DirtyBits *b)
{
    if (b && atomic_fetch_sub(&b->refs, 1) == 1) {
        g_free((void *)b->words);
        g_free((void *)b->summary);
        g_free(b);
    }
}

/* ---- Words ---- */

static uint64_t load(const _Atomic uint64_t *w)
{
    return atomic_load_explicit(w, memory_order_relaxed);
}

static void or_word(DirtyBits *b, uint64_t i, uint64_t mask)
{
    _Atomic uint64_t *above = &b->summary[i / WORD_BITS];
    uint64_t bit = UINT64_C(1) << i % WORD_BITS;

    if (!(load(above) & bit)) {
        atomic_fetch_or(above, bit); /* INV-DB-1 */
    }
    if ((load(&b->words[i]) & mask) != mask) {
        atomic_fetch_or(&b->words[i], mask);
    }
}

/* The bits of word @i that are in [@first, @end). */
static uint64_t mask_of(uint64_t i, uint64_t first, uint64_t end)
{
    uint64_t start = i * WORD_BITS, mask = UINT64_MAX;

    if (first > start) {
        mask &= UINT64_MAX << (first - start);
    }
    if (end < start + WORD_BITS) {
        mask &= (UINT64_C(1) << (end - start)) - 1;
    }
    return mask;
}

void dirty_bits_set(DirtyBits *b, uint64_t first, uint64_t n)
{
    uint64_t end = first + n;

    g_assert(end >= first && end <= b->n); /* INV-DB-2 */
    for (uint64_t i = first / WORD_BITS; i * WORD_BITS < end; i++) {
        or_word(b, i, mask_of(i, first, end));
    }
}

void dirty_bits_clear(DirtyBits *b, uint64_t first, uint64_t n)
{
    uint64_t end = first + n;

    g_assert(end >= first && end <= b->n);
    for (uint64_t i = first / WORD_BITS; i * WORD_BITS < end; i++) {
        if (load(&b->words[i])) {
            atomic_fetch_and(&b->words[i], ~mask_of(i, first, end));
        }
    }
}

bool dirty_bits_test(const DirtyBits *b, uint64_t i)
{
    return i < b->n && load(&b->words[i / WORD_BITS]) >> i % WORD_BITS & 1;
}

/* ---- Looking ---- */

/* The first word from @i on that may not be 0, or the number of words. */
static uint64_t next_word(const DirtyBits *b, uint64_t i)
{
    uint64_t words = WORDS(b->n);

    while (i < words) {
        uint64_t rest = load(&b->summary[i / WORD_BITS]) >> i % WORD_BITS;

        if (rest) {
            return i + (uint64_t)__builtin_ctzll(rest);
        }
        i = (i / WORD_BITS + 1) * WORD_BITS;
    }
    return words;
}

uint64_t dirty_bits_count(const DirtyBits *b)
{
    uint64_t count = 0, words = WORDS(b->n);

    for (uint64_t i = next_word(b, 0); i < words; i = next_word(b, i + 1)) {
        count += (uint64_t)__builtin_popcountll(load(&b->words[i]));
    }
    return count;
}

uint64_t dirty_bits_next(const DirtyBits *b, uint64_t from)
{
    uint64_t words = WORDS(b->n);

    for (uint64_t i = next_word(b, from / WORD_BITS); i < words; i = next_word(b, i + 1)) {
        uint64_t w = load(&b->words[i]) & mask_of(i, from, UINT64_MAX);

        if (w) {
            return i * WORD_BITS + (uint64_t)__builtin_ctzll(w);
        }
    }
    return b->n;
}

uint64_t dirty_bits_next_clear(const DirtyBits *b, uint64_t from)
{
    for (uint64_t i = from / WORD_BITS; i * WORD_BITS < b->n; i++) {
        uint64_t w = ~load(&b->words[i]) & mask_of(i, from, UINT64_MAX);

        if (w) {
            return MIN(i * WORD_BITS + (uint64_t)__builtin_ctzll(w), b->n);
        }
    }
    return b->n;
}

/* ---- Merging ---- */

/* Bits [@first, @end) of the source, in the destination. */
static void set_scaled(DirtyBits *dst, unsigned dst_shift, uint64_t first, uint64_t end,
                       unsigned src_shift)
{
    uint64_t a, z;

    if (src_shift >= dst_shift) {
        a = first << (src_shift - dst_shift);
        z = end << (src_shift - dst_shift);
    } else {
        a = first >> (dst_shift - src_shift);
        z = ((end - 1) >> (dst_shift - src_shift)) + 1;
    }
    z = MIN(z, dst->n);
    if (a < z) {
        dirty_bits_set(dst, a, z - a);
    }
}

void dirty_bits_merge(DirtyBits *dst, unsigned dst_shift, const DirtyBits *src, unsigned src_shift)
{
    for (uint64_t at = dirty_bits_next(src, 0); at < src->n; at = dirty_bits_next(src, at)) {
        uint64_t end = dirty_bits_next_clear(src, at);

        set_scaled(dst, dst_shift, at, end, src_shift);
        at = end;
    }
}

/* ---- As bytes ---- */

void dirty_bits_store(const DirtyBits *b, uint64_t first, uint8_t *buf, size_t len)
{
    uint64_t words = WORDS(b->n), w = first / WORD_BITS;

    g_assert(first % WORD_BITS == 0 && len % 8 == 0);
    for (size_t i = 0; i < len / 8; i++, w++) {
        uint64_t v = w < words ? atomic_load(&b->words[w]) : 0;

        for (unsigned k = 0; k < 8; k++) {
            buf[i * 8 + k] = (uint8_t)(v >> 8 * k);
        }
    }
}

void dirty_bits_load(DirtyBits *b, uint64_t first, const uint8_t *buf, size_t len)
{
    uint64_t w = first / WORD_BITS;

    g_assert(first % WORD_BITS == 0 && len % 8 == 0);
    for (size_t i = 0; i < len / 8 && w * WORD_BITS < b->n; i++, w++) {
        uint64_t v = 0;

        for (unsigned k = 0; k < 8; k++) {
            v |= (uint64_t)buf[i * 8 + k] << 8 * k;
        }
        v &= mask_of(w, 0, b->n);
        if (v) {
            or_word(b, w, v);
        }
    }
}
