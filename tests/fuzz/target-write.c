/* SPDX-License-Identifier: MIT */
/*
 * An image is opened, the input's operations are done to it, it is closed, opened again and
 * checked. Where the image was sound before, everything that was written must read back, and the
 * check must find nothing worse than before. Control bytes: 0 options, 1 room in the file, 2 the
 * write that fails.
 */
#include "fuzz.h"

#include "open.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char fuzz_name[] = "write";

#define MAX_BYTES (512 * KiB)

typedef struct Run {
    BlockBackend *blk;
    GHashTable *model; /* guest sector -> its 512 bytes; what is not there is not known */
    bool strict;       /* the image was sound: hold it to the model */
    bool failed;       /* an operation failed: what was not flushed may be lost */
    bool more_leaks; /* there are some that the first check does not see, or a writer makes some */
    uint8_t buf[MAX_BYTES], other[MAX_BYTES];
} Run;

static void count_line(const char *line, void *opaque)
{
    if (g_getenv("FUZZ_TRACE")) {
        fprintf(stderr, "%s\n", line);
    }
}

/* ---- The model ---- */

static const uint8_t *expected(Run *r, int64_t sector)
{
    return g_hash_table_lookup(r->model, GSIZE_TO_POINTER((gsize)sector + 1));
}

static void expect(Run *r, int64_t sector, const uint8_t *data)
{
    g_hash_table_insert(r->model, GSIZE_TO_POINTER((gsize)sector + 1), g_memdup2(data, 512));
}

static void forget(Run *r, int64_t offset, int64_t bytes)
{
    for (int64_t s = offset / 512; s * 512 < offset + bytes; s++) {
        g_hash_table_remove(r->model, GSIZE_TO_POINTER((gsize)s + 1));
    }
}

/* Sectors [first, first + n) into r->other. False: not strict, too many, past the end, or what came
 * with the image is damaged in a way that no check sees (a compressed cluster): what was written,
 * or was read before, can be read. */
static bool read_back(Run *r, int64_t first, int64_t n, const char *when)
{
    if (!r->strict || n <= 0 || n * 512 > MAX_BYTES || (first + n) * 512 > blk_getlength(r->blk)) {
        return false;
    }
    if (blk_pread(r->blk, first * 512, n * 512, r->other, 0) == 0) {
        return true;
    }
    for (int64_t i = 0; i < n; i++) {
        int ret =
            expected(r, first + i) ? blk_pread(r->blk, (first + i) * 512, 512, r->other, 0) : 0;

        FUZZ_CHECK(ret == 0, "%s: sector %" PRId64 " cannot be read: %d", when, first + i, ret);
    }
    return false;
}

/* Read [offset, offset + bytes), widened to sectors, and compare; sectors not known are learnt. */
static void verify(Run *r, int64_t offset, int64_t bytes, const char *when)
{
    int64_t first = offset / 512, n = DIV_ROUND_UP(offset + bytes, INT64_C(512)) - first;

    if (!read_back(r, first, n, when)) {
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *want = expected(r, first + i), *got = r->other + i * 512;

        if (!want) {
            expect(r, first + i, got);
        }
        FUZZ_CHECK(!want || !memcmp(want, got, 512),
                   "%s: sector %" PRId64 " reads 0x%02x.., not 0x%02x..", when, first + i, got[0],
                   want ? want[0] : 0);
    }
}

/* The bytes of @data stand at @offset now. */
static void store(Run *r, int64_t offset, int64_t bytes, const uint8_t *data)
{
    while (bytes > 0) {
        int64_t s = offset / 512, at = offset % 512, n = MIN(bytes, 512 - at);
        const uint8_t *old = expected(r, s);
        uint8_t sector[512];

        if (old || n == 512) {
            memcpy(sector, old ? old : data, 512);
            memcpy(sector + at, data, n);
            expect(r, s, sector);
        }
        offset += n;
        data += n;
        bytes -= n;
    }
}

/* FUZZ_TRACE=1: say what is done, to find out what went wrong. */
static void trace(const char *what, int64_t offset, int64_t bytes, int ret)
{
    if (g_getenv("FUZZ_TRACE")) {
        fprintf(stderr, "%s %" PRId64 " + %" PRId64 ": %d\n", what, offset, bytes, ret);
    }
}

static void done(Run *r, int ret, int64_t offset, int64_t bytes, const uint8_t *data,
                 const char *what)
{
    trace(what, offset, bytes, ret);
    FUZZ_CHECK(ret <= 0, "%s returns %d", what, ret);
    if (ret < 0) {
        r->failed = true;
        forget(r, offset, bytes);
    } else {
        store(r, offset, bytes, data);
        verify(r, offset, bytes, what);
    }
}

/* ---- Operations ---- */

static void do_discard(Run *r, int64_t offset, int64_t bytes)
{
    int64_t first = offset / 512, n = DIV_ROUND_UP(offset + bytes, INT64_C(512)) - first;
    int ret = blk_pdiscard(r->blk, offset, bytes);

    trace("discard", offset, bytes, ret);
    FUZZ_CHECK(ret <= 0, "discard returns %d", ret);
    r->failed |= ret < 0 && ret != -ENOTSUP;
    if (!read_back(r, first, n, "discard")) {
        forget(r, offset, bytes);
        return;
    }
    for (int64_t i = 0; i < n; i++) { /* each byte: as before, or zero */
        const uint8_t *want = expected(r, first + i), *got = r->other + i * 512;

        for (unsigned k = 0; want && k < 512; k++) {
            FUZZ_CHECK(got[k] == want[k] || got[k] == 0, "discard: sector %" PRId64 " reads 0x%02x",
                       first + i, got[k]);
        }
        expect(r, first + i, got);
    }
}

static void do_truncate(Run *r, const ImgOp *o)
{
    int64_t size = o->offset * INT64_C(512) * (o->flags & 1 ? 64 : 1), old = blk_getlength(r->blk);
    BlockPrealloc prealloc = size - old < 4 * MiB ? o->value % 4 : BLK_PREALLOC_OFF;
    GHashTableIter it;
    gpointer key;
    int ret = blk_truncate(r->blk, size, o->flags & 2, prealloc,
                           o->flags & 4 ? BLK_REQ_ZERO_WRITE : 0, NULL);

    trace("truncate", old, size, ret);
    FUZZ_CHECK(ret <= 0, "truncate returns %d", ret);
    r->failed |= ret < 0 && ret != -ENOTSUP && ret != -EINVAL;
    g_hash_table_iter_init(&it, r->model);
    while (ret == 0 ? g_hash_table_iter_next(&it, &key, NULL) : false) {
        if ((GPOINTER_TO_SIZE(key) - 1) * 512 >= (uint64_t)size) {
            g_hash_table_iter_remove(&it);
        }
    }
    if (ret == 0 && size > old) {
        memset(r->buf, 0, MAX_BYTES);
        store(r, old, MIN(size - old, MAX_BYTES), r->buf);
        verify(r, old, MIN(size - old, MAX_BYTES / 2), "grow");
    }
}

static void coroutine_fn do_co_compressed(Run *r, const ImgOp *o)
{
    BlockDriverInfo info = { 0 };
    int64_t len = blk_getlength(r->blk), offset, bytes;
    IOVector v;

    if (blk_get_info(blk_bs(r->blk), &info) < 0 || info.cluster_size > MAX_BYTES || len == 0) {
        return;
    }
    offset = ALIGN_DOWN(o->offset * INT64_C(512) % len, (int64_t)info.cluster_size);
    bytes = MIN(info.cluster_size, len - offset);
    iov_init_buf(&v, r->buf, (size_t)bytes);
    verify(r, offset, bytes, "before compressed write");
    done(r, blk_co_pwritev_compressed(r->blk, offset, &v), offset, bytes, r->buf,
         "compressed write");
}

static int coroutine_fn co_compressed_fn(void *opaque)
{
    gpointer *a = opaque;

    do_co_compressed(a[0], a[1]);
    return 0;
}

static void fill(Run *r, const ImgOp *o, int64_t bytes)
{
    memset(r->buf, o->value & 0xff, bytes);
    if (o->value & 0x8000) { /* hard to compress */
        uint32_t x = o->value;

        for (int64_t i = 0; i < bytes; i++) {
            x = x * 1664525u + 1013904223u;
            r->buf[i] = (uint8_t)(x >> 24);
        }
    }
}

static void do_op(Run *r, const ImgOp *o)
{
    int64_t len = blk_getlength(r->blk);
    int64_t offset = o->offset * INT64_C(512) + (o->flags & 1 ? o->value % 512 : 0);
    int64_t bytes = o->flags & 2 ? o->len % 1024 + 1 : (o->len % 1024 + 1) * INT64_C(512);

    if (o->flags & 4 && len > 0) { /* far into the disk */
        offset = (int64_t)((__int128)len * o->offset / 65536) & ~(int64_t)511;
    }
    offset = len > 0 ? offset % len : 0;
    bytes = MIN(bytes, len - offset);
    bytes = MIN(bytes, MAX_BYTES - 1024);
    fill(r, o, bytes > 0 ? bytes : 1);
    if (o->op % 10 == 7) {
        do_truncate(r, o);
        return;
    }
    if (o->op % 10 == 6) {
        r->failed |= blk_flush(r->blk) < 0;
        return;
    }
    if (o->op % 10 == 8) {
        gpointer a[2] = { r, (gpointer)o };

        fill(r, o, MAX_BYTES);
        (void)co_run_sync(co_compressed_fn, a);
        return;
    }
    if (bytes <= 0) {
        return;
    }
    verify(r, offset, bytes, "before");
    switch (o->op % 10) {
    case 3:
        break;
    case 4:
        memset(r->buf, 0, bytes);
        done(r, blk_pwrite_zeroes(r->blk, offset, bytes, o->flags & 8 ? BLK_REQ_MAY_UNMAP : 0),
             offset, bytes, r->buf, "zero write");
        break;
    case 5:
        do_discard(r, offset, bytes);
        break;
    default:
        done(r, blk_pwrite(r->blk, offset, bytes, r->buf, o->flags & 16 ? BLK_REQ_FUA : 0), offset,
             bytes, r->buf, "write");
        break;
    }
}

/* ---- ---- */

static void verify_all(Run *r, const char *when)
{
    GList *keys = g_hash_table_get_keys(r->model);

    for (GList *l = keys; l; l = l->next) {
        verify(r, (int64_t)(GPOINTER_TO_SIZE(l->data) - 1) * 512, 512, when);
    }
    g_list_free(keys);
}

/* Sound as far as our check and the test's own look at it tell. */
static bool is_sound(Run *r, const Image *img, BlockCheckResult *res)
{
    BlockBackend *blk = fuzz_open(img, 0, NULL);
    Layout l;
    Claims c = { 0 };
    bool ok;

    memset(res, 0, sizeof(*res));
    if (!blk || !layout_read(img, &l)) {
        blk_close(blk);
        return false;
    }
    ok = blk_check(blk, res, 0, count_line, NULL) == 0 && !res->corruptions && !res->check_errors;
    blk_close(blk);
    claims_count(img, &l, &c);
    ok = ok && c.sound;
    r->more_leaks = l.nb_bitmaps || img_counts_behind_end(img, &l);
    claims_clear(&c);
    return ok;
}

static void run(Run *r, const Image *img, MemFile *file)
{
    BlockCheckResult before, after = { 0 };

    r->strict = is_sound(r, img, &before);
    file->max_pages = img->ctl[1] ? g_hash_table_size(file->pages) + img->ctl[1] : file->max_pages;
    r->blk = fuzz_open(img, BLK_O_RDWR | BLK_O_RESIZE, NULL);
    if (!r->blk) {
        return;
    }
    file->fail_write = img->ctl[2];
    for (unsigned i = 0; i < img->nops; i++) {
        do_op(r, &img->ops[i]);
    }
    if (!r->failed) {
        verify_all(r, "at the end");
    }
    r->failed |= blk_flush(r->blk) < 0;
    blk_close(r->blk);
    r->failed |= img->ctl[2] && !file->fail_write;
    file->fail_write = 0;
    file->max_pages = 1u << 20;
    r->blk = fuzz_open(img, 0, NULL);
    FUZZ_CHECK(r->blk || !r->strict, "a sound image does not open again");
    if (r->blk && !r->failed) {
        verify_all(r, "opened again");
    }
    if (r->blk && r->strict) {
        FUZZ_CHECK(blk_check(r->blk, &after, 0, count_line, NULL) == 0, "the check fails");
        FUZZ_CHECK(!after.corruptions && !after.check_errors, "the check finds %" PRId64 " errors",
                   after.corruptions);
        FUZZ_CHECK(r->failed || r->more_leaks || after.leaks <= before.leaks,
                   "%" PRId64 " leaks, %" PRId64 " before", after.leaks, before.leaks);
    }
    blk_close(r->blk);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    g_autoptr(Image) img = img_parse(data, size);
    g_autoptr(MemFile) file = img_to_file(img);
    Run *r = g_new0(Run, 1);

    r->model = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    fuzz_files_begin(file);
    run(r, img, file);
    g_hash_table_unref(r->model);
    g_free(r);
}

size_t fuzz_mutate(uint8_t *data, size_t size, size_t max, uint32_t seed)
{
    return img_mutate(data, size, max, seed);
}
