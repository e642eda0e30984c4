/* SPDX-License-Identifier: MIT */
/*
 * Is a buffer all zero?  Looks at its ends and middle first (most buffers that are not zero show
 * it there), then 256 bytes at a time, as vectors that the compiler maps to the processor's own.
 */
#include "util/iov.h"

#include <string.h>

typedef uint64_t Vec __attribute__((vector_size(32), aligned(1), may_alias));

#define STEP 256

static inline __attribute__((always_inline)) bool steps_are_zero(const uint8_t *p, size_t len)
{
    const uint8_t *end = p + len;

    for (; p < end; p += STEP) {
        const Vec *v = (const Vec *)p;
        Vec a = v[0] | v[1] | v[2] | v[3];
        Vec b = v[4] | v[5] | v[6] | v[7];

        a |= b;
        if (a[0] | a[1] | a[2] | a[3]) {
            return false;
        }
    }
    return true;
}

static bool zero_generic(const uint8_t *p, size_t len)
{
    return steps_are_zero(p, len);
}

#if defined(__x86_64__)
static __attribute__((target("avx2"))) bool zero_avx2(const uint8_t *p, size_t len)
{
    return steps_are_zero(p, len);
}

static bool zero_steps(const uint8_t *p, size_t len)
{
    return __builtin_cpu_supports("avx2") ? zero_avx2(p, len) : zero_generic(p, len);
}
#else
static bool zero_steps(const uint8_t *p, size_t len)
{
    return zero_generic(p, len);
}
#endif

bool buffer_is_zero(const void *buf, size_t len)
{
    const uint8_t *p = buf;
    size_t whole = len / STEP * STEP;

    if (len == 0) {
        return true;
    }
    if (p[0] | p[len / 2] | p[len - 1]) {
        return false;
    }
    for (size_t i = whole; i < len; i++) {
        if (p[i]) {
            return false;
        }
    }
    return whole == 0 || zero_steps(p, whole);
}
