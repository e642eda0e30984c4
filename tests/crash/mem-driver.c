/* SPDX-License-Identifier: MIT */
/* crash-mem: the protocol driver over a file in memory. */
#include "mem.h"

#include "block/io.h"

#include <errno.h>
#include <string.h>

typedef struct MemState {
    MemFile *file;
} MemState;

static GHashTable *by_name;

MemFile *mem_named(const char *name)
{
    MemFile *f;

    if (!by_name) {
        by_name = g_hash_table_new(g_str_hash, g_str_equal);
    }
    f = g_hash_table_lookup(by_name, name);
    if (!f) {
        f = g_new0(MemFile, 1);
        g_hash_table_insert(by_name, g_strdup(name), f);
    }
    return f;
}

static bool mem_parse_filename(const char *filename, Options *options, GError **errp)
{
    opts_set(options, "name", strchr(filename, ':') + 1);
    opts_del(options, "filename");
    return true;
}

static int coroutine_fn mem_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    g_autofree char *name = opts_take_str(o, "name");

    if (!name) {
        return error_set(errp, EINVAL, "name is missing");
    }
    ((MemState *)bs->opaque)->file = mem_named(name);
    bs->supported_zero_flags = BLK_REQ_MAY_UNMAP | BLK_REQ_NO_FALLBACK;
    bs->supported_truncate_flags = BLK_REQ_ZERO_WRITE;
    return 0;
}

static int coroutine_fn mem_co_create(const char *filename, Options *opts, GError **errp)
{
    uint64_t size;

    if (!opts_take_size(opts, "size", 0, &size, errp)) {
        return -EINVAL;
    }
    if (!mem_named(filename)->device) {
        mem_clear(mem_named(filename));
        mem_resize(mem_named(filename), size);
    }
    return 0;
}

static int64_t coroutine_fn mem_co_getlength(BlockDriverState *bs)
{
    return (int64_t)((MemState *)bs->opaque)->file->size;
}

static int coroutine_fn mem_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                      unsigned flags)
{
    const MemFile *f = ((MemState *)bs->opaque)->file;

    for (int i = 0; i < v->niov; i++) {
        mem_read(f, (uint64_t)offset, v->iov[i].iov_base, v->iov[i].iov_len);
        offset += (int64_t)v->iov[i].iov_len;
    }
    return 0;
}

static bool has_room(const MemFile *f, int64_t offset, int64_t bytes)
{
    return !f->device || (uint64_t)(offset + bytes) <= f->size;
}

static int coroutine_fn mem_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                       unsigned flags)
{
    MemFile *f = ((MemState *)bs->opaque)->file;

    if (!has_room(f, offset, (int64_t)v->size)) {
        return -ENOSPC;
    }
    for (int i = 0; i < v->niov; i++) {
        mem_write(f, (uint64_t)offset, v->iov[i].iov_base, v->iov[i].iov_len);
        offset += (int64_t)v->iov[i].iov_len;
    }
    return 0;
}

static int coroutine_fn mem_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             unsigned flags)
{
    MemFile *f = ((MemState *)bs->opaque)->file;

    if (!has_room(f, offset, bytes)) {
        return -ENOSPC;
    }
    mem_zero(f, (uint64_t)offset, (uint64_t)bytes, true);
    return 0;
}

static int coroutine_fn mem_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    mem_zero(((MemState *)bs->opaque)->file, (uint64_t)offset, (uint64_t)bytes, false);
    return 0;
}

static int coroutine_fn mem_co_flush(BlockDriverState *bs)
{
    return 0;
}

static int coroutine_fn mem_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                        BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    MemFile *f = ((MemState *)bs->opaque)->file;

    if (f->device && (uint64_t)bytes > f->size) {
        return error_set(errp, EINVAL, "Cannot grow device files");
    }
    mem_resize(f, (uint64_t)bytes);
    return 0;
}

static bool mem_unwritten_reads_zero(BlockDriverState *bs)
{
    return !((MemState *)bs->opaque)->file->device;
}

static const char *const strong_options[] = { "name", NULL };

static const BlockDriver mem_driver = {
    BLOCK_DRIVER_TABLE,
    .format_name = "crash-mem",
    .protocol_name = "crash-mem",
    .instance_size = sizeof(MemState),
    .unwritten_reads_zero = mem_unwritten_reads_zero,
    .strong_options = strong_options,
    .parse_filename = mem_parse_filename,
    .co_open = mem_co_open,
    .co_create = mem_co_create,
    .co_getlength = mem_co_getlength,
    .co_preadv = mem_co_preadv,
    .co_pwritev = mem_co_pwritev,
    .co_pwrite_zeroes = mem_co_pwrite_zeroes,
    .co_pdiscard = mem_co_pdiscard,
    .co_flush_to_disk = mem_co_flush,
    .co_truncate = mem_co_truncate,
};

void mem_register(void)
{
    g_assert_true(block_register_driver(&mem_driver, NULL));
}
