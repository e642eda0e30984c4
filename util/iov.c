/* SPDX-License-Identifier: MIT */
/* IOVector: views and growing lists of buffers. */
#include "util/iov.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void iov_init_buf(IOVector *v, void *buf, size_t len)
{
    v->inl[0] = (struct iovec){ buf, len };
    v->iov = v->inl;
    v->niov = 1;
    v->nalloc = 0;
    v->size = len;
}

void iov_init_external(IOVector *v, struct iovec *iov, int niov)
{
    v->iov = iov;
    v->niov = niov;
    v->nalloc = 0;
    v->size = 0;
    for (int i = 0; i < niov; i++) {
        v->size += iov[i].iov_len;
    }
}

void iov_init(IOVector *v)
{
    v->iov = v->inl;
    v->niov = 0;
    v->nalloc = IOV_INLINE;
    v->size = 0;
}

void iov_clear(IOVector *v)
{
    if (v->nalloc > IOV_INLINE) {
        g_free(v->iov);
    }
    iov_init(v);
}

static int grow(IOVector *v)
{
    int n = v->nalloc * 2;
    struct iovec *p = g_try_new(struct iovec, n);

    if (!p) {
        return -ENOMEM;
    }
    memcpy(p, v->iov, sizeof(*p) * (size_t)v->niov);
    if (v->nalloc > IOV_INLINE) {
        g_free(v->iov);
    }
    v->iov = p;
    v->nalloc = n;
    return 0;
}

int iov_add(IOVector *v, void *base, size_t len)
{
    g_assert(v->nalloc >= IOV_INLINE); /* a view does not grow */
    if (len == 0) {
        return 0;
    }
    if (v->niov == v->nalloc && grow(v) < 0) {
        return -ENOMEM;
    }
    v->iov[v->niov++] = (struct iovec){ base, len };
    v->size += len;
    return 0;
}

int iov_add_slice(IOVector *v, const IOVector *src, size_t offset, size_t len)
{
    g_assert(offset <= src->size && len <= src->size - offset);
    for (int i = 0; i < src->niov && len > 0; i++) {
        size_t n = src->iov[i].iov_len;

        if (offset >= n) {
            offset -= n;
            continue;
        }
        n = MIN(n - offset, len);
        if (iov_add(v, (char *)src->iov[i].iov_base + offset, n) < 0) {
            return -ENOMEM;
        }
        offset = 0;
        len -= n;
    }
    return 0;
}

int iov_init_slice(IOVector *dst, const IOVector *src, size_t offset, size_t len)
{
    int ret;

    iov_init(dst);
    ret = iov_add_slice(dst, src, offset, len);
    if (ret < 0) {
        iov_clear(dst);
    }
    return ret;
}

void iov_cursor_init(IovCursor *c, const IOVector *v)
{
    *c = (IovCursor){ .v = v };
}

int iov_cursor_take(IovCursor *c, IOVector *dst, size_t len)
{
    int ret = 0;

    iov_init(dst);
    while (len > 0) {
        const struct iovec *e = &c->v->iov[c->elem];
        size_t n;

        g_assert(c->elem < c->v->niov);
        n = MIN(e->iov_len - c->offset, len);
        ret = ret < 0 ? ret : iov_add(dst, (char *)e->iov_base + c->offset, n);
        len -= n;
        c->offset += n;
        if (c->offset == e->iov_len) {
            c->elem++;
            c->offset = 0;
        }
    }
    if (ret < 0) {
        iov_clear(dst);
    }
    return ret;
}

typedef void PieceFunc(void *piece, size_t len, size_t done, void *opaque);

/* Call @fn for each piece of [@offset, @offset + @len); the bytes walked. */
static size_t walk(const IOVector *v, size_t offset, size_t len, PieceFunc *fn, void *opaque)
{
    size_t done = 0;

    for (int i = 0; i < v->niov && done < len; i++) {
        size_t n = v->iov[i].iov_len;

        if (offset >= n) {
            offset -= n;
            continue;
        }
        n = MIN(n - offset, len - done);
        fn((char *)v->iov[i].iov_base + offset, n, done, opaque);
        offset = 0;
        done += n;
    }
    return done;
}

static void copy_out(void *piece, size_t len, size_t done, void *opaque)
{
    memcpy((char *)opaque + done, piece, len);
}

static void copy_in(void *piece, size_t len, size_t done, void *opaque)
{
    memcpy(piece, (const char *)opaque + done, len);
}

static void fill(void *piece, size_t len, size_t done, void *opaque)
{
    memset(piece, *(int *)opaque, len);
}

static void and_zero(void *piece, size_t len, size_t done, void *opaque)
{
    bool *zero = opaque;

    *zero = *zero && buffer_is_zero(piece, len);
}

size_t iov_to_buf(const IOVector *v, size_t offset, void *buf, size_t len)
{
    return walk(v, offset, len, copy_out, buf);
}

size_t iov_from_buf(IOVector *v, size_t offset, const void *buf, size_t len)
{
    return walk(v, offset, len, copy_in, (void *)buf);
}

size_t iov_memset(IOVector *v, size_t offset, int c, size_t len)
{
    return walk(v, offset, len, fill, &c);
}

bool iov_is_zero(const IOVector *v, size_t offset, size_t len)
{
    bool zero = true;

    walk(v, offset, len, and_zero, &zero);
    return zero;
}

bool iov_is_aligned(const IOVector *v, size_t mem, size_t len)
{
    for (int i = 0; i < v->niov; i++) {
        if (!IS_ALIGNED((uintptr_t)v->iov[i].iov_base, (uintptr_t)mem) ||
            !IS_ALIGNED(v->iov[i].iov_len, len)) {
            return false;
        }
    }
    return true;
}

void *mem_align_try(size_t align, size_t size)
{
    void *p;

    if (posix_memalign(&p, MAX(align, sizeof(void *)), MAX(size, 1)) != 0) {
        return NULL;
    }
    return p;
}

void mem_align_free(void *p)
{
    free(p);
}
