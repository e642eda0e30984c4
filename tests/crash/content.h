/* SPDX-License-Identifier: MIT */
/*
 * What a sector holds: zeroes, or a word (not 0) 64 times over, or, when bit 1 of the word is set,
 * a stream that begins with the word and cannot be compressed.
 */
#ifndef CRASH_CONTENT_H
#define CRASH_CONTENT_H

#include "mem.h"
#include "program.h"

#include <string.h>

/* One operation in three, and the backing file (0), has stretches of 1, 8 or 64 sectors of zeroes.
 */
static inline bool content_hole(uint32_t id, uint64_t sector)
{
    return id % 3 == 0 && (mix64(((uint64_t)id << 40) + (sector >> id / 3 % 3 * 3)) >> 60) < 6;
}

static inline uint64_t content_word(uint32_t id, uint64_t sector, bool noisy)
{
    uint64_t w = mix64(((uint64_t)id << 40) + sector) | 3;

    if (content_hole(id, sector)) {
        return 0;
    }
    return noisy ? w : w - 2;
}

static inline void content_fill(uint8_t *buf, uint64_t word)
{
    for (unsigned i = 0; i < SECTOR / 8; i++) {
        uint64_t v = (word & 2) && word && i ? mix64(word + i) : word;

        memcpy(buf + i * 8, &v, 8);
    }
}

/* The word of a sector; false: it is torn or mixed. */
static inline bool content_read(const uint8_t *buf, uint64_t *word)
{
    memcpy(word, buf, 8);
    if (*word & 2) {
        for (unsigned i = 1; i < SECTOR / 8; i++) {
            uint64_t v = mix64(*word + i);

            if (memcmp(buf + i * 8, &v, 8)) {
                return false;
            }
        }
        return true;
    }
    return !memcmp(buf, buf + 8, SECTOR - 8);
}

#endif
