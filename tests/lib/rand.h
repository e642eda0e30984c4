/* SPDX-License-Identifier: MIT */
/* Random numbers that a seed repeats on any machine (splitmix64). */
#ifndef TESTS_LIB_RAND_H
#define TESTS_LIB_RAND_H

#include <stdint.h>

static inline uint64_t rand_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* 0 <= result < @n */
static inline unsigned rand_below(uint64_t *state, unsigned n)
{
    return (unsigned)(rand_next(state) % n);
}

static inline unsigned rand_range(uint64_t *state, unsigned low, unsigned high) /* inclusive */
{
    return low + rand_below(state, high - low + 1);
}

#endif
