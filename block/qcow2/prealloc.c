/* SPDX-License-Identifier: MIT */
/*
 * Reserve host clusters for guest clusters that have none.
 *
 * Standard entries become readable (the format has no other way to say it), so their clusters must
 * read zero first: they lie behind the end of the file, which then grows, or are zeroed
 * explicitly (INV-COW-1). Extended entries stay as their bits say, deferring or zero; but in an
 * image whose data file is the disk they show that (INV-RAW-2). The file has its new length and
 * content before the entries change in memory (INV-W-2).
 */
#include "write-int.h"

/* Write zeroes for real (preallocation=full). */
static int coroutine_fn write_zeroes(Qcow2 *q, uint64_t host, uint64_t bytes)
{
    uint64_t chunk = MIN(bytes, (uint64_t)MiB);
    void *buf = bdrv_try_blockalign(q->data->bs, chunk);
    int ret = buf ? 0 : -ENOMEM;

    if (buf) {
        memset(buf, 0, chunk);
    }
    while (bytes && ret == 0) {
        uint64_t n = MIN(bytes, chunk);

        ret = bdrv_co_pwrite(q->data, host, n, buf, 0);
        host += n;
        bytes -= n;
    }
    mem_align_free(buf);
    return ret;
}

/*
 * Make [host, +bytes) of the file exist and read zero, with space if @mode says so. Nobody else
 * writes meanwhile (an image is made or resized alone), so that growing the file cuts nothing off.
 */
static int coroutine_fn fill_host(Qcow2 *q, uint64_t host, uint64_t bytes, BlockPrealloc mode)
{
    int64_t len = bdrv_co_getlength(q->data->bs);
    int ret = 0;

    if (len < 0) {
        return len;
    }
    if (mode == BLK_PREALLOC_FULL) {
        return write_zeroes(q, host, bytes);
    }
    if (mode == BLK_PREALLOC_FALLOC) {
        return bdrv_co_pwrite_zeroes(q->data, host, bytes, 0);
    }
    if ((uint64_t)len > host) { /* INV-COW-1 */
        ret = bdrv_co_pwrite_zeroes(q->data, host, MIN(bytes, (uint64_t)len - host),
                                    BLK_REQ_MAY_UNMAP);
    }
    if (ret == 0 && (uint64_t)len < host + bytes) {
        ret = bdrv_co_truncate(q->data, (int64_t)(host + bytes), false, BLK_PREALLOC_OFF, 0, NULL);
        /* What can't grow has no room, but perhaps before its end. */
        ret = ret == -EINVAL || ret == -ENOTSUP ? -ENOSPC : ret;
    }
    return ret;
}

static void link_reserved(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t n, uint64_t host)
{
    const Geometry *g = &q->geo;

    meta_cache_modify_begin(q->l2_cache, s);
    for (uint64_t i = 0; i < n; i++) {
        L2Entry old = l2_load(g, s->data, index + i);
        bool show = !g->extended_l2 || qcow2_file_is_disk(q); /* INV-RAW-1 holds for the new */
        L2Entry e = show ? l2_make_normal(g, host + (i << g->cluster_bits))
                         : l2_make_host_only(g, host + (i << g->cluster_bits));

        if (!show) {
            e.bitmap = old.bitmap; /* zero bits stay */
        } else if (old.desc & L2E_ZERO) {
            e = l2_set_zero(g, e, 0, 1);
        }
        l2_store(g, s->data, index + i, e);
    }
    meta_cache_modify_end(q->l2_cache, s);
}

/* Clusters from the slice's @index on, at most @max, that have no host cluster; or that have. */
static uint64_t count_run(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t max, bool *has)
{
    const Geometry *g = &q->geo;
    uint64_t n;

    for (n = 0; n < max; n++) {
        L2Entry e = l2_load(g, s->data, index + n);
        bool h = (e.desc & L2E_COMPRESSED) || l2_has_host(g, e);

        if (n == 0) {
            *has = h;
        } else if (h != *has) {
            break;
        }
    }
    return n;
}

/* As far as one slice and one run go; clusters done or -errno. Under meta_lock, dropped for the
 * I/O. */
static int64_t coroutine_fn reserve_run(Qcow2 *q, uint64_t cluster, uint64_t max,
                                        BlockPrealloc mode, GError **errp)
{
    const Geometry *g = &q->geo;
    uint64_t guest = cluster << g->cluster_bits, host, n, want = 0;
    InflightAlloc a;
    unsigned index;
    MetaSlice *s;
    bool has = true;
    int ret;

    for (;;) {
        ret = qcow2_co_l2_get_writable(q, guest, &s, &index);
        if (ret < 0) {
            return error_set_errno(errp, ret, "Allocating clusters failed");
        }
        max = MIN(max, l2_slice_entries(q) - index);
        if (!qcow2_co_wait_allocs(q, guest, max << g->cluster_bits)) {
            break;
        }
        meta_cache_put(q->l2_cache, s);
    }
    n = count_run(q, s, index, max, &has);
    if (has) {
        goto out;
    }
    host = guest;
    if (!g->external_data) {
        int64_t len = atomic_load(&q->data->bs->total_bytes);

        want = ALIGN_UP((uint64_t)MAX(len, 0), g->cluster_size);
        ret = qcow2_co_alloc_upto(q, want, n, &host, &n);
        if (ret < 0) {
            error_set_errno(errp, ret, "Allocating clusters failed");
            goto out;
        }
    }
    inflight_begin(q, &a, cluster, cluster + n - 1);
    co_mutex_unlock(&q->meta_lock);
    /* A raw or plain external file has its length already; there only space may be wanted. */
    ret = g->external_data ? 0 : fill_host(q, host, n << g->cluster_bits, mode);
    if (ret < 0) {
        error_set_errno(errp, ret,
                        ret == -ENOSPC && mode == BLK_PREALLOC_METADATA
                            ? "Allocating clusters failed"
                            : "Failed to resize underlying file");
    }
    co_mutex_lock(&q->meta_lock);
    if (ret == 0) {
        link_reserved(q, s, index, n, host);
    } else if (!g->external_data) {
        qcow2_co_free_unused(q, host, n << g->cluster_bits);
    }
    inflight_end(q, &a);
out:
    meta_cache_put(q->l2_cache, s);
    return ret < 0 ? ret : (int64_t)n;
}

/* The node below refuses by name what it never does (a device has its space). */
static int coroutine_fn co_ask_for_mode(Qcow2 *q, BlockPrealloc mode, GError **errp)
{
    int64_t len = bdrv_co_getlength(q->data->bs);
    int ret = 0;

    if (len < 0 || mode == BLK_PREALLOC_METADATA) {
        return len < 0 ? error_set_errno(errp, (int)len, "Failed to inquire current file length")
                       : 0;
    }
    ret = bdrv_co_truncate(q->data, len, false, mode, 0, errp);
    if (ret < 0) {
        g_prefix_error(errp, "Failed to resize underlying file: ");
    }
    return ret;
}

int coroutine_fn qcow2_co_preallocate(Qcow2 *q, uint64_t guest, uint64_t bytes, BlockPrealloc mode,
                                      GError **errp)
{
    uint64_t cluster = guest >> q->geo.cluster_bits;
    uint64_t end = geo_clusters(&q->geo, guest + bytes);
    bool reclaimed = false;
    int64_t n = co_ask_for_mode(q, mode, errp);

    while (bytes && cluster < end && n >= 0) {
        g_autoptr(GError) err = NULL;

        n = qcow2_co_relieve(q);
        if (n < 0) {
            return error_set_errno(errp, n, "Allocating clusters failed");
        }
        co_mutex_lock(&q->meta_lock);
        n = reserve_run(q, cluster, end - cluster, mode, &err);
        co_mutex_unlock(&q->meta_lock);
        if (!reclaimed && qcow2_co_retry(q, n)) {
            reclaimed = true;
            n = 0;
        } else if (n < 0) {
            g_propagate_error(errp, g_steal_pointer(&err));
        }
        cluster += MAX(n, 0);
    }
    return n < 0 ? n : 0;
}
