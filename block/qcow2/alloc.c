/* SPDX-License-Identifier: MIT */
/* Taking clusters: see alloc.h. */
#include "alloc.h"

#include "refblock.h"
#include "refcount.h"
#include "search.h"

int coroutine_fn qcow2_alloc_co_add_refs(Allocator *a, uint64_t first, uint64_t n)
{
    ClusterRange r = { first, n };
    int ret;

    g_assert(n > 0);
    ret = qcow2_refblock_co_ensure(a, r, r);
    return ret < 0 ? ret : qcow2_refcount_co_change(a, first, n, 1);
}

/* Search from @start (the hint, or a wish), take the run. */
static int coroutine_fn take(Allocator *a, uint64_t start, uint64_t n, bool exact, uint64_t *first,
                             uint64_t *got) REQUIRES_LOCK(a->meta_lock)
{
    uint64_t hint = a->free_hint, seen;
    const char *what;
    int ret = qcow2_search_co_free(a, start, n, exact, (ClusterRange){ 0, 0 }, first, got, &seen);

    g_assert(n > 0 && start <= QCOW2_MAX_OFFSET >> a->geo->cluster_bits);
    if (ret < 0) {
        return ret;
    }
    if (!exact && atomic_load(&a->was_full) && *first < qcow2_search_file_end(a)) {
        *got = MIN(*got, qcow2_search_file_end(a) - *first);
    }
    g_assert(*got > 0 && *got <= n && (*got == n || !exact));
    what = *first == 0 ? "qcow2_header"
                       : qcow2_metadata_at(a->metadata, *first << a->geo->cluster_bits,
                                           *got << a->geo->cluster_bits);
    if (what) {
        return qcow2_health_co_overlaps(a->health, what);
    }
    ret = qcow2_alloc_co_add_refs(a, *first, *got);
    if (ret == 0) {
        atomic_store(&a->grows, *first >= qcow2_search_file_end(a));
    }
    if (ret == 0 && start == hint && a->free_hint == hint) {
        a->free_hint = seen == *first ? *first + *got : seen; /* INV-ALLOC-1 */
    }
    return ret;
}

int coroutine_fn qcow2_alloc_co_clusters(Allocator *a, uint64_t n, uint64_t *offset)
{
    uint64_t first, got;
    int ret;

    bdrv_co_debug_event(a->file, BLKDBG_CLUSTER_ALLOC);
    ret = take(a, a->free_hint, n, true, &first, &got);
    if (ret == 0) {
        *offset = first << a->geo->cluster_bits;
    }
    return ret;
}

int coroutine_fn qcow2_alloc_co_upto(Allocator *a, uint64_t want, uint64_t n, uint64_t *offset,
                                     uint64_t *got)
{
    uint64_t first, count = 1;
    int ret;

    g_assert(n > 0);
    bdrv_co_debug_event(a->file, BLKDBG_CLUSTER_ALLOC);
    if (want && geo_in_cluster(a->geo, want) == 0 && want < QCOW2_MAX_OFFSET &&
        !(atomic_load(&a->was_full) && want >> a->geo->cluster_bits >= qcow2_search_file_end(a))) {
        ret = qcow2_refcount_co_get(a, want >> a->geo->cluster_bits, &count);
        if (ret < 0) {
            return ret;
        }
    }
    if (count == 0 && a->free_hint < qcow2_search_file_end(a) &&
        want >> a->geo->cluster_bits >= qcow2_search_file_end(a)) {
        atomic_store(&a->wished_past, true);
    }
    ret = take(a, count == 0 ? want >> a->geo->cluster_bits : a->free_hint, n, false, &first, got);
    if (ret == 0) {
        *offset = first << a->geo->cluster_bits;
    }
    return ret;
}

int coroutine_fn qcow2_alloc_co_bytes(Allocator *a, uint64_t bytes, uint64_t *offset)
{
    const Geometry *g = a->geo;
    uint64_t next = a->compress_next, fresh = 0, count = 0, room;
    int ret;

    g_assert(bytes > 0 && bytes <= g->cluster_size);
    bdrv_co_debug_event(a->file, BLKDBG_CLUSTER_ALLOC_BYTES);
    if (next) {
        ret = qcow2_refcount_co_get(a, next >> g->cluster_bits, &count);
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

        ret = qcow2_alloc_co_upto(a, next ? next + room : 0, 1, &fresh, &got);
        if (ret < 0) {
            return ret;
        }
        if (!next || fresh != next + room) {
            next = fresh;
        }
    }
    if (next != fresh) { /* one more user of the cluster that is partly used */
        ret = qcow2_alloc_co_add_refs(a, next >> g->cluster_bits, 1);
        if (ret < 0) {
            if (fresh) {
                qcow2_refcount_co_free_unused(a, fresh, g->cluster_size);
            }
            return ret;
        }
    }
    if (next + bytes - 1 > (g->coffset_mask ? g->coffset_mask : UINT64_MAX)) {
        qcow2_refcount_co_free_unused(a, next, bytes);
        return -EFBIG;
    }
    *offset = next;
    next += bytes;
    a->compress_next = geo_in_cluster(g, next) ? next : 0;
    return 0;
}
