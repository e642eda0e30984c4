/* SPDX-License-Identifier: MIT */
#include "tests/lib/memory.h"

#include <errno.h>
#include <string.h>

typedef struct MemoryNode {
    const MemoryStore *store;
    void *file;
} MemoryNode;

static GSList *stores; /* const MemoryStore * */

static MemoryNode *node_of(BlockDriverState *bs)
{
    return bs->opaque;
}

void *memory_file(BlockDriverState *bs)
{
    return node_of(bs)->file;
}

int64_t memory_torn_bytes(int64_t offset, int64_t bytes)
{
    return bytes > 1024 ? ALIGN_DOWN(offset + bytes / 2 + 512, INT64_C(512)) - offset : bytes;
}

static const MemoryStore *find_store(const char *name)
{
    for (GSList *l = stores; l; l = l->next) {
        const MemoryStore *s = l->data;

        if (!strcmp(s->name, name)) {
            return s;
        }
    }
    g_assert_not_reached();
}

static int coroutine_fn begin(MemoryNode *n, MemoryOp op, int64_t offset, int64_t bytes, bool *torn)
{
    *torn = false;
    return n->store->begin ? n->store->begin(n->file, op, offset, bytes, torn) : 0;
}

static int coroutine_fn end(MemoryNode *n, MemoryOp op, int ret)
{
    return n->store->end ? n->store->end(n->file, op, ret) : ret;
}

/* ---- The driver ---- */

static int coroutine_fn memory_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    MemoryNode *n = node_of(bs);

    n->store = find_store(bs->drv->format_name);
    bs->supported_zero_flags = n->store->zero ? BLK_REQ_MAY_UNMAP | BLK_REQ_NO_FALLBACK : 0;
    return n->store->open(bs, o, &n->file, errp);
}

static int coroutine_fn memory_co_close(BlockDriverState *bs)
{
    MemoryNode *n = node_of(bs);

    return n->file && n->store->close ? n->store->close(n->file) : 0;
}

/* By the name of the one store that creates files in this program. */
static int coroutine_fn memory_co_create(const char *filename, Options *opts, GError **errp)
{
    uint64_t size;

    if (!opts_take_size(opts, "size", 0, &size, errp)) {
        return -EINVAL;
    }
    for (GSList *l = stores; l; l = l->next) {
        const MemoryStore *s = l->data;

        if (s->create) {
            return s->create(filename, size, errp);
        }
    }
    return -ENOTSUP;
}

static void memory_refresh_limits(BlockDriverState *bs)
{
    MemoryNode *n = node_of(bs);

    if (n->store->limits) {
        n->store->limits(n->file, &bs->limits);
    }
}

static int memory_set_perm(BlockDriverState *bs, unsigned perm, unsigned shared, GError **errp)
{
    MemoryNode *n = node_of(bs);

    return n->store->set_perm ? n->store->set_perm(n->file, perm, shared) : 0;
}

static int coroutine_fn memory_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                         unsigned flags)
{
    MemoryNode *n = node_of(bs);
    bool torn;
    int ret = begin(n, MEMORY_READ, offset, (int64_t)v->size, &torn);

    if (ret == 0) {
        n->store->read(n->file, offset, v);
    }
    return end(n, MEMORY_READ, ret);
}

static int coroutine_fn memory_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                          unsigned flags)
{
    MemoryNode *n = node_of(bs);
    int64_t bytes = (int64_t)v->size;
    bool torn;
    int ret = begin(n, MEMORY_WRITE, offset, bytes, &torn);

    if (ret == 0) {
        ret = n->store->write(n->file, offset, v, bytes);
    } else if (torn) {
        (void)n->store->write(n->file, offset, v, memory_torn_bytes(offset, bytes));
    }
    return end(n, MEMORY_WRITE, ret);
}

static int coroutine_fn memory_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                                unsigned flags)
{
    MemoryNode *n = node_of(bs);
    bool torn;
    int ret;

    if (!n->store->zero) {
        return -ENOTSUP;
    }
    ret = begin(n, MEMORY_ZERO, offset, bytes, &torn);
    ret = ret < 0 ? ret : n->store->zero(n->file, offset, bytes);
    return end(n, MEMORY_ZERO, ret);
}

static int coroutine_fn memory_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    MemoryNode *n = node_of(bs);
    bool torn;
    int ret = begin(n, MEMORY_DISCARD, offset, bytes, &torn);

    if (ret == 0) {
        n->store->discard(n->file, offset, bytes);
    }
    return end(n, MEMORY_DISCARD, ret);
}

static int coroutine_fn memory_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                               int64_t bytes, int64_t *pnum, int64_t *map,
                                               BlockDriverState **file)
{
    MemoryNode *n = node_of(bs);
    int64_t len = bytes;
    int status = n->store->status ? n->store->status(n->file, offset, &len) : BLK_DATA;

    *pnum = MIN(len, bytes);
    *map = offset;
    *file = bs;
    return status | BLK_OFFSET_VALID;
}

static int coroutine_fn memory_co_flush(BlockDriverState *bs)
{
    MemoryNode *n = node_of(bs);
    bool torn;
    int ret = begin(n, MEMORY_FLUSH, 0, 0, &torn);

    if (n->store->sync) {
        n->store->sync(n->file, ret < 0);
    }
    return end(n, MEMORY_FLUSH, ret);
}

static int64_t coroutine_fn memory_co_getlength(BlockDriverState *bs)
{
    return node_of(bs)->store->length(node_of(bs)->file);
}

static int coroutine_fn memory_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                           BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    MemoryNode *n = node_of(bs);
    bool torn;
    int ret = begin(n, MEMORY_TRUNCATE, bytes, 0, &torn);

    if (ret < 0) {
        return end(n, MEMORY_TRUNCATE, error_set_errno(errp, ret, "Failed to resize the file"));
    }
    return end(n, MEMORY_TRUNCATE, n->store->resize(n->file, bytes, errp));
}

void memory_register(const MemoryStore *store)
{
    BlockDriver d = {
        BLOCK_DRIVER_TABLE,
        .format_name = store->name,
        .protocol_name = store->name,
        .instance_size = sizeof(MemoryNode),
        .parse_filename = store->parse_filename,
        .strong_options = store->strong_options,
        .unwritten_reads_zero = store->unwritten_reads_zero,
        .co_open = memory_co_open,
        .co_close = memory_co_close,
        .co_create = store->create ? memory_co_create : NULL,
        .refresh_limits = memory_refresh_limits,
        .set_perm = memory_set_perm,
        .co_preadv = memory_co_preadv,
        .co_pwritev = memory_co_pwritev,
        .co_pwrite_zeroes = memory_co_pwrite_zeroes,
        .co_pdiscard = memory_co_pdiscard,
        .co_block_status = memory_co_block_status,
        .co_flush_to_disk = memory_co_flush,
        .co_getlength = memory_co_getlength,
        .co_get_allocated_size = store->tells_size ? memory_co_getlength : NULL,
        .co_truncate = memory_co_truncate,
    };

    stores = g_slist_prepend(stores, (gpointer)store);
    g_assert_true(block_register_driver(&d, NULL));
}
