/* SPDX-License-Identifier: MIT */
/* Random bytes: see random.h. */
#include "random.h"

#include <errno.h>
#include <sys/random.h>

#define CALL_MAX 256 /* such a call is neither interrupted nor short once the pool is ready */

void crypt_random(void *buf, size_t len)
{
    uint8_t *p = buf;

    while (len) {
        ssize_t n = getrandom(p, MIN(len, (size_t)CALL_MAX), 0);

        /* (The kernel has the call since 3.17; a filter that forbids it would be our mistake.) */
        g_assert(n > 0 || errno == EINTR);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
}
