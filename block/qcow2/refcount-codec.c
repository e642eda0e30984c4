/* SPDX-License-Identifier: MIT */
/* Entries of a refcount block: see refcount-codec.h. */
#include "refcount-codec.h"
#include "util/bytes.h"

#include <string.h>

uint64_t qcow2_refcount_codec_get(unsigned order, const void *block, uint64_t index)
{
    const uint8_t *p = block;
    unsigned bits = 1u << order;

    switch (order) {
    case 0:
    case 1:
    case 2: {
        uint64_t bit = index << order;
        return (p[bit >> 3] >> (bit & 7)) & ((1u << bits) - 1);
    }
    case 3:
        return p[index];
    case 4:
        return ldbe16(p + index * 2);
    case 5:
        return ldbe32(p + index * 4);
    default:
        return ldbe64(p + index * 8);
    }
}

void qcow2_refcount_codec_set(unsigned order, void *block, uint64_t index, uint64_t value)
{
    uint8_t *p = block;
    unsigned bits = 1u << order;

    g_assert(order <= 6 && (order == 6 || value >> bits == 0));
    switch (order) {
    case 0:
    case 1:
    case 2: {
        uint64_t bit = index << order;
        unsigned mask = ((1u << bits) - 1) << (bit & 7);

        p[bit >> 3] = (p[bit >> 3] & ~mask) | ((unsigned)value << (bit & 7));
        return;
    }
    case 3:
        p[index] = value;
        return;
    case 4:
        stbe16(p + index * 2, value);
        return;
    case 5:
        stbe32(p + index * 4, value);
        return;
    default:
        stbe64(p + index * 8, value);
    }
}

uint64_t qcow2_refcount_codec_zero_run(unsigned order, const void *block, uint64_t index,
                                       uint64_t n)
{
    uint64_t i = 0;

    while (i < n && qcow2_refcount_codec_get(order, block, index + i) == 0) {
        i++;
    }
    return i;
}

/* Of 64 bits of entries, in any byte order. */
static bool has_zero(unsigned order, uint64_t word)
{
    unsigned bits = 1u << order;
    uint64_t low = bits == 64 ? 1 : UINT64_MAX / ((UINT64_C(1) << bits) - 1);

    return ((word - low) & ~word & low << (bits - 1)) != 0;
}

uint64_t qcow2_refcount_codec_used_run(unsigned order, const void *block, uint64_t index,
                                       uint64_t n)
{
    uint64_t per = 64u >> order, i = 0;

    while (i < n) {
        uint64_t word;

        if ((index + i) % per == 0 && n - i >= per) {
            memcpy(&word, (const uint8_t *)block + (index + i) / per * 8, sizeof(word));
            if (!has_zero(order, word)) {
                i += per;
                continue;
            }
        }
        if (qcow2_refcount_codec_get(order, block, index + i) == 0) {
            break;
        }
        i++;
    }
    return i;
}
