/* SPDX-License-Identifier: MIT */
/*
 * Finding, taking and giving back clusters. meta_lock is held in all.
 *
 * INV-ALLOC-1  Every cluster below free_hint is in use (or its count is unknown: the hint only ever
 *              moves up over clusters that were seen in use or just taken).
 * INV-ALLOC-2  A cluster in quarantine (pin.c) still has its count, so no search finds it.
 * INV-ALLOC-3  compress_next, if not 0, is in a cluster with a count > 0 whose bytes from there on
 *              nobody else owns; a count that falls to 0, or a punch to come, resets it.
 */
#include "refcount-int.h"

/* A table that names one full refcount block over and over makes a search without end of a small
 * file. So many clusters in a row that are counted past the end of the file (leaks, no more) are
 * looked at in one search; the next goes on from there. */
#define MAX_USED_PAST (UINT64_C(1) << 26)

typedef struct FreeScan {
    uint64_t n;
    bool exact;
    ClusterRange avoid;
    uint64_t first, run; /* the run found so far */
    uint64_t seen;       /* first free cluster met, or UINT64_MAX */
} FreeScan;

/* One more stretch of @len free clusters at @c. */
static void scan_free(FreeScan *f, uint64_t c, uint64_t len)
{
    if (f->run == 0) {
        f->first = c;
    }
    if (f->seen == UINT64_MAX) {
        f->seen = c;
    }
    f->run += len;
}

static void scan_used(FreeScan *f)
{
    f->run = 0;
}

static bool scan_done(const FreeScan *f)
{
    return f->run >= f->n;
}

/* Entries [index, index + len) of a slice, for clusters from @c on. False: an inexact run has
 * ended. */
static bool scan_slice(Qcow2 *q, FreeScan *f, const void *data, uint64_t index, uint64_t c,
                       uint64_t len)
{
    unsigned order = q->geo.refcount_order;

    for (uint64_t i = 0; i < len && !scan_done(f);) {
        if (refcount_entry_get(order, data, index + i) == 0) {
            uint64_t z =
                refcount_entry_zero_run(order, data, index + i, MIN(len - i, f->n - f->run));

            scan_free(f, c + i, z);
            i += z;
        } else if (f->run && !f->exact) {
            return false;
        } else {
            scan_used(f);
            i++;
        }
    }
    return true;
}

/* One stretch from @c on; *len: clusters looked at. 1 done or ended, 0 go on, < 0 error. */
static int coroutine_fn scan_step(Qcow2 *q, FreeScan *f, uint64_t c, uint64_t *len)
{
    uint64_t per = refcount_slice_entries(q), index;
    bool more = true;
    MetaSlice *s;
    int ret;

    if (cluster_range_has(f->avoid, c)) {
        *len = f->avoid.first + f->avoid.n - c;
        if (f->run && !f->exact) {
            return 1;
        }
        scan_used(f);
        return 0;
    }
    ret = refcount_co_slice(q, c, &s, &index);
    if (ret < 0) {
        return ret;
    }
    *len = s ? per - index : per - c % per;
    if (f->avoid.n && c < f->avoid.first) {
        *len = MIN(*len, f->avoid.first - c);
    }
    if (s) {
        more = scan_slice(q, f, s->data, index, c, *len);
        meta_cache_put(q->ref_cache, s);
    } else {
        scan_free(f, c, *len);
    }
    return !more || scan_done(f);
}

/* As last known: asking the file is a system call. */
static uint64_t file_end(Qcow2 *q)
{
    return geo_clusters(&q->geo, (uint64_t)MAX(atomic_load(&q->file->bs->total_bytes), 0));
}

int coroutine_fn alloc_co_find(Qcow2 *q, uint64_t start, uint64_t n, bool exact, ClusterRange avoid,
                               uint64_t *first, uint64_t *got, uint64_t *seen)
{
    uint64_t end = QCOW2_MAX_OFFSET >> q->geo.cluster_bits, len = 0;
    uint64_t bound = MAX(start, file_end(q));
    FreeScan f = { .n = n, .exact = exact, .avoid = avoid, .seen = UINT64_MAX };
    int ret = 0;

    for (uint64_t c = start; c < end && ret == 0; c += len) {
        if (c > bound && c - bound > MAX_USED_PAST) {
            if (start == q->free_hint && f.seen == UINT64_MAX) {
                q->free_hint = c; /* INV-ALLOC-1 */
            }
            return -EFBIG;
        }
        ret = scan_step(q, &f, c, &len);
    }
    if (ret < 0) {
        return ret;
    }
    if (f.run == 0 || (exact && f.run < n) || f.first + MIN(f.run, n) > end) {
        return -EFBIG;
    }
    *first = f.first;
    *got = MIN(f.run, n);
    if (seen) {
        *seen = f.seen;
    }
    return 0;
}

void alloc_cluster_freed(Qcow2 *q, uint64_t cluster)
{
    q->free_hint = MIN(q->free_hint, cluster);
    if (q->compress_next && q->compress_next >> q->geo.cluster_bits == cluster) {
        q->compress_next = 0; /* INV-ALLOC-3 */
    }
}

/* Search from @start (the hint, or a wish), take the run. */
static int coroutine_fn take(Qcow2 *q, uint64_t start, uint64_t n, bool exact, uint64_t *first,
                             uint64_t *got)
{
    uint64_t hint = q->free_hint, seen;
    const char *what;
    int ret = alloc_co_find(q, start, n, exact, (ClusterRange){ 0, 0 }, first, got, &seen);

    if (ret < 0) {
        return ret;
    }
    if (!exact && atomic_load(&q->was_full) && *first < file_end(q)) {
        *got = MIN(*got, file_end(q) - *first);
    }
    what = *first == 0
               ? "header"
               : qcow2_metadata_at(q, *first << q->geo.cluster_bits, *got << q->geo.cluster_bits);
    if (what) {
        return qcow2_co_corrupt(q, "allocation", *first << q->geo.cluster_bits,
                                "a cluster of metadata has refcount 0");
    }
    ret = qcow2_co_refcount_add(q, *first, *got, 1);
    if (ret == 0) {
        atomic_store(&q->grows, *first >= file_end(q));
    }
    if (ret == 0 && start == hint && q->free_hint == hint) {
        q->free_hint = seen == *first ? *first + *got : seen; /* INV-ALLOC-1 */
    }
    return ret;
}

int coroutine_fn qcow2_co_alloc_clusters(Qcow2 *q, uint64_t n, uint64_t *offset)
{
    uint64_t first, got;
    int ret;

    bdrv_co_debug_event(q->file, BLKDBG_CLUSTER_ALLOC);
    ret = take(q, q->free_hint, n, true, &first, &got);
    if (ret == 0) {
        *offset = first << q->geo.cluster_bits;
    }
    return ret;
}

int coroutine_fn qcow2_co_alloc_upto(Qcow2 *q, uint64_t want, uint64_t n, uint64_t *offset,
                                     uint64_t *got)
{
    uint64_t first, count = 1;
    int ret;

    bdrv_co_debug_event(q->file, BLKDBG_CLUSTER_ALLOC);
    if (want && geo_in_cluster(&q->geo, want) == 0 && want < QCOW2_MAX_OFFSET &&
        !(atomic_load(&q->was_full) && want >> q->geo.cluster_bits >= file_end(q))) {
        ret = qcow2_co_refcount_get(q, want >> q->geo.cluster_bits, &count);
        if (ret < 0) {
            return ret;
        }
    }
    if (count == 0 && q->free_hint < file_end(q) && want >> q->geo.cluster_bits >= file_end(q)) {
        atomic_store(&q->wished_past, true);
    }
    ret = take(q, count == 0 ? want >> q->geo.cluster_bits : q->free_hint, n, false, &first, got);
    if (ret == 0) {
        *offset = first << q->geo.cluster_bits;
    }
    return ret;
}

int coroutine_fn qcow2_co_alloc_bytes(Qcow2 *q, uint64_t bytes, uint64_t *offset)
{
    const Geometry *g = &q->geo;
    uint64_t next = q->compress_next, fresh = 0, count = 0, room;
    int ret;

    g_assert(bytes > 0 && bytes <= g->cluster_size);
    bdrv_co_debug_event(q->file, BLKDBG_CLUSTER_ALLOC_BYTES);
    if (next) {
        ret = qcow2_co_refcount_get(q, next >> g->cluster_bits, &count);
        if (ret < 0) {
            return ret;
        }
        if (count == 0 || count == g->refcount_max) {
            next = 0;
        }
    }
    room = next ? g->cluster_size - geo_in_cluster(g, next) : 0;
    if (room < bytes) {
        uint64_t got;

        ret = qcow2_co_alloc_upto(q, next ? next + room : 0, 1, &fresh, &got);
        if (ret < 0) {
            return ret;
        }
        if (!next || fresh != next + room) {
            next = fresh;
        }
    }
    if (next != fresh) { /* one more user of the cluster that is partly used */
        ret = qcow2_co_refcount_add(q, next >> g->cluster_bits, 1, 1);
        if (ret < 0) {
            if (fresh) {
                qcow2_co_free_unused(q, fresh, g->cluster_size);
            }
            return ret;
        }
    }
    if (next + bytes - 1 > (g->coffset_mask ? g->coffset_mask : UINT64_MAX)) {
        qcow2_co_free_unused(q, next, bytes);
        return -EFBIG;
    }
    *offset = next;
    next += bytes;
    q->compress_next = geo_in_cluster(g, next) ? next : 0;
    return 0;
}

int coroutine_fn qcow2_co_secure(Qcow2 *q, uint64_t offset, uint64_t bytes)
{
    return bdrv_co_pwrite_zeroes(q->file, (int64_t)offset, (int64_t)bytes, 0);
}

void coroutine_fn qcow2_co_free_unused(Qcow2 *q, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> q->geo.cluster_bits;
    uint64_t last = (offset + bytes - 1) >> q->geo.cluster_bits;

    bdrv_co_debug_event(q->file, BLKDBG_CLUSTER_FREE);
    /* On failure the clusters leak; nothing refers to them. */
    (void)qcow2_co_refcount_add(q, first, last - first + 1, -1);
}

void qcow2_free_entry_later(Qcow2 *q, L2Entry e, bool punch)
{
    const Geometry *g = &q->geo;

    if (g->external_data) {
        return; /* data clusters there have no counts; discard.c punches them itself */
    }
    if (e.desc & L2E_COMPRESSED) {
        uint64_t host, bytes;

        l2_compressed_range(g, e, &host, &bytes);
        qcow2_free_compressed_later(q, host, bytes, punch);
    } else if (l2_has_host(g, e)) {
        qcow2_free_later(q, l2_host(g, e), g->cluster_size, punch);
    }
}
