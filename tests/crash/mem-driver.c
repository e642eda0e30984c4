/* SPDX-License-Identifier: MIT */
/* crash-mem: the driver in memory over a file whose pages copies share. */
#include "mem.h"

#include "tests/lib/memory.h"

#include <errno.h>
#include <string.h>

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
    g_autofree char *name = g_strdup(strchr(filename, ':') + 1);

    if (strchr(name, '/')) { /* one file may have many names */
        *strchr(name, '/') = '\0';
    }
    opts_set(options, "name", name);
    opts_del(options, "filename");
    return true;
}

static int coroutine_fn open_named(BlockDriverState *bs, Options *o, void **file, GError **errp)
{
    g_autofree char *name = opts_take_str(o, "name");

    if (!name) {
        return error_set(errp, EINVAL, "name is missing");
    }
    *file = mem_named(name);
    bs->supported_truncate_flags = BLK_REQ_ZERO_WRITE;
    return 0;
}

static int coroutine_fn create(const char *filename, uint64_t size, GError **errp)
{
    MemFile *f = mem_named(filename);

    if (!f->device) {
        mem_clear(f);
        mem_resize(f, size);
    }
    return 0;
}

static int64_t length(void *file)
{
    return (int64_t)((MemFile *)file)->size;
}

static void read_vector(void *file, int64_t offset, IOVector *v)
{
    for (int i = 0; i < v->niov; i++) {
        mem_read(file, (uint64_t)offset, v->iov[i].iov_base, v->iov[i].iov_len);
        offset += (int64_t)v->iov[i].iov_len;
    }
}

static bool has_room(const MemFile *f, int64_t offset, int64_t bytes)
{
    return !f->device || (uint64_t)(offset + bytes) <= f->size;
}

static int write_vector(void *file, int64_t offset, const IOVector *v, int64_t bytes)
{
    if (!has_room(file, offset, bytes)) {
        return -ENOSPC;
    }
    for (int i = 0; i < v->niov; i++) {
        mem_write(file, (uint64_t)offset, v->iov[i].iov_base, v->iov[i].iov_len);
        offset += (int64_t)v->iov[i].iov_len;
    }
    return 0;
}

static int zero(void *file, int64_t offset, int64_t bytes)
{
    if (!has_room(file, offset, bytes)) {
        return -ENOSPC;
    }
    mem_zero(file, (uint64_t)offset, (uint64_t)bytes, true);
    return 0;
}

static void discard(void *file, int64_t offset, int64_t bytes)
{
    mem_zero(file, (uint64_t)offset, (uint64_t)bytes, false);
}

static int resize(void *file, int64_t bytes, GError **errp)
{
    MemFile *f = file;

    if (f->device && (uint64_t)bytes > f->size) {
        return error_set(errp, EINVAL, "Cannot grow device files");
    }
    mem_resize(f, (uint64_t)bytes);
    return 0;
}

static bool unwritten_reads_zero(BlockDriverState *bs)
{
    return !((MemFile *)memory_file(bs))->device;
}

static const char *const strong_options[] = { "name", NULL };

static const MemoryStore store = {
    .name = "crash-mem",
    .parse_filename = mem_parse_filename,
    .strong_options = strong_options,
    .unwritten_reads_zero = unwritten_reads_zero,
    .open = open_named,
    .create = create,
    .read = read_vector,
    .write = write_vector,
    .zero = zero,
    .discard = discard,
    .length = length,
    .resize = resize,
};

void mem_register(void)
{
    memory_register(&store);
}
