/* SPDX-License-Identifier: MIT */
/*
 * IOVector: a scatter/gather list that names its length once.
 *
 * A constant view is made with IOV_BUF() on the stack; a growing one owns its
 * array (inline up to IOV_INLINE elements: no allocation for common requests).
 */
#ifndef UTIL_IOV_H
#define UTIL_IOV_H

#include "util/compiler.h"
#include <sys/uio.h>

DRIVER_API_BEGIN

#define IOV_INLINE 6
#define IOV_MAX_ELEMS 1024

typedef struct IOVector {
    struct iovec *iov; /* points to one, to inl, or to heap */
    int niov;
    int nalloc;  /* > IOV_INLINE: iov is on the heap and owned; 0: a view, not owned */
    size_t size; /* bytes in all; the length of the request */
    struct iovec inl[IOV_INLINE];
} IOVector;

/* View of one flat buffer; no clean-up owed. The IOVector must not be copied. */
void iov_init_buf(IOVector *v, void *buf, size_t len);
/* View of the caller's array (not copied). */
void iov_init_external(IOVector *v, struct iovec *iov, int niov);
/* Empty, growing. */
void iov_init(IOVector *v);
void iov_clear(IOVector *v); /* frees the array, not the buffers */
/* Append; 0 or -ENOMEM. (n <= IOV_INLINE never fails.) */
int iov_add(IOVector *v, void *base, size_t len);
/* Append bytes [@offset, @offset + @len) of @src; 0 or -ENOMEM. */
int iov_add_slice(IOVector *v, const IOVector *src, size_t offset, size_t len);
/* dst := a slice of src as a new growing vector. */
int iov_init_slice(IOVector *dst, const IOVector *src, size_t offset, size_t len);
/* A place in a vector, for taking slices one after the other without walking from its start. */
typedef struct IovCursor {
    const IOVector *v;
    int elem;
    size_t offset; /* in that element */
} IovCursor;
void iov_cursor_init(IovCursor *c, const IOVector *v);
/* @dst := the next @len bytes as a new growing vector; 0 or -ENOMEM (the cursor moves all the same,
 * and @dst is empty). */
int iov_cursor_take(IovCursor *c, IOVector *dst, size_t len);
/* Copy to/from a flat buffer; return bytes copied. */
size_t iov_to_buf(const IOVector *v, size_t offset, void *buf, size_t len);
size_t iov_from_buf(IOVector *v, size_t offset, const void *buf, size_t len);
size_t iov_memset(IOVector *v, size_t offset, int c, size_t len);
bool iov_is_zero(const IOVector *v, size_t offset, size_t len);
/* All bases aligned to @mem and all lengths to @len (powers of two). */
bool iov_is_aligned(const IOVector *v, size_t mem, size_t len);

/* Buffers for O_DIRECT. NULL if there is no memory. */
void *mem_align_try(size_t align, size_t size); /* free with mem_align_free */
void mem_align_free(void *p);

/* Fast "is it all zero", any length and alignment (SIMD, early exit). */
bool buffer_is_zero(const void *buf, size_t len);

DRIVER_API_END

#endif
