/* SPDX-License-Identifier: MIT */
/* Files in memory: see mem.h. One thread only. */
#include "mem.h"

#include "tests/lib/memory.h"

#include <errno.h>
#include <string.h>

#define PAGE UINT64_C(4096)
#define MAX_LENGTH (INT64_C(1) << 60)

static MemFile *files[MEM_FILES];

MemFile *mem_file_new(uint64_t length)
{
    MemFile *f = g_new0(MemFile, 1);

    f->pages = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    f->length = length;
    f->max_pages = 2048;
    return f;
}

void mem_file_free(MemFile *f)
{
    if (f) {
        g_hash_table_unref(f->pages);
        g_free(f);
    }
}

static uint8_t *page_at(const MemFile *f, uint64_t offset)
{
    return g_hash_table_lookup(f->pages, GSIZE_TO_POINTER(offset / PAGE));
}

static size_t in_page(uint64_t offset, uint64_t n)
{
    return MIN(n, PAGE - offset % PAGE);
}

void mem_file_read(const MemFile *f, uint64_t offset, void *buf, size_t n)
{
    uint8_t *to = buf;

    for (size_t len; n; offset += len, to += len, n -= len) {
        const uint8_t *p = page_at(f, offset);

        len = in_page(offset, n);
        if (p) {
            memcpy(to, p + offset % PAGE, len);
        } else {
            memset(to, 0, len);
        }
    }
}

int mem_file_write(MemFile *f, uint64_t offset, const void *buf, size_t n)
{
    const uint8_t *from = buf;

    if (offset + n > MAX_LENGTH) {
        return -EFBIG;
    }
    for (size_t len; n; offset += len, from += len, n -= len) {
        uint8_t *p = page_at(f, offset);

        len = in_page(offset, n);
        if (!p) {
            if (g_hash_table_size(f->pages) >= f->max_pages) {
                return -ENOSPC;
            }
            p = g_malloc0(PAGE);
            g_hash_table_insert(f->pages, GSIZE_TO_POINTER(offset / PAGE), p);
        }
        memcpy(p + offset % PAGE, from, len);
        f->length = MAX(f->length, offset + len);
    }
    return 0;
}

static void zero(MemFile *f, uint64_t offset, uint64_t n)
{
    GHashTableIter it;
    gpointer key, page;

    g_hash_table_iter_init(&it, f->pages);
    while (g_hash_table_iter_next(&it, &key, &page)) {
        uint64_t at = GPOINTER_TO_SIZE(key) * PAGE;
        uint64_t from = MAX(at, offset), to = MIN(at + PAGE, offset + n);

        if (from == at && to == at + PAGE) {
            g_hash_table_iter_remove(&it);
        } else if (from < to) {
            memset((uint8_t *)page + (from - at), 0, to - from);
        }
    }
}

/* ---- The driver's store ---- */

static int coroutine_fn open_by_id(BlockDriverState *bs, Options *o, void **file, GError **errp)
{
    uint64_t id;

    opts_del(o, "filename");
    if (!opts_take_uint(o, "id", 0, &id, errp)) {
        return -EINVAL;
    }
    if (id >= MEM_FILES || !files[id]) {
        return error_set(errp, ENOENT, "There is no file %" G_GUINT64_FORMAT, id);
    }
    *file = files[id];
    return 0;
}

static void read_vector(void *file, int64_t offset, IOVector *v)
{
    /* By pages, without a buffer: large ones are slow under ASan. */
    for (uint64_t at = 0, n; at < v->size; at += n) {
        const uint8_t *p = page_at(file, (uint64_t)offset + at);

        n = in_page((uint64_t)offset + at, v->size - at);
        if (p) {
            iov_from_buf(v, at, p + ((uint64_t)offset + at) % PAGE, n);
        } else {
            iov_memset(v, at, 0, n);
        }
    }
}

/* Writes, zero writes and flushes count. */
static int coroutine_fn begin(void *file, MemoryOp op, int64_t offset, int64_t bytes, bool *torn)
{
    MemFile *f = file;

    if (op == MEMORY_ZERO && bytes > MAX_LENGTH - MIN(offset, MAX_LENGTH)) {
        return -EFBIG;
    }
    if (!(op & (MEMORY_WRITE | MEMORY_ZERO | MEMORY_FLUSH))) {
        return 0;
    }
    return f->fail_write && --f->fail_write == 0 ? -EIO : 0;
}

static int write_vector(void *file, int64_t offset, const IOVector *v, int64_t bytes)
{
    uint8_t buf[PAGE];
    int ret = 0;

    for (uint64_t at = 0, n; at < (uint64_t)bytes && ret == 0; at += n) {
        n = in_page((uint64_t)offset + at, (uint64_t)bytes - at);
        iov_to_buf(v, at, buf, n);
        ret = mem_file_write(file, (uint64_t)offset + at, buf, n);
    }
    return ret;
}

static int zero_range(void *file, int64_t offset, int64_t bytes)
{
    MemFile *f = file;

    zero(f, (uint64_t)offset, (uint64_t)bytes);
    f->length = MAX(f->length, (uint64_t)(offset + bytes));
    return 0;
}

static void discard(void *file, int64_t offset, int64_t bytes)
{
    zero(file, (uint64_t)offset, (uint64_t)bytes);
}

static int status(void *file, int64_t offset, int64_t *bytes)
{
    *bytes = (int64_t)in_page((uint64_t)offset, (uint64_t)*bytes);
    return page_at(file, (uint64_t)offset) ? BLK_DATA : BLK_ZERO;
}

static int64_t length(void *file)
{
    return (int64_t)((MemFile *)file)->length;
}

static int resize(void *file, int64_t bytes, GError **errp)
{
    MemFile *f = file;

    if (bytes > MAX_LENGTH) {
        return error_set(errp, EFBIG, "Failed to resize the file: File too large");
    }
    if ((uint64_t)bytes < f->length) {
        zero(f, (uint64_t)bytes, f->length - (uint64_t)bytes);
    }
    f->length = (uint64_t)bytes;
    return 0;
}

static const char *const strong_options[] = { "id", NULL };

static const MemoryStore store = {
    .name = "fuzz-mem",
    .strong_options = strong_options,
    .unwritten_reads_zero = bdrv_unwritten_always_zero,
    .open = open_by_id,
    .begin = begin,
    .read = read_vector,
    .write = write_vector,
    .zero = zero_range,
    .discard = discard,
    .status = status,
    .length = length,
    .resize = resize,
};

void mem_driver_set(unsigned id, MemFile *f)
{
    files[id] = f;
}

void mem_driver_register(void)
{
    memory_register(&store);
}
