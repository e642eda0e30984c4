/* SPDX-License-Identifier: MIT */
/* Stretches of clusters without a free one: see full-map.h. */
#include "full-map.h"

#include <string.h>

void qcow2_full_map_set(FullMap *m, uint64_t i)
{
    uint64_t need = i / 64 + 1;

    if (need > m->nwords) {
        uint64_t n = MAX(need, 2 * m->nwords);
        uint64_t *words = g_try_renew(uint64_t, m->words, n);

        if (!words) {
            return;
        }
        memset(words + m->nwords, 0, (n - m->nwords) * sizeof(*words));
        m->words = words;
        m->nwords = n;
    }
    m->words[i / 64] |= UINT64_C(1) << i % 64;
}

void qcow2_full_map_clear(FullMap *m, uint64_t i)
{
    if (i / 64 < m->nwords) {
        m->words[i / 64] &= ~(UINT64_C(1) << i % 64);
    }
}

void qcow2_full_map_forget(FullMap *m)
{
    g_clear_pointer(&m->words, g_free);
    m->nwords = 0;
}

uint64_t qcow2_full_map_next(const FullMap *m, uint64_t i)
{
    for (; i / 64 < m->nwords; i = ALIGN_DOWN(i, UINT64_C(64)) + 64) {
        uint64_t open = ~m->words[i / 64] >> i % 64;

        if (open) {
            return i + (uint64_t)__builtin_ctzll(open);
        }
    }
    return i;
}
