/* SPDX-License-Identifier: MIT */
/* One request: its numbers and buffers from the words of a command, its run, its figures. */
#include "io.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MISALIGN_OFFSET 16
#define SECTOR 512

int request_take_offset(IoRequest *r, const char *arg)
{
    r->offset = cvtnum(arg);
    if (r->offset < 0) {
        print_cvtnum_err(r->offset, arg);
        return (int)r->offset;
    }
    return 0;
}

int request_take_bytes(IoRequest *r, const char *arg)
{
    r->bytes = cvtnum(arg);
    if (r->bytes < 0) {
        print_cvtnum_err(r->bytes, arg);
        return (int)r->bytes;
    }
    return 0;
}

int request_check_length(const IoRequest *r, const char *arg)
{
    if (r->bytes > REQUEST_MAX) {
        printf("length cannot exceed %" G_GINT64_FORMAT ", given %s\n", REQUEST_MAX, arg);
        return -EINVAL;
    }
    return 0;
}

int request_check_sectors(const IoRequest *r)
{
    bool bad_offset = r->offset % SECTOR != 0;

    if (bad_offset || r->bytes % SECTOR != 0) {
        printf("%" G_GINT64_FORMAT " is not a sector-aligned value for '%s'\n",
               bad_offset ? r->offset : r->bytes, bad_offset ? "offset" : "count");
        return -EINVAL;
    }
    return 0;
}

/* ---- Buffers ---- */

static int alloc_buffer(IoRequest *r, int pattern)
{
    size_t extra = tool.misalign ? MISALIGN_OFFSET : 0;
    uint8_t *p = mem_align_try(4096, MAX((size_t)r->bytes, 1) + extra);

    if (!p) {
        printf("out of memory\n");
        return -ENOMEM;
    }
    memset(p, pattern, (size_t)r->bytes + extra);
    r->buf = p + extra;
    return 0;
}

int request_make_buffer(IoRequest *r, int pattern)
{
    int ret = alloc_buffer(r, pattern);

    if (ret == 0) {
        iov_init_buf(&r->v, r->buf, (size_t)r->bytes);
    }
    return ret;
}

int request_make_vector(IoRequest *r, char **argv, int nr, int pattern)
{
    g_autofree int64_t *len = g_new(int64_t, (gsize)nr);
    uint8_t *p;
    int ret = 0;

    r->bytes = 0;
    for (int i = 0; i < nr; i++) {
        len[i] = cvtnum(argv[i]);
        if (len[i] < 0) {
            print_cvtnum_err(len[i], argv[i]);
            return -EINVAL;
        }
        if (len[i] > REQUEST_MAX) {
            printf("Argument '%s' exceeds maximum size %" G_GINT64_FORMAT "\n", argv[i],
                   REQUEST_MAX);
            return -EINVAL;
        }
        if (r->bytes > REQUEST_MAX - len[i]) {
            printf("The total number of bytes exceed the maximum size %" G_GINT64_FORMAT "\n",
                   REQUEST_MAX);
            return -EINVAL;
        }
        r->bytes += len[i];
    }
    ret = alloc_buffer(r, pattern);
    if (ret < 0) {
        return ret;
    }
    iov_init(&r->v);
    p = r->buf;
    for (int i = 0; i < nr && ret == 0; p += len[i++]) {
        ret = iov_add(&r->v, p, (size_t)len[i]);
    }
    if (ret < 0) {
        printf("out of memory\n");
        request_clear(r);
    }
    return ret;
}

/* The file's content, again and again. */
int request_fill_from_file(IoRequest *r, const char *name)
{
    size_t len = (size_t)r->bytes, n;
    FILE *f = fopen(name, "r");
    uint8_t *buf;
    int ret;

    if (!f) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        return -EINVAL;
    }
    ret = request_make_buffer(r, 0);
    buf = r->buf;
    n = ret == 0 ? fread(buf, 1, len, f) : 0;
    if (ret == 0 && ferror(f)) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        ret = -EINVAL;
    } else if (ret == 0 && n == 0) {
        fprintf(stderr, "%s: file is empty\n", name);
        ret = -EINVAL;
    }
    fclose(f);
    for (size_t done = n; ret == 0 && done < len; done += n) {
        memcpy(buf + done, buf, MIN(n, len - done));
    }
    if (ret < 0) {
        request_clear(r);
    }
    return ret;
}

void request_clear(IoRequest *r)
{
    if (r->buf) {
        mem_align_free((uint8_t *)r->buf - (tool.misalign ? MISALIGN_OFFSET : 0));
        iov_clear(&r->v);
        r->buf = NULL;
    }
}

/* ---- Run ---- */

int coroutine_fn request_co_run(IoRequest *r)
{
    switch (r->kind) {
    case IO_READ:
        return blk_co_preadv(r->blk, r->offset, &r->v, r->flags);
    case IO_WRITE:
        return blk_co_pwritev(r->blk, r->offset, &r->v, r->flags);
    case IO_WRITE_ZEROES:
        return blk_co_pwrite_zeroes(r->blk, r->offset, r->bytes, r->flags);
    case IO_WRITE_COMPRESSED:
        return blk_co_pwritev_compressed(r->blk, r->offset, &r->v);
    case IO_DISCARD:
        return blk_co_pdiscard(r->blk, r->offset, r->bytes);
    case IO_SAVE_VMSTATE:
        return blk_co_save_vmstate(r->blk, r->offset, &r->v);
    case IO_LOAD_VMSTATE:
        return blk_co_load_vmstate(r->blk, r->offset, &r->v);
    }
    return -ENOTSUP;
}

static int coroutine_fn run_fn(void *opaque)
{
    return request_co_run(opaque);
}

int request_run(IoRequest *r)
{
    r->blk = tool.blk;
    r->start = aio_clock_ns();
    r->ret = co_run_sync(run_fn, r);
    r->ns = aio_clock_ns() - r->start;
    return r->ret;
}

/* ---- Results ---- */

int request_verify(const IoRequest *r, int64_t from, int64_t bytes)
{
    const uint8_t *p = (const uint8_t *)r->buf + from;

    for (int64_t i = 0; i < bytes; i++) {
        if (p[i] != r->pattern) {
            printf("Pattern verification failed at offset %" G_GINT64_FORMAT ", %" G_GINT64_FORMAT
                   " bytes\n",
                   r->offset + from, bytes);
            return -EINVAL;
        }
    }
    return 0;
}

void request_report(const IoRequest *r, const char *done)
{
    if (r->quiet) {
        return;
    }
    if (r->verbose) {
        dump_buffer(r->buf, r->offset, (size_t)r->bytes);
    }
    print_report(done, r->ns, r->offset, r->bytes, r->bytes, 1, r->machine);
}
