/* SPDX-License-Identifier: MIT */
/*
 * The reverse index: who refers to a cluster of a range.
 *
 * Its memory has a limit; a range that refers to more is made shorter until it fits.
 */
#include "compact.h"

#define MAX_REFS (UINT32_C(1) << 21)
#define MAX_RANGE (UINT64_C(1) << 23)

void qcow2_compact_index_clear(CompactIndex *x)
{
    g_free(x->heads);
    g_free(x->refs);
    *x = (CompactIndex){ 0 };
}

static bool grow(CompactIndex *x)
{
    uint32_t cap = MIN(MAX_REFS, x->cap ? x->cap * 2 : 1024);
    CompactRef *refs = cap > x->cap ? g_try_renew(CompactRef, x->refs, cap) : NULL;

    if (!refs) {
        return false;
    }
    x->refs = refs;
    x->cap = cap;
    return true;
}

/* References to clusters from @hi on are no longer of interest. */
static bool cut(CompactIndex *x, uint64_t hi)
{
    g_autofree uint32_t *moved = g_try_new0(uint32_t, x->n); /* old index -> new one */
    uint32_t n = 1;

    if (!moved || hi == x->lo) {
        return false; /* no memory, or that many to one cluster */
    }
    for (uint64_t i = 0; i < hi - x->lo; i++) {
        for (uint32_t r = x->heads[i]; r; r = x->refs[r].next) {
            moved[r] = 1;
        }
    }
    for (uint32_t r = 1; r < x->n; r++) {
        if (moved[r]) {
            moved[r] = n;
            x->refs[n++] = x->refs[r];
        }
    }
    for (uint32_t r = 1; r < n; r++) {
        x->refs[r].next = moved[x->refs[r].next];
    }
    for (uint64_t i = 0; i < hi - x->lo; i++) {
        x->heads[i] = moved[x->heads[i]];
    }
    x->n = n;
    x->hi = hi;
    return true;
}

static bool note(Compact *c, uint32_t table, uint32_t slot, uint64_t value)
{
    CompactIndex *x = &c->index;
    uint64_t bytes;
    uint64_t at = qcow2_compact_target(c, qcow2_compact_table(c, table)->kind, value, &bytes) >>
                  c->q->geo.cluster_bits;

    if (at < x->lo || at >= x->hi || (x->only && !qcow2_compact_map_bit(x->only, at))) {
        return true;
    }
    while (x->n == x->cap && !grow(x)) {
        if (!cut(x, x->lo + (x->hi - x->lo) / 2)) {
            return false;
        }
        if (at >= x->hi) {
            return true;
        }
    }
    x->refs[x->n] = (CompactRef){ value, table, slot, x->heads[at - x->lo] };
    x->heads[at - x->lo] = x->n++;
    return true;
}

int coroutine_fn qcow2_compact_index_co_make(Compact *c, uint64_t lo, uint64_t *hi,
                                             const uint8_t *only)
{
    CompactIndex *x = &c->index;
    int ret;

    g_assert(lo < *hi);
    qcow2_compact_index_clear(x);
    x->lo = lo;
    x->hi = MIN(*hi, lo + MAX_RANGE);
    x->only = only;
    x->heads = g_try_new0(uint32_t, x->hi - lo);
    x->n = 1;
    if (!x->heads || !grow(x)) {
        return -ENOMEM;
    }
    ret = qcow2_compact_scan_co_visit(c, note);
    x->only = NULL;
    *hi = x->hi;
    return ret;
}

CompactRef *qcow2_compact_index_first(const CompactIndex *x, uint64_t cluster)
{
    uint32_t r = cluster >= x->lo && cluster < x->hi ? x->heads[cluster - x->lo] : 0;

    return r ? &x->refs[r] : NULL;
}

void qcow2_compact_index_rename(CompactIndex *x, uint64_t from, uint64_t to)
{
    uint32_t chain;

    if (from < x->lo || from >= x->hi) {
        return;
    }
    chain = x->heads[from - x->lo];
    x->heads[from - x->lo] = 0;
    if (to >= x->lo && to < x->hi) {
        x->heads[to - x->lo] = chain;
    }
}
