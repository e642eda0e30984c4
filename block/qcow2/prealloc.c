/* SPDX-License-Identifier: MIT */
/*
 * Reserve host clusters for guest clusters that have none.
 *
 * Standard entries become readable (the format has no other way to say it), so their clusters must
 * read zero first: they lie past the end of the file, which then grows, or are zeroed
 * explicitly (INV-COW-1). Extended entries stay as their bits say, deferring or zero; but in an
 * image whose data file is the disk they show that (INV-RAW-2). The file has its new length and
 * content before the entries change in memory (INV-W-2).
 */
#include "prealloc.h"

#include "alloc.h"
#include "entry.h"
#include "inflight.h"
#include "l2-table.h"
#include "raw-file.h"
#include "refcount.h"
#include "walk.h"

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
 * Make [host, +bytes) of the file exist and read zero, with space if @mode says so. Others may
 * make the file longer meanwhile: so it is not set to a length here, which might cut off what they
 * wrote.
 */
static int coroutine_fn fill_host(Qcow2 *q, uint64_t host, uint64_t bytes, BlockPrealloc mode)
{
    int64_t len;
    int ret;

    if (mode == BLK_PREALLOC_FULL) {
        return write_zeroes(q, host, bytes);
    }
    if (mode == BLK_PREALLOC_FALLOC) {
        return bdrv_co_pwrite_zeroes(q->data, host, bytes, 0);
    }
    ret = bdrv_co_pwrite_zeroes(q->data, host, bytes, BLK_REQ_MAY_UNMAP); /* INV-COW-1 */
    if (ret == -EINVAL || ret == -ENOTSUP) {
        len = bdrv_co_getlength(q->data->bs);
        /* What can't grow has no room, but perhaps before its end. */
        ret = len >= 0 && (uint64_t)len < host + bytes ? -ENOSPC : ret;
    }
    return ret;
}

static void link_reserved(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t n, uint64_t host)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    const Geometry *g = &q->geo;

    g_assert(index + n <= qcow2_l2_table_slice_entries(q));
    qcow2_cache_modify_begin(q->l2_cache, s);
    for (uint64_t i = 0; i < n; i++) {
        L2Entry old = qcow2_l2_load(g, s->data, index + i);
        bool show = !g->extended_l2 || qcow2_raw_file_is_disk(q); /* INV-RAW-1 holds for the new */
        L2Entry e = show ? qcow2_l2_make_normal(g, host + (i << g->cluster_bits))
                         : qcow2_l2_make_host_only(g, host + (i << g->cluster_bits));

        if (!show) {
            e.bitmap = old.bitmap;                      /* zero bits stay */
        } else if ((old.desc & L2E_ZERO) || q->crypt) { /* INV-CRYPT-1 */
            e = qcow2_l2_set_zero(g, e, 0, 1);
        }
        qcow2_l2_store(g, s->data, index + i, e);
    }
    qcow2_cache_modify_end(q->l2_cache, s);
}

/* Clusters from the slice's @index on, at most @max (> 0), that have no host cluster; or that
 * have. */
static uint64_t count_run(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t max, bool *has)
{
    const Geometry *g = &q->geo;
    uint64_t n;

    *has = true;
    for (n = 0; n < max; n++) {
        L2Entry e = qcow2_l2_load(g, s->data, index + n);
        bool h = (e.desc & L2E_COMPRESSED) || qcow2_l2_has_host(g, e);

        if (n == 0) {
            *has = h;
        } else if (h != *has) {
            break;
        }
    }
    return n;
}

typedef struct ReserveOp {
    BlockPrealloc mode;
    GError *err; /* why the last part failed */
} ReserveOp;

/* Host clusters for guest clusters from @guest on that have none, @n at most: *@host, *@n. */
static int coroutine_fn find_host(Qcow2 *q, uint64_t guest, uint64_t *host, uint64_t *n)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    int64_t len = atomic_load(&q->data->bs->total_bytes);

    *host = guest;
    return q->geo.external_data
               ? 0
               : qcow2_alloc_co_upto(
                     &q->alloc, ALIGN_UP((uint64_t)MAX(len, 0), q->geo.cluster_size), *n, host, n);
}

/* The host clusters exist and read zero; the lock is dropped for the I/O. */
static int coroutine_fn fill_unlocked(Qcow2 *q, uint64_t guest, uint64_t host, uint64_t bytes,
                                      BlockPrealloc mode) REQUIRES_LOCK(q->alloc.meta_lock)
{
    InflightAlloc a;
    int ret;

    if (q->geo.external_data) {
        return 0; /* it has its length already */
    }
    qcow2_inflight_begin(q, &a, guest, guest + bytes);
    co_mutex_unlock(&q->alloc.meta_lock);
    ret = fill_host(q, host, bytes, mode);
    co_mutex_lock(&q->alloc.meta_lock);
    qcow2_inflight_end(q, &a);
    return ret;
}

/* The run of entries from @index on, @n at most, that have no host cluster: *@n of them. */
static int coroutine_fn reserve_run(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t guest,
                                    uint64_t *n, ReserveOp *op) REQUIRES_LOCK(q->alloc.meta_lock)
{
    unsigned cb = q->geo.cluster_bits;
    uint64_t host;
    int ret = find_host(q, guest, &host, n);

    g_assert(*n > 0 && geo_in_cluster(&q->geo, guest) == 0);
    if (ret < 0) {
        return error_set_errno(&op->err, ret, "Allocating clusters failed");
    }
    ret = fill_unlocked(q, guest, host, *n << cb, op->mode);
    if (ret == 0) {
        link_reserved(q, s, index, *n, host);
        return 0;
    }
    if (!q->geo.external_data) {
        qcow2_refcount_co_free_unused(&q->alloc, host, *n << cb);
    }
    return error_set_errno(&op->err, ret,
                           ret == -ENOSPC && op->mode == BLK_PREALLOC_METADATA
                               ? "Allocating clusters failed"
                               : "Failed to resize underlying file");
}

/* As far as one slice and one run go. */
static int64_t coroutine_fn reserve_part(Qcow2 *q, uint64_t start, uint64_t end, void *opaque)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    ReserveOp *op = opaque;
    uint64_t room, n;
    unsigned index;
    MetaSlice *s;
    bool has;
    int ret = qcow2_inflight_co_get_idle(q, start, end, NULL, &s, &index, &room);

    g_clear_error(&op->err);
    if (ret < 0) {
        return error_set_errno(&op->err, ret, "Allocating clusters failed");
    }
    n = count_run(q, s, index, (room - start) >> q->geo.cluster_bits, &has);
    ret = has ? 0 : reserve_run(q, s, index, start, &n, op);
    qcow2_cache_put(q->l2_cache, s);
    return ret < 0 ? ret : (int64_t)(n << q->geo.cluster_bits);
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

int coroutine_fn qcow2_prealloc_co_may_reserve(Qcow2 *q, BlockPrealloc mode, GError **errp)
{
    if (q->crypt && q->geo.version < 3) { /* it has no entry that is there and reads zero */
        return error_set(errp, ENOTSUP,
                         "Preallocation of encrypted images requires compatibility level 1.1 or "
                         "above");
    }
    return co_ask_for_mode(q, mode, errp);
}

int coroutine_fn qcow2_prealloc_co_reserve(Qcow2 *q, uint64_t guest, uint64_t bytes,
                                           BlockPrealloc mode, GError **errp)
{
    ReserveOp op = { .mode = mode };
    int ret = bytes == 0 ? 0
                         : qcow2_walk_co_parts(q, geo_cluster_start(&q->geo, guest),
                                               ALIGN_UP(guest + bytes, q->geo.cluster_size),
                                               reserve_part, &op);

    if (ret < 0 && op.err) {
        g_propagate_error(errp, g_steal_pointer(&op.err));
    } else if (ret < 0) {
        error_set_errno(errp, ret, "Allocating clusters failed");
    }
    g_clear_error(&op.err);
    return ret;
}
