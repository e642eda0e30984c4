/* SPDX-License-Identifier: MIT */
/* The tail of the file: see tail.h. */
#include "tail.h"

#include "reap.h"
#include "refcount.h"

#include <errno.h>

/* The last cluster before @c that may have a count: where no block is, there is none. */
static int coroutine_fn co_skip_uncounted(Qcow2 *q, uint64_t *c) REQUIRES_LOCK(q->alloc.meta_lock)
{
    uint64_t per = UINT64_C(1) << q->geo.refblock_bits, block = 0;

    while (*c > 0 && *c % per == 0) {
        int ret = qcow2_refcount_co_block_offset(&q->alloc, *c - 1, &block);

        if (ret < 0 || block) {
            return ret;
        }
        *c -= per;
    }
    return 0;
}

int coroutine_fn qcow2_tail_co_find(Qcow2 *q, uint64_t file_bytes, uint64_t *end)
{
    uint64_t c = geo_clusters(&q->geo, file_bytes), count = 0;

    while (c > 0) {
        int ret = co_skip_uncounted(q, &c);

        if (ret < 0 || c == 0) {
            *end = 0;
            return ret;
        }
        ret = qcow2_refcount_co_get(&q->alloc, c - 1, &count);
        if (ret < 0) {
            return ret;
        }
        if (count) {
            break;
        }
        c--;
    }
    *end = c << q->geo.cluster_bits;
    return 0;
}

static int coroutine_fn co_cut(Qcow2 *q, uint64_t length, uint64_t keep)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    g_autoptr(GError) unsaid = NULL;
    uint64_t end;
    int ret = qcow2_tail_co_find(q, length, &end);

    if (ret < 0 || end == 0 || end >= length || length - end <= keep) {
        return ret;
    }
    ret = bdrv_co_truncate(q->file, (int64_t)end, false, BLK_PREALLOC_OFF, 0, &unsaid);
    atomic_store(&q->fresh_unsafe, true); /* a cached length may be too large or small now */
    q->alloc.freed = q->alloc.freed && ret < 0;
    return ret;
}

int coroutine_fn qcow2_tail_co_cut(Qcow2 *q, uint64_t keep)
{
    int64_t length = bdrv_co_getlength(q->file->bs);
    int ret;

    if (length < 0) {
        return (int)length;
    }
    co_mutex_lock(&q->alloc.meta_lock);
    ret = co_cut(q, (uint64_t)length, keep);
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

/* Discards are let through to the image and not to its file (pass-discard-request=off). */
static bool keeps_space(const Qcow2 *q)
{
    return (q->bs->open_flags & BLK_O_UNMAP) && !q->discard_passthrough;
}

int coroutine_fn qcow2_tail_co_finish(Qcow2 *q)
{
    bool freed;
    int ret;

    co_mutex_lock(&q->alloc.meta_lock);
    freed = q->alloc.freed;
    co_mutex_unlock(&q->alloc.meta_lock);
    if (!freed || keeps_space(q) || !bdrv_child_is_alone(q->file)) {
        return 0;
    }
    ret = qcow2_tail_co_cut(q, 0);
    return ret == -ENOTSUP ? 0 : ret;
}

void coroutine_fn qcow2_tail_co_cut_early(Qcow2 *q)
{
    QuarantineMark m;

    co_mutex_lock(&q->alloc.meta_lock);
    m = qcow2_quarantine_mark(q->quarantine);
    co_mutex_unlock(&q->alloc.meta_lock);
    qcow2_quarantine_synced(q->quarantine, m);
    (void)qcow2_reap_co_ready(q);
    (void)qcow2_tail_co_finish(q);
}
