/* SPDX-License-Identifier: MIT */
/*
 * The way of data between an encrypted format and its file.
 *
 * What is read is decrypted where it is, in the reader's memory.  What is written is encrypted into
 * a buffer first; a long request goes in pieces, several at a time, so that buffers stay small and
 * the cipher and the file both have work.
 */
#include "data.h"

#include "util/co-pieces.h"

#include <errno.h>

#define PIECE (256 * KiB)
#define FLAT_MIN (16 * KiB) /* shorter elements of a long vector are not decrypted one by one */

static int coroutine_fn co_read_flat(const CryptVolume *c, BdrvChild *file, uint64_t at,
                                     uint64_t sector, IOVector *v)
{
    uint8_t *buf = bdrv_try_blockalign(file->bs, v->size);
    int ret = buf ? bdrv_co_pread(file, (int64_t)at, (int64_t)v->size, buf, 0) : -ENOMEM;

    if (ret == 0) {
        crypt_volume_co_run(c, false, sector, buf, buf, v->size);
        iov_from_buf(v, 0, buf, v->size);
    }
    mem_align_free(buf);
    return ret;
}

/* Into the reader's memory, where it is decrypted. */
static int coroutine_fn co_read_in_place(const CryptVolume *c, BdrvChild *file, uint64_t at,
                                         uint64_t sector, IOVector *v)
{
    int ret = bdrv_co_preadv(file, (int64_t)at, v, 0);

    for (int i = 0; i < v->niov && ret == 0; i++) {
        uint8_t *p = v->iov[i].iov_base;
        size_t len = v->iov[i].iov_len;

        crypt_volume_co_run(c, false, sector, p, p, len);
        sector += len / CRYPT_VOLUME_SECTOR;
    }
    return ret;
}

static bool fits_in_place(const IOVector *v)
{
    return iov_is_aligned(v, 1, CRYPT_VOLUME_SECTOR) &&
           (v->niov == 1 || v->size <= FLAT_MIN || v->size / (size_t)v->niov >= FLAT_MIN);
}

static int coroutine_fn co_write_flat(const CryptVolume *c, BdrvChild *file, uint64_t at,
                                      uint64_t sector, IOVector *v, unsigned flags)
{
    const uint8_t *src = v->niov == 1 ? v->iov[0].iov_base : NULL;
    uint8_t *buf = bdrv_try_blockalign(file->bs, v->size);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    if (!src) {
        iov_to_buf(v, 0, buf, v->size);
        src = buf;
    }
    crypt_volume_co_run(c, true, sector, buf, src, v->size);
    ret = bdrv_co_pwrite(file, (int64_t)at, (int64_t)v->size, buf, flags);
    mem_align_free(buf);
    return ret;
}

/* ---- Long requests ---- */

typedef struct CryptPiece {
    const CryptVolume *c;
    BdrvChild *file;
    uint64_t at, sector;
    IOVector v;
    unsigned flags;
    bool write;
} CryptPiece;

static int coroutine_fn co_piece(void *opaque)
{
    CryptPiece *p = opaque;
    int ret = p->write ? co_write_flat(p->c, p->file, p->at, p->sector, &p->v, p->flags)
                       : co_read_flat(p->c, p->file, p->at, p->sector, &p->v);

    iov_clear(&p->v);
    return ret;
}

static int coroutine_fn co_pieces(const CryptVolume *c, BdrvChild *file, uint64_t at,
                                  uint64_t sector, IOVector *v, unsigned flags, bool write)
{
    CryptPiece slots[CO_PIECES_MAX];
    CoPieces pieces;
    IovCursor cursor;
    int ret = 0;

    co_pieces_init(&pieces);
    iov_cursor_init(&cursor, v);
    for (size_t done = 0; done < v->size && ret == 0;) {
        unsigned slot = co_pieces_slot(&pieces);
        CryptPiece *p = &slots[slot];
        size_t n = MIN(v->size - done, (size_t)PIECE);

        ret = pieces.ret < 0 ? pieces.ret : iov_cursor_take(&cursor, &p->v, n);
        if (ret < 0) {
            break;
        }
        p->c = c;
        p->file = file;
        p->at = at + done;
        p->sector = sector + done / CRYPT_VOLUME_SECTOR;
        p->flags = flags;
        p->write = write;
        done += n;
        co_pieces_begin(&pieces, slot, co_piece, p);
    }
    return co_pieces_end(&pieces, ret);
}

int coroutine_fn crypt_data_co_read(const CryptVolume *c, BdrvChild *file, uint64_t at,
                                    uint64_t sector, IOVector *v)
{
    g_assert(v->size % CRYPT_VOLUME_SECTOR == 0);
    if (unlikely(crypt_volume_is_locked(c))) { /* BLK_O_NO_IO */
        return -EIO;
    }
    if (fits_in_place(v)) {
        return co_read_in_place(c, file, at, sector, v);
    }
    return v->size <= PIECE ? co_read_flat(c, file, at, sector, v)
                            : co_pieces(c, file, at, sector, v, 0, false);
}

int coroutine_fn crypt_data_co_write(const CryptVolume *c, BdrvChild *file, uint64_t at,
                                     uint64_t sector, IOVector *v, unsigned flags)
{
    g_assert(v->size % CRYPT_VOLUME_SECTOR == 0);
    if (unlikely(crypt_volume_is_locked(c))) { /* BLK_O_NO_IO */
        return -EIO;
    }
    return v->size <= PIECE ? co_write_flat(c, file, at, sector, v, flags)
                            : co_pieces(c, file, at, sector, v, flags, true);
}
