/* SPDX-License-Identifier: MIT */
/* A file in memory. */
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

static int coroutine_fn mem_open(BlockDriverState *bs, Options *o, void **file, GError **errp)
{
    Mem *m = g_new0(Mem, 1);
    uint64_t size;
    bool slow;

    *file = m;
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

static int mem_close(void *file)
{
    g_autofree Mem *m = file;

    g_free(m->data);
    return m->fail_close ? -EDQUOT : 0;
}

static void mem_limits(void *file, BlockLimits *l)
{
    Mem *m = file;

    l->request_alignment = m->align;
    l->max_transfer = m->max;
}

static int mem_set_perm(void *file, unsigned perm, unsigned shared)
{
    Mem *m = file;

    m->perm = perm;
    m->shared = shared;
    return 0;
}

static void check_request(const Mem *m, int64_t offset, int64_t bytes)
{
    g_assert_cmpint(offset % (int64_t)m->align, ==, 0);
    g_assert_cmpint(bytes % (int64_t)m->align, ==, 0);
    g_assert_cmpint(bytes, >, 0);
    g_assert_true(!m->max || bytes <= (int64_t)MAX(m->max, m->align));
    g_assert_cmpint(offset + bytes, <=, MEM_CAPACITY);
}

static void count_busy(Mem *m)
{
    int n = atomic_fetch_add(&m->busy, 1) + 1, most = atomic_load(&m->most_busy);

    while (n > most && !atomic_compare_exchange_weak(&m->most_busy, &most, n)) {
    }
}

static bool is_bad(const Mem *m, int64_t offset, int64_t bytes)
{
    return offset < m->bad_end && offset + bytes > m->bad_start;
}

static int coroutine_fn mem_begin(void *file, MemoryOp op, int64_t offset, int64_t bytes,
                                  bool *torn)
{
    Mem *m = file;

    if (op == MEMORY_FLUSH) {
        m->syncs++;
        return m->fail_syncs ? -EIO : 0;
    }
    if (op != MEMORY_READ && op != MEMORY_WRITE) {
        return 0;
    }
    check_request(m, offset, bytes);
    atomic_fetch_add(op == MEMORY_READ ? &m->reads : &m->writes, 1);
    count_busy(m);
    if (op == MEMORY_WRITE && (m->fail_writes || (atomic_load(&m->fail_nth_write) &&
                                                  atomic_fetch_sub(&m->fail_nth_write, 1) == 1))) {
        return -EIO;
    }
    if (m->slow) {
        co_reschedule_self();
    }
    return (op == MEMORY_READ && m->fail_reads) || is_bad(m, offset, bytes) ? -EIO : 0;
}

static int coroutine_fn mem_end(void *file, MemoryOp op, int ret)
{
    if (op == MEMORY_READ || op == MEMORY_WRITE) {
        ((Mem *)file)->busy--;
    }
    return ret;
}

static void mem_read(void *file, int64_t offset, IOVector *v)
{
    Mem *m = file;

    spin_lock(&m->lock);
    iov_from_buf(v, 0, m->data + offset, v->size);
    spin_unlock(&m->lock);
}

static int mem_write(void *file, int64_t offset, const IOVector *v, int64_t bytes)
{
    Mem *m = file;

    spin_lock(&m->lock);
    iov_to_buf(v, 0, m->data + offset, (size_t)bytes);
    spin_unlock(&m->lock);
    if (offset + bytes > m->size) {
        m->size = offset + bytes;
    }
    return 0;
}

/* What is discarded does not read zero: nobody may rely on that. */
static void mem_discard(void *file, int64_t offset, int64_t bytes)
{
    Mem *m = file;

    spin_lock(&m->lock);
    memset(m->data + offset, 0xdd, (size_t)bytes);
    spin_unlock(&m->lock);
}

static int64_t mem_length(void *file)
{
    return ((Mem *)file)->size;
}

static int mem_resize(void *file, int64_t bytes, GError **errp)
{
    Mem *m = file;

    if (bytes < m->size) {
        memset(m->data + bytes, 0, (size_t)(m->size - bytes));
    }
    m->size = bytes;
    return 0;
}

const MemoryStore mem_store = {
    .name = "test-mem",
    .open = mem_open,
    .close = mem_close,
    .limits = mem_limits,
    .set_perm = mem_set_perm,
    .begin = mem_begin,
    .end = mem_end,
    .read = mem_read,
    .write = mem_write,
    .discard = mem_discard,
    .length = mem_length,
    .resize = mem_resize,
};
