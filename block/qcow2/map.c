/* SPDX-License-Identifier: MIT */
/*
 * Look-up: guest offset to a run of one kind; and the slice of an entry, to read or to change.
 *
 * A look-up without meta_lock reads the L1 entry atomically and decodes under the cache's spin
 * lock. What it finds may be let go of at once; the caller's pin keeps it from being used again.
 */
#include "qcow2.h"
#include "rules.h"

#include <errno.h>
#include <string.h>

/* From this cluster size on, a new L2 table is zeroed on disk and not slice by slice in memory. */
#define ZERO_ON_DISK (64 * KiB)

void qcow2_l1_set(Qcow2 *q, uint32_t index, uint64_t entry)
{
    atomic_store_explicit(&q->l1[index], entry, memory_order_release);
    if (!q->l1_dirty) {
        q->l1_dirty = true;
        q->l1_dirty_first = q->l1_dirty_last = index;
    } else {
        q->l1_dirty_first = MIN(q->l1_dirty_first, index);
        q->l1_dirty_last = MAX(q->l1_dirty_last, index);
    }
}

/* ---- Decoding a run ---- */

static bool has_host(ScKind kind)
{
    return kind == SC_NORMAL || kind == SC_ZERO_ALLOC || kind == SC_UNALLOCATED_ALLOC;
}

/* How far entries behind @index go on with the run that @x begins; the new length. */
static uint64_t extend(const Geometry *g, const void *data, unsigned index, unsigned entries,
                       uint64_t cluster, uint64_t len, uint64_t max, const Extent *x)
{
    while (len < max && ++index < entries) {
        L2Entry e = l2_load(g, data, index);
        unsigned n;

        cluster += g->cluster_size;
        if (l2_defect(g, e, cluster) || l2_run(g, e, 0, cluster, &n) != x->kind) {
            break;
        }
        if (has_host(x->kind) &&
            (l2_host(g, e) != x->host + len || l2_copied(e) != l2_copied(x->entry))) {
            break;
        }
        len += n * g->subcluster_size;
        if (n < g->subclusters) {
            break;
        }
    }
    return len;
}

/* NULL, or what is wrong with the first entry. */
static const char *decode(Qcow2 *q, const void *data, unsigned index, unsigned entries,
                          uint64_t guest, uint64_t bytes, Extent *x)
{
    const Geometry *g = &q->geo;
    unsigned sc = geo_sc_index(g, guest), n;
    const char *defect;
    uint64_t len;

    x->entry = l2_load(g, data, index);
    defect = l2_defect(g, x->entry, guest);
    if (unlikely(defect)) {
        return defect;
    }
    x->kind = l2_run(g, x->entry, sc, guest, &n);
    x->host = has_host(x->kind) ? l2_host(g, x->entry) + geo_in_cluster(g, guest) : 0;
    len = n * g->subcluster_size - (guest & (g->subcluster_size - 1));
    if (len < bytes && sc + n == g->subclusters && x->kind != SC_COMPRESSED) {
        len = extend(g, data, index, entries, geo_cluster_start(g, guest), len, bytes, x);
    }
    x->bytes = MIN(len, bytes);
    return NULL;
}

/* No L2 table: unallocated up to the next one. */
static void no_table(Qcow2 *q, uint64_t guest, uint64_t bytes, Extent *x)
{
    unsigned shift = q->geo.l2_bits + q->geo.cluster_bits;
    uint64_t i = geo_l1_index(&q->geo, guest);
    uint64_t end = guest + bytes;

    do {
        i++;
    } while (i < q->l1_size && i << shift < end &&
             !(atomic_load_explicit(&q->l1[i], memory_order_relaxed) & QCOW2_OFFSET_MASK));
    *x = (Extent){ .kind = SC_UNALLOCATED_PLAIN, .bytes = MIN(bytes, (i << shift) - guest) };
}

int coroutine_fn qcow2_co_map(Qcow2 *q, uint64_t guest, uint64_t bytes, Extent *x)
{
    const Geometry *g = &q->geo;
    uint64_t l1_index = geo_l1_index(g, guest), table, at;
    unsigned entries = (unsigned)(meta_cache_slice_size(q->l2_cache) / g->l2_entry_size);
    const char *defect;
    MetaSlice *s;
    int ret;

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
        return qcow2_co_corrupt(q, "L1 entry", (int64_t)l1_index, "L2 table offset is not aligned");
    }
    at = geo_l2_index(g, guest);
    s = meta_cache_peek_begin(q->l2_cache, table + at * g->l2_entry_size);
    if (likely(s != NULL)) {
        defect = decode(q, s->data, (unsigned)(at % entries), entries, guest, bytes, x);
        meta_cache_peek_end(q->l2_cache);
    } else {
        ret = qcow2_co_l2_load(q, l1_index, table, at, &s);
        if (ret < 0) {
            return ret;
        }
        meta_cache_lock(q->l2_cache);
        defect = decode(q, s->data, (unsigned)(at % entries), entries, guest, bytes, x);
        meta_cache_peek_end(q->l2_cache);
        meta_cache_put(q->l2_cache, s);
    }
    if (unlikely(defect)) {
        return qcow2_co_corrupt(q, "L2 entry", (int64_t)guest, defect);
    }
    return 0;
}

/* ---- The slice of an entry; meta_lock held ---- */

int coroutine_fn qcow2_co_l2_load(Qcow2 *q, uint64_t l1_index, uint64_t table, uint64_t at,
                                  MetaSlice **slice)
{
    bool cached = meta_cache_peek_begin(q->l2_cache, table + at * q->geo.l2_entry_size) != NULL;

    if (cached) {
        meta_cache_peek_end(q->l2_cache);
    } else {
        qcow2_clean_if_due(q);
    }
    /* A table that the file does not hold would read as zeroes: as data lost in silence. (A new one
     * is in the cache, dirty, until it is written.) */
    if (unlikely(!cached && (int64_t)table >= atomic_load(&q->file->bs->total_bytes) &&
                 (int64_t)table >= bdrv_co_getlength(q->file->bs))) {
        return qcow2_co_corrupt(q, "L1 entry", (int64_t)l1_index,
                                "L2 table is behind the end of the file");
    }
    return meta_cache_co_get(q->l2_cache, table + at * q->geo.l2_entry_size, slice);
}

int coroutine_fn qcow2_co_l2_get(Qcow2 *q, uint64_t guest, MetaSlice **slice, unsigned *index)
{
    const Geometry *g = &q->geo;
    uint64_t l1_index = geo_l1_index(g, guest), at = geo_l2_index(g, guest);
    uint64_t table = l1_index < q->l1_size ? atomic_load(&q->l1[l1_index]) & QCOW2_OFFSET_MASK : 0;

    *slice = NULL;
    *index = (unsigned)(at % (meta_cache_slice_size(q->l2_cache) / g->l2_entry_size));
    if (!table) {
        return 0;
    }
    if (geo_in_cluster(g, table)) {
        return qcow2_co_corrupt(q, "L1 entry", (int64_t)l1_index, "L2 table offset is not aligned");
    }
    return qcow2_co_l2_load(q, l1_index, table, at, slice);
}

/* Fill the new table at @table: zeroes, or a copy of @old. Its slices are dirty, or on disk; in
 * either case it has its space there: a table that finds none at the next flush would hold up all
 * others. */
static int coroutine_fn co_fill_table(Qcow2 *q, uint64_t table, uint64_t old)
{
    size_t size = meta_cache_slice_size(q->l2_cache);
    int ret;

    bdrv_co_debug_event(q->file, BLKDBG_L2_ALLOC_WRITE);
    ret = qcow2_co_secure(q, table, q->geo.cluster_size);
    if (old) {
        CASE_MET(TABLE_COPIED);
    }
    if (!old && (int64_t)q->geo.cluster_size > ZERO_ON_DISK) {
        CASE_MET(TABLE_ZEROED);
        return ret;
    }
    for (uint64_t at = 0; at < q->geo.cluster_size && ret == 0; at += size) {
        MetaSlice *from = NULL, *to;

        if (old) {
            ret = meta_cache_co_get(q->l2_cache, old + at, &from);
        }
        ret = ret < 0 ? ret : meta_cache_get_new(q->l2_cache, table + at, &to);
        if (ret == 0) {
            meta_cache_modify_begin(q->l2_cache, to);
            if (from) {
                memcpy(to->data, from->data, size);
            }
            meta_cache_modify_end(q->l2_cache, to);
            meta_cache_put(q->l2_cache, to);
        }
        if (from) {
            meta_cache_put(q->l2_cache, from);
        }
    }
    return ret;
}

/* A new table for L1 entry @l1_index, whose old table (if any) is shared and let go of. */
static int coroutine_fn co_new_table(Qcow2 *q, uint64_t l1_index, uint64_t old)
{
    uint64_t table;
    int ret = qcow2_co_alloc_clusters(q, 1, &table);

    if (ret < 0) {
        return ret;
    }
    ret = co_fill_table(q, table, old);
    if (ret < 0) {
        meta_cache_drop(q->l2_cache, table, q->geo.cluster_size);
        qcow2_co_free_unused(q, table, q->geo.cluster_size);
        return ret;
    }
    bdrv_co_debug_event(q->file, BLKDBG_L1_UPDATE);
    qcow2_metadata_add(q, table, q->geo.cluster_size, "active L2 table");
    qcow2_l1_set(q, (uint32_t)l1_index, table | L2E_COPIED);
    if (old) {
        qcow2_metadata_remove(q, old, q->geo.cluster_size);
        qcow2_free_later(q, old, q->geo.cluster_size, q->discard_other);
    }
    return 0;
}

int coroutine_fn qcow2_co_l2_get_writable(Qcow2 *q, uint64_t guest, MetaSlice **slice,
                                          unsigned *index)
{
    uint64_t l1_index = geo_l1_index(&q->geo, guest), e;
    int ret;

    if (l1_index >= q->l1_size) {
        return -EFBIG;
    }
    e = atomic_load(&q->l1[l1_index]);
    if (geo_in_cluster(&q->geo, e & QCOW2_OFFSET_MASK)) {
        return qcow2_co_corrupt(q, "L1 entry", (int64_t)l1_index, "L2 table offset is not aligned");
    }
    if (!(e & L2E_COPIED) ||
        !(e & QCOW2_OFFSET_MASK)) { /* shared, or none, whatever its flag says */
        ret = co_new_table(q, l1_index, e & QCOW2_OFFSET_MASK);
        if (ret < 0) {
            return ret;
        }
    }
    return qcow2_co_l2_get(q, guest, slice, index);
}
