/* SPDX-License-Identifier: MIT */
/* Who has which cluster: see compact.h. */
#include "compact.h"

int qcow2_compact_map_init(CompactMap *m, uint64_t clusters)
{
    *m = (CompactMap){ .clusters = clusters, .maybe_free = 1 };
    m->refs = g_try_new0(uint32_t, MAX(clusters, 1));
    m->fixed = g_try_malloc0(clusters / 8 + 1);
    m->meta = g_try_malloc0(clusters / 8 + 1);
    return m->refs && m->fixed && m->meta ? 0 : -ENOMEM;
}

void qcow2_compact_map_clear(CompactMap *m)
{
    g_free(m->refs);
    g_free(m->fixed);
    g_free(m->meta);
    *m = (CompactMap){ 0 };
}

bool qcow2_compact_map_add(CompactMap *m, uint64_t c, uint64_t n)
{
    if (c >= m->clusters || n > UINT32_MAX - m->refs[c]) {
        return false;
    }
    m->refs[c] += (uint32_t)n;
    return true;
}

bool qcow2_compact_map_sub(CompactMap *m, uint64_t c, uint64_t n)
{
    if (c >= m->clusters || m->refs[c] < n) {
        return false;
    }
    m->refs[c] -= (uint32_t)n;
    if (m->refs[c] == 0) {
        m->maybe_free = MIN(m->maybe_free, c);
        m->fixed[c / 8] &= (uint8_t) ~(1u << c % 8);
        m->meta[c / 8] &= (uint8_t) ~(1u << c % 8);
    }
    return true;
}

void qcow2_compact_map_sum_up(CompactMap *m)
{
    m->used = m->end = 0;
    for (uint64_t c = 0; c < m->clusters; c++) {
        if (m->refs[c]) {
            m->used++;
            m->end = c + 1;
        }
    }
}

uint64_t qcow2_compact_map_find(CompactMap *m, uint64_t from, uint64_t n, uint64_t below)
{
    uint64_t run = 0;

    g_assert(n > 0);
    below = MIN(below, m->clusters);
    while (m->maybe_free < m->clusters && m->refs[m->maybe_free]) {
        m->maybe_free++;
    }
    for (uint64_t c = MAX(MAX(from, m->maybe_free), 1); c < below; c++) {
        run = m->refs[c] ? 0 : run + 1;
        if (run == n) {
            return c + 1 - n;
        }
    }
    return 0;
}
