/* SPDX-License-Identifier: MIT */
/*
 * Look-up: guest offset to a run of one kind.
 *
 * A look-up without meta_lock reads the L1 entry atomically and decodes under the cache's spin
 * lock. What it finds may be let go of at once; the caller's pin keeps it from being used again.
 */
#include "map.h"

#include "entry.h"
#include "l2-table.h"

#include <errno.h>
#include <string.h>

static bool has_host(ScKind kind)
{
    return kind == SC_NORMAL || kind == SC_ZERO_ALLOC || kind == SC_UNALLOCATED_ALLOC;
}

/* How far entries after @index go on with the run that @x begins; the new length. */
static uint64_t extend(const Geometry *g, const void *data, unsigned index, unsigned entries,
                       uint64_t cluster, uint64_t len, uint64_t max, const Extent *x)
{
    while (len < max && ++index < entries) {
        L2Entry e = qcow2_l2_load(g, data, index);
        unsigned n;

        cluster += g->cluster_size;
        if (qcow2_l2_defect(g, e, cluster) || qcow2_l2_run(g, e, 0, cluster, &n) != x->kind) {
            break;
        }
        if (has_host(x->kind) && (qcow2_l2_host(g, e) != x->host + len ||
                                  qcow2_l2_copied(e) != qcow2_l2_copied(x->entry))) {
            break;
        }
        len += n * g->subcluster_size;
        if (n < g->subclusters) {
            break;
        }
    }
    return len;
}

#ifdef CONFIG_ORACLES
/* The oracle of maps: subcluster by subcluster, each by itself. */
static void check_extent(const Geometry *g, const void *data, unsigned index, uint64_t guest,
                         const Extent *x)
{
    uint64_t cluster = geo_cluster_start(g, guest), sub = g->subcluster_size;

    for (uint64_t at = guest; at < guest + x->bytes; at = ALIGN_DOWN(at, sub) + sub) {
        uint64_t n = (geo_cluster_start(g, at) - cluster) >> g->cluster_bits;
        L2Entry e = qcow2_l2_load(g, data, index + (unsigned)n);

        g_assert(qcow2_l2_kind(g, e, geo_sc_index(g, at), at) == x->kind);
        g_assert(!has_host(x->kind) ||
                 (qcow2_l2_host(g, e) + geo_in_cluster(g, at) == x->host + (at - guest) &&
                  qcow2_l2_copied(e) == qcow2_l2_copied(x->entry)));
    }
}
#endif

/* L2_SOUND, or what is wrong with the first entry. */
static L2Defect decode(Qcow2 *q, const void *data, unsigned index, unsigned entries, uint64_t guest,
                       uint64_t bytes, Extent *x)
{
    const Geometry *g = &q->geo;
    unsigned sc = geo_sc_index(g, guest), n;
    L2Defect defect;
    uint64_t len;

    x->entry = qcow2_l2_load(g, data, index);
    defect = qcow2_l2_defect(g, x->entry, guest);
    if (unlikely(defect != L2_SOUND)) {
        return defect;
    }
    x->kind = qcow2_l2_run(g, x->entry, sc, guest, &n);
    x->host = has_host(x->kind) ? qcow2_l2_host(g, x->entry) + geo_in_cluster(g, guest) : 0;
    len = n * g->subcluster_size - (guest & (g->subcluster_size - 1));
    if (len < bytes && sc + n == g->subclusters && x->kind != SC_COMPRESSED) {
        len = extend(g, data, index, entries, geo_cluster_start(g, guest), len, bytes, x);
    }
    x->bytes = MIN(len, bytes);
    ORACLE(check_extent(g, data, index, guest, x));
    return L2_SOUND;
}

/* No L2 table: unallocated up to the next one. */
static void no_table(Qcow2 *q, uint64_t guest, uint64_t bytes, Extent *x)
{
    uint64_t i = geo_l1_index(&q->geo, guest);
    uint64_t end = guest + bytes;

    do {
        i++;
    } while (i < q->l1_size && geo_l1_start(&q->geo, i) < end &&
             !(atomic_load_explicit(&q->l1[i], memory_order_relaxed) & QCOW2_OFFSET_MASK));
    *x = (Extent){ .kind = SC_UNALLOCATED_PLAIN,
                   .bytes = MIN(bytes, geo_l1_start(&q->geo, i) - guest) };
}

/* *@defect: what the first entry's is. */
static int coroutine_fn co_find(Qcow2 *q, uint64_t guest, uint64_t bytes, Extent *x,
                                L2Defect *defect)
{
    const Geometry *g = &q->geo;
    uint64_t l1_index = geo_l1_index(g, guest), table, at;
    unsigned entries = qcow2_l2_table_slice_entries(q);
    MetaSlice *s;
    int ret;

    *defect = L2_SOUND;
    if (unlikely(l1_index >= q->l1_size)) {
        *x = (Extent){ .kind = SC_UNALLOCATED_PLAIN, .bytes = bytes };
        return 0;
    }
    table = atomic_load_explicit(&q->l1[l1_index], memory_order_acquire) & QCOW2_OFFSET_MASK;
    if (!table) {
        no_table(q, guest, bytes, x);
        return 0;
    }
    if (unlikely(geo_in_cluster(g, table))) {
        return qcow2_health_co_corrupt_by(&q->health,
                                          "L2 table offset %#" G_GINT64_MODIFIER
                                          "x unaligned (L1 index: %#" G_GINT64_MODIFIER "x)",
                                          table, (uint64_t)l1_index);
    }
    at = geo_l2_index(g, guest);
    s = qcow2_cache_peek_begin(q->l2_cache, table + at * g->l2_entry_size);
    if (likely(s != NULL)) {
        *defect = decode(q, s->data, (unsigned)(at % entries), entries, guest, bytes, x);
        qcow2_cache_peek_end(q->l2_cache);
    } else {
        ret = qcow2_l2_table_co_load(q, l1_index, table, at, &s);
        if (ret < 0) {
            return ret;
        }
        qcow2_cache_lock(q->l2_cache);
        *defect = decode(q, s->data, (unsigned)(at % entries), entries, guest, bytes, x);
        qcow2_cache_peek_end(q->l2_cache);
        qcow2_cache_put(q->l2_cache, s);
    }
    return 0;
}

int coroutine_fn qcow2_map_co_find(Qcow2 *q, uint64_t guest, uint64_t bytes, Extent *x)
{
    L2Defect defect;
    int ret = co_find(q, guest, bytes, x, &defect);

    return unlikely(ret == 0 && defect != L2_SOUND) ? qcow2_entry_co_unreadable(q, x->entry, guest)
                                                    : ret;
}

int coroutine_fn qcow2_map_co_find_to_write(Qcow2 *q, uint64_t guest, uint64_t bytes, Extent *x)
{
    L2Defect defect;
    int ret = co_find(q, guest, bytes, x, &defect);

    return unlikely(ret == 0 && defect != L2_SOUND) ? qcow2_entry_co_check(q, x->entry, guest)
                                                    : ret;
}
