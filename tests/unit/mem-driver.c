/* SPDX-License-Identifier: MIT */
/* A protocol in memory. */
#include "mem-driver.h"

#include <errno.h>
#include <string.h>

Mem *last_mem;

static const void *preload;
static size_t preload_len;

void mem_preload(const void *data, size_t len)
{
    g_assert_cmpuint(len, <=, MEM_CAPACITY);
    preload = data;
    preload_len = len;
}

static int coroutine_fn mem_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    Mem *m = bs->opaque;
    uint64_t size;
    bool slow;

    opts_del(o, "filename");
    if (!opts_take_size(o, "size", 1 * MiB, &size, errp) ||
        !opts_take_uint(o, "align", 1, &m->align, errp) ||
        !opts_take_uint(o, "max", 0, &m->max, errp) ||
        !opts_take_bool(o, "slow", false, &slow, errp)) {
        return -EINVAL;
    }
    m->size = (int64_t)size;
    m->slow = slow;
    m->data = g_malloc0(MEM_CAPACITY);
    if (preload) {
        m->size = (int64_t)preload_len;
        memcpy(m->data, preload, preload_len);
        preload = NULL;
    } else {
        memset(m->data, 0xaa, size);
    }
    last_mem = m;
    return 0;
}

static int coroutine_fn mem_co_close(BlockDriverState *bs)
{
    Mem *m = bs->opaque;

    g_free(m->data);
    return m->fail_close ? -EDQUOT : 0;
}

static void mem_refresh_limits(BlockDriverState *bs)
{
    Mem *m = bs->opaque;

    bs->limits.request_alignment = m->align;
    bs->limits.max_transfer = m->max;
}

static int mem_set_perm(BlockDriverState *bs, unsigned perm, unsigned shared, GError **errp)
{
    Mem *m = bs->opaque;

    m->perm = perm;
    m->shared = shared;
    return 0;
}

static void check_request(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    Mem *m = bs->opaque;

    g_assert_cmpint(offset % (int64_t)m->align, ==, 0);
    g_assert_cmpint(bytes % (int64_t)m->align, ==, 0);
    g_assert_cmpint(bytes, >, 0);
    g_assert_true(!m->max || bytes <= (int64_t)MAX(m->max, m->align));
    g_assert_cmpint(offset + bytes, <=, MEM_CAPACITY);
}

static void begin(Mem *m)
{
    int n = atomic_fetch_add(&m->busy, 1) + 1, most = atomic_load(&m->most_busy);

    while (n > most && !atomic_compare_exchange_weak(&m->most_busy, &most, n)) {
    }
}

static bool is_bad(const Mem *m, int64_t offset, size_t bytes)
{
    return offset < m->bad_end && offset + (int64_t)bytes > m->bad_start;
}

static int coroutine_fn mem_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                      unsigned flags)
{
    Mem *m = bs->opaque;
    int ret = 0;

    check_request(bs, offset, v->size);
    m->reads++;
    begin(m);
    if (m->slow) {
        co_reschedule_self();
    }
    if (m->fail_reads || is_bad(m, offset, v->size)) {
        ret = -EIO;
    } else {
        spin_lock(&m->lock);
        iov_from_buf(v, 0, m->data + offset, v->size);
        spin_unlock(&m->lock);
    }
    m->busy--;
    return ret;
}

static int coroutine_fn mem_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                       unsigned flags)
{
    Mem *m = bs->opaque;

    check_request(bs, offset, v->size);
    m->writes++;
    if (m->fail_writes) {
        return -EIO;
    }
    begin(m);
    if (m->slow) {
        co_reschedule_self();
    }
    if (is_bad(m, offset, v->size)) {
        m->busy--;
        return -EIO;
    }
    spin_lock(&m->lock);
    iov_to_buf(v, 0, m->data + offset, v->size);
    spin_unlock(&m->lock);
    if (offset + (int64_t)v->size > m->size) {
        m->size = offset + (int64_t)v->size;
    }
    m->busy--;
    return 0;
}

static int coroutine_fn mem_co_flush(BlockDriverState *bs)
{
    Mem *m = bs->opaque;

    m->syncs++;
    return m->fail_syncs ? -EIO : 0;
}

/* What is discarded does not read zero: nobody may rely on that. */
static int coroutine_fn mem_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    Mem *m = bs->opaque;

    spin_lock(&m->lock);
    memset(m->data + offset, 0xdd, bytes);
    spin_unlock(&m->lock);
    return 0;
}

static int64_t coroutine_fn mem_co_getlength(BlockDriverState *bs)
{
    return ((Mem *)bs->opaque)->size;
}

static int coroutine_fn mem_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                        BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    Mem *m = bs->opaque;

    if (bytes < m->size) {
        memset(m->data + bytes, 0, m->size - bytes);
    }
    m->size = bytes;
    return 0;
}

const BlockDriver mem_driver = {
    BLOCK_DRIVER_TABLE,
    .format_name = "test-mem",
    .protocol_name = "test-mem",
    .instance_size = sizeof(Mem),
    .co_open = mem_co_open,
    .co_close = mem_co_close,
    .refresh_limits = mem_refresh_limits,
    .set_perm = mem_set_perm,
    .co_preadv = mem_co_preadv,
    .co_pwritev = mem_co_pwritev,
    .co_pdiscard = mem_co_pdiscard,
    .co_flush_to_disk = mem_co_flush,
    .co_getlength = mem_co_getlength,
    .co_truncate = mem_co_truncate,
};
