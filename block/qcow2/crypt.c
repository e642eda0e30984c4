/* SPDX-License-Identifier: MIT */
/*
 * Encrypted images: opening them, and the way of data.
 *
 * What is read is decrypted where it is, in the reader's memory.  What is written is encrypted into
 * a buffer first; a long request goes in pieces, several at a time, so that buffers stay small and
 * the cipher and the file both have work.
 */
#include "crypt.h"

#include "util/co-pieces.h"

#include <errno.h>
#include <string.h>

#define PIECE (256 * KiB)
#define FLAT_MIN (16 * KiB) /* shorter elements of a long vector are not decrypted one by one */

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

static int coroutine_fn co_read_flat(Qcow2 *q, uint64_t host, uint64_t guest, IOVector *v)
{
    uint8_t *buf = bdrv_try_blockalign(q->data->bs, v->size);
    int ret = buf ? bdrv_co_pread(q->data, (int64_t)host, (int64_t)v->size, buf, 0) : -ENOMEM;

    if (ret == 0) {
        crypt_volume_co_run(q->crypt, false, sector_of(q, host, guest), buf, buf, v->size);
        iov_from_buf(v, 0, buf, v->size);
    }
    mem_align_free(buf);
    return ret;
}

/* Into the reader's memory, where it is decrypted. */
static int coroutine_fn co_read_in_place(Qcow2 *q, uint64_t host, uint64_t guest, IOVector *v)
{
    uint64_t sector = sector_of(q, host, guest);
    int ret = bdrv_co_preadv(q->data, (int64_t)host, v, 0);

    for (int i = 0; i < v->niov && ret == 0; i++) {
        uint8_t *p = v->iov[i].iov_base;
        size_t len = v->iov[i].iov_len;

        crypt_volume_co_run(q->crypt, false, sector, p, p, len);
        sector += len / CRYPT_VOLUME_SECTOR;
    }
    return ret;
}

static bool fits_in_place(const IOVector *v)
{
    return iov_is_aligned(v, 1, CRYPT_VOLUME_SECTOR) &&
           (v->niov == 1 || v->size <= FLAT_MIN || v->size / (size_t)v->niov >= FLAT_MIN);
}

static int coroutine_fn co_write_flat(Qcow2 *q, uint64_t host, uint64_t guest, IOVector *v,
                                      unsigned flags)
{
    const uint8_t *src = v->niov == 1 ? v->iov[0].iov_base : NULL;
    uint8_t *buf = bdrv_try_blockalign(q->data->bs, v->size);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    if (!src) {
        iov_to_buf(v, 0, buf, v->size);
        src = buf;
    }
    crypt_volume_co_run(q->crypt, true, sector_of(q, host, guest), buf, src, v->size);
    ret = bdrv_co_pwrite(q->data, (int64_t)host, (int64_t)v->size, buf, flags);
    mem_align_free(buf);
    return ret;
}

/* ---- Long requests ---- */

typedef struct CryptPiece {
    Qcow2 *q;
    uint64_t host, guest;
    IOVector v;
    unsigned flags;
    bool write;
} CryptPiece;

static int coroutine_fn co_piece(void *opaque)
{
    CryptPiece *p = opaque;
    int ret = p->write ? co_write_flat(p->q, p->host, p->guest, &p->v, p->flags)
                       : co_read_flat(p->q, p->host, p->guest, &p->v);

    iov_clear(&p->v);
    return ret;
}

static int coroutine_fn co_pieces(Qcow2 *q, uint64_t host, uint64_t guest, IOVector *v,
                                  unsigned flags, bool write)
{
    CryptPiece slots[CO_PIECES_MAX];
    CoPieces pieces;
    IovCursor at;
    int ret = 0;

    co_pieces_init(&pieces);
    iov_cursor_init(&at, v);
    for (size_t done = 0; done < v->size && ret == 0;) {
        unsigned slot = co_pieces_slot(&pieces);
        CryptPiece *p = &slots[slot];
        size_t n = MIN(v->size - done, (size_t)PIECE);

        ret = pieces.ret < 0 ? pieces.ret : iov_cursor_take(&at, &p->v, n);
        if (ret < 0) {
            break;
        }
        p->q = q;
        p->host = host + done;
        p->guest = guest + done;
        p->flags = flags;
        p->write = write;
        done += n;
        co_pieces_begin(&pieces, slot, co_piece, p);
    }
    return co_pieces_end(&pieces, ret);
}

int coroutine_fn qcow2_crypt_co_read(Qcow2 *q, uint64_t host, uint64_t guest, IOVector *v)
{
    g_assert(v->size % CRYPT_VOLUME_SECTOR == 0);
    if (fits_in_place(v)) {
        return co_read_in_place(q, host, guest, v);
    }
    return v->size <= PIECE ? co_read_flat(q, host, guest, v)
                            : co_pieces(q, host, guest, v, 0, false);
}

int coroutine_fn qcow2_crypt_co_write(Qcow2 *q, uint64_t host, uint64_t guest, IOVector *v,
                                      unsigned flags)
{
    g_assert(v->size % CRYPT_VOLUME_SECTOR == 0);
    return v->size <= PIECE ? co_write_flat(q, host, guest, v, flags)
                            : co_pieces(q, host, guest, v, flags, true);
}
