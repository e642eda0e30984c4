/* SPDX-License-Identifier: MIT */
/*
 * Encrypted images: opening them, the way of data, changes of key slots.
 */
#include "crypt.h"

#include "block/crypto/data.h"
#include "change.h"

#include <errno.h>

/* ---- Open ---- */

static int coroutine_fn co_read_header(void *opaque, uint64_t offset, void *buf, size_t len)
{
    Qcow2 *q = opaque;

    return bdrv_co_pread(q->file, (int64_t)(q->hdr.crypto_offset + offset), (int64_t)len, buf, 0);
}

static int coroutine_fn co_write_header(void *opaque, uint64_t offset, const void *buf, size_t len)
{
    Qcow2 *q = opaque;
    int ret = qcow2_health_may_write(&q->health);

    return ret < 0 ? ret
                   : bdrv_co_pwrite(q->file, (int64_t)(q->hdr.crypto_offset + offset), (int64_t)len,
                                    buf, 0);
}

static int coroutine_fn co_flush_header(void *opaque)
{
    Qcow2 *q = opaque;

    return qcow2_health_co_sync(&q->health, q->file->bs);
}

static CryptHeaderIo header_io(Qcow2 *q)
{
    return (CryptHeaderIo){ co_read_header, co_write_header, co_flush_header, q,
                            q->hdr.crypto_length };
}

/* An image that is not encrypted ignores a secret, but not a format. */
static int open_plain(Options *sub, GError **errp)
{
    const char *format = opts_peek(sub, "format");

    return format ? error_set(errp, EINVAL,
                              "No encryption in image header, but options specified format '%s'",
                              format)
                  : 0;
}

int coroutine_fn qcow2_crypt_co_open(Qcow2 *q, Options *o, int flags, GError **errp)
{
    g_autoptr(Options) sub = opts_take_subtree(o, "encrypt");
    bool luks = q->hdr.crypt_method == QCOW2_CRYPT_LUKS;
    CryptHeaderIo io = header_io(q);
    const SecureBuf *pass;
    GError *err = NULL;
    int ret;

    if (!q->hdr.crypt_method) {
        return open_plain(sub, errp);
    }
    q->bs->encrypted = true;
    ret = crypt_volume_take_key(sub, opts_secrets(o), luks, "encrypt.", flags & BLK_O_NO_IO, &pass,
                                &err);
    if (ret == 0) {
        ret = luks ? crypt_volume_co_open_luks(&q->crypt, &io, false, pass, &err)
                   : crypt_volume_open_aes(&q->crypt, pass, &err);
    }
    if (ret == 0 && !q->bs->read_only && !(flags & BLK_O_CHECK) && qcow2_crypt_header_is_cut(q)) {
        /* Key slots would be lost when counts are made anew. Check finds it. */
        ret = error_set(&err, EINVAL, "Request for data outside of extension header");
    }
    if (err) {
        g_propagate_error(errp, err);
    }
    return ret;
}

void qcow2_crypt_fini(Qcow2 *q)
{
    g_clear_pointer(&q->crypt, crypt_volume_free);
}

void qcow2_crypt_describe(const Qcow2 *q, Options *o)
{
    if (q->crypt) {
        crypt_volume_describe(q->crypt, o, "encrypt.", true, false);
    }
}

/* ---- Data ---- */

/* LUKS counts sectors of the data file, the older format those of the disk. */
static uint64_t sector_of(const Qcow2 *q, uint64_t host, uint64_t guest)
{
    uint64_t at = q->hdr.crypt_method == QCOW2_CRYPT_LUKS ? host : guest;

    g_assert(IS_ALIGNED(at, (uint64_t)CRYPT_VOLUME_SECTOR));
    return at / CRYPT_VOLUME_SECTOR;
}

int coroutine_fn qcow2_crypt_co_read(Qcow2 *q, uint64_t host, uint64_t guest, IOVector *v)
{
    return crypt_data_co_read(q->crypt, q->data, host, sector_of(q, host, guest), v);
}

int coroutine_fn qcow2_crypt_co_write(Qcow2 *q, uint64_t host, uint64_t guest, IOVector *v,
                                      unsigned flags)
{
    return crypt_data_co_write(q->crypt, q->data, host, sector_of(q, host, guest), v, flags);
}

/* ---- Key slots ---- */

int qcow2_crypt_check_amend(const Qcow2 *q, GError **errp)
{
    if (!q->crypt) {
        return error_set(errp, EINVAL, "Can't amend encryption options - encryption not present");
    }
    return q->hdr.crypt_method == QCOW2_CRYPT_LUKS
               ? 0
               : error_set(errp, ENOTSUP, "Only LUKS encryption options can be amended");
}

int coroutine_fn qcow2_crypt_co_amend(Qcow2 *q, Options *o, Secrets *secrets, bool force,
                                      GError **errp)
{
    CryptHeaderIo io = header_io(q);
    int ret = qcow2_change_co_begin(q, QCOW2_CHANGE_IMAGE);

    return ret < 0 ? error_set_errno(errp, ret, "Could not update qcow2 header")
                   : crypt_volume_co_amend(q->crypt, &io, o, secrets, "encrypt.", force, errp);
}
