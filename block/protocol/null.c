/* SPDX-License-Identifier: MIT */
/* null-co, null-aio: take every write, keep nothing; for benchmarks and tests. */
#include "block/io.h"

#include <errno.h>
#include <string.h>

typedef struct NullState {
    int64_t size;
    int64_t latency_ns;
    bool read_zeroes;
} NullState;

static int coroutine_fn null_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    NullState *s = bs->opaque;
    bool plain = !opts_has(o, "size") &&
                 !opts_has(o, "read-zeroes"); /* the content is the same however late */
    uint64_t size, latency;

    if (!opts_take_size(o, "size", 1 << 30, &size, errp) ||
        !opts_take_uint(o, "latency-ns", 0, &latency, errp) ||
        !opts_take_bool(o, "read-zeroes", false, &s->read_zeroes, errp)) {
        return -EINVAL;
    }
    opts_del(o, "filename");
    if (size > INT64_MAX || latency > INT64_MAX) {
        return error_set(errp, EINVAL, "%s is invalid", size > INT64_MAX ? "size" : "latency-ns");
    }
    if (plain) {
        g_free(bs->exact_filename);
        bs->exact_filename = g_strdup_printf("%s://", bs->drv->format_name);
    }
    s->size = (int64_t)size;
    s->latency_ns = (int64_t)latency;
    bs->supported_write_flags = BLK_REQ_FUA;
    bs->supported_zero_flags = BLK_REQ_FUA | BLK_REQ_MAY_UNMAP | BLK_REQ_NO_FALLBACK;
    return 0;
}

static int64_t coroutine_fn null_co_getlength(BlockDriverState *bs)
{
    return ((NullState *)bs->opaque)->size;
}

static int64_t coroutine_fn null_co_allocated_size(BlockDriverState *bs)
{
    return 0;
}

static int coroutine_fn co_wait(BlockDriverState *bs)
{
    NullState *s = bs->opaque;

    if (s->latency_ns) {
        co_sleep_ns(s->latency_ns);
    }
    return 0;
}

static int coroutine_fn null_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                       unsigned flags)
{
    if (((NullState *)bs->opaque)->read_zeroes) {
        iov_memset(v, 0, 0, v->size);
    }
    return co_wait(bs);
}

static int coroutine_fn null_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                        unsigned flags)
{
    return co_wait(bs);
}

static int coroutine_fn null_co_range(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      unsigned flags)
{
    return co_wait(bs);
}

static int coroutine_fn null_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return co_wait(bs);
}

static int coroutine_fn null_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                             int64_t bytes, int64_t *pnum, int64_t *map,
                                             BlockDriverState **file)
{
    *pnum = bytes;
    *map = offset;
    *file = bs;
    return BLK_OFFSET_VALID | (((NullState *)bs->opaque)->read_zeroes ? BLK_ZERO : 0);
}

static bool null_unwritten_reads_zero(BlockDriverState *bs)
{
    return ((NullState *)bs->opaque)->read_zeroes;
}

/* "null-co://" and nothing more. */
static bool parse_name(const char *filename, const char *only, Options *o, GError **errp)
{
    opts_del(o, "filename");
    if (strcmp(filename, only)) {
        error_set(errp, EINVAL, "The only allowed filename for this driver is '%s'", only);
        return false;
    }
    return true;
}

static bool parse_plain_name(const char *filename, Options *o, GError **errp)
{
    return parse_name(filename, "null-co://", o, errp);
}

static bool parse_name_aio(const char *filename, Options *o, GError **errp)
{
    return parse_name(filename, "null-aio://", o, errp);
}

/* It has nothing that could be like a file's. */
static int coroutine_fn null_co_reopen_prepare(BlockDriverState *bs, Options *o, int flags,
                                               void **state, GError **errp)
{
    return 0;
}

static const char *const strong_options[] = { "size", "read-zeroes", NULL };

#define NULL_DRIVER(name, parse)                                                                   \
    {                                                                                              \
        BLOCK_DRIVER_TABLE,                                                                        \
            .format_name = (name), .protocol_name = (name), .instance_size = sizeof(NullState),    \
            .parse_filename = (parse), .co_open = null_co_open,                                    \
            .co_reopen_prepare = null_co_reopen_prepare, .strong_options = strong_options,         \
            .co_getlength = null_co_getlength, .co_get_allocated_size = null_co_allocated_size,    \
            .unwritten_reads_zero = null_unwritten_reads_zero, .co_preadv = null_co_preadv,        \
            .co_pwritev = null_co_pwritev, .co_pwrite_zeroes = null_co_range,                      \
            .co_pdiscard = null_co_pdiscard, .co_block_status = null_co_block_status,              \
            .co_flush_to_disk = co_wait,                                                           \
    }

const BlockDriver bdrv_null_co = NULL_DRIVER("null-co", parse_plain_name);
/* Every request here is asynchronous: the same driver. */
const BlockDriver bdrv_null_aio = NULL_DRIVER("null-aio", parse_name_aio);
