/* SPDX-License-Identifier: MIT */
/* The header in the file: see header-io.h. */
#include "header-io.h"

#include "header-layout.h"
#include "util/bytes.h"

#include <errno.h>

#define FIRST_LOOK 4096 /* bytes; a header with larger clusters is read again, whole */

void qcow2_header_file_init(HeaderFile *f, BdrvChild *file)
{
    f->file = file;
    co_mutex_init(&f->lock);
}

/* ---- Read ---- */

/* How much of a file of @len bytes may be header, as its first bytes say. */
static size_t header_bytes(const uint8_t *buf, size_t len)
{
    uint32_t bits = ldbe32(buf + HEADER_AT(cluster_bits));
    bool known = ldbe32(buf) == HEADER_MAGIC && bits >= QCOW2_MIN_CLUSTER_BITS &&
                 bits <= QCOW2_MAX_CLUSTER_BITS;

    return MIN(len, known ? (size_t)1 << bits : FIRST_LOOK);
}

int coroutine_fn qcow2_header_co_read(BdrvChild *file, Qcow2Header *h, int flags, GError **errp)
{
    int64_t length = bdrv_co_getlength(file->bs);
    size_t len = (size_t)MIN(MAX(length, 0), INT64_C(1) << QCOW2_MAX_CLUSTER_BITS);
    g_autofree uint8_t *buf = g_try_malloc(MAX(len, 8));
    int ret;

    if (length < 0) {
        return error_set_errno(errp, (int)length, "Could not read qcow2 header");
    }
    if (!buf) {
        return error_set_errno(errp, ENOMEM, "Could not read qcow2 header");
    }
    if (len < HEADER_AT(size)) {
        return error_set(errp, EINVAL, "Image is not in qcow2 format");
    }
    ret = bdrv_co_pread(file, 0, MIN((int64_t)len, FIRST_LOOK), buf, 0);
    if (ret == 0) {
        len = header_bytes(buf, len);
        ret = len > FIRST_LOOK ? bdrv_co_pread(file, 0, (int64_t)len, buf, 0) : 0;
    }
    return ret < 0 ? error_set_errno(errp, ret, "Could not read qcow2 header")
                   : qcow2_header_parse(h, buf, len, length, flags, errp);
}

/* ---- Write ---- */

int coroutine_fn qcow2_header_co_write_fields_locked(HeaderFile *f, const Qcow2Header *h,
                                                     size_t from, size_t to)
{
    uint8_t fields[HEADER_OUR_LENGTH] = { 0 };

    /* INV-HDR-1; before that lies what never changes, and where the backing file's name is. */
    g_assert(from >= HEADER_AT(size) && from < to && to <= HEADER_AT(refcount_order));
    qcow2_header_put_fields(h, fields);
    return bdrv_co_pwrite(f->file, (int64_t)from, (int64_t)(to - from), fields + from, 0);
}

int coroutine_fn qcow2_header_co_write_fields(HeaderFile *f, const Qcow2Header *h, size_t from,
                                              size_t to)
{
    int ret;

    co_mutex_lock(&f->lock);
    ret = qcow2_header_co_write_fields_locked(f, h, from, to);
    co_mutex_unlock(&f->lock);
    return ret;
}

/* As the file has the bits: what memory says of others may be on its way. */
static int coroutine_fn co_add_corrupt_bit(HeaderFile *f) REQUIRES_LOCK(f->lock)
{
    uint8_t fields[HEADER_V3_LENGTH], *bits = fields + HEADER_AT(incompatible);
    int ret = bdrv_co_pread(f->file, 0, sizeof(fields), fields, 0);

    if (ret < 0 || ldbe32(fields + HEADER_AT(version)) < 3) {
        return ret;
    }
    stbe64(bits, ldbe64(bits) | QCOW2_INCOMPAT_CORRUPT);
    ret = bdrv_co_pwrite(f->file, HEADER_AT(incompatible), sizeof(uint64_t), bits, 0);
    return ret < 0 ? ret : bdrv_co_flush(f->file->bs);
}

int coroutine_fn qcow2_header_co_mark_corrupt(HeaderFile *f)
{
    int ret;

    co_mutex_lock(&f->lock);
    ret = co_add_corrupt_bit(f);
    co_mutex_unlock(&f->lock);
    return ret;
}

int coroutine_fn qcow2_header_co_write_new(BdrvChild *file, const Qcow2Header *h)
{
    size_t len = (size_t)1 << h->cluster_bits;
    uint8_t *buf = bdrv_try_blockalign(file->bs, len);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    ret = qcow2_header_serialise(h, buf, len, NULL);
    if (ret == 0) {
        ret = bdrv_co_pwrite(file, 0, (int64_t)len, buf, 0);
    }
    mem_align_free(buf);
    return ret;
}
