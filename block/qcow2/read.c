/* SPDX-License-Identifier: MIT */
/*
 * Guest reads.  Pinned from before the first look-up to after the last I/O.  A request that is one
 * run of data goes to the file with the caller's own vector: no allocation on that path.
 */
#include "callbacks.h"
#include "compress.h"
#include "crypt.h"
#include "entry.h"
#include "map.h"

#include "util/co-pieces.h"

#include <errno.h>

/* @v from the backing file, which may be shorter than the image: what it lacks reads zero. */
static int coroutine_fn co_read_backing(Qcow2 *q, uint64_t guest, IOVector *v)
{
    BdrvChild *backing = q->bs->backing;
    int64_t length = backing ? atomic_load(&backing->bs->total_bytes) : 0;
    uint64_t have = (int64_t)guest < length ? MIN((uint64_t)length - guest, v->size) : 0;
    IOVector part;
    int ret;

    if (have < v->size) {
        iov_memset(v, have, 0, v->size - have);
    }
    if (have == 0) {
        return 0;
    }
    bdrv_co_debug_event(q->file, BLKDBG_READ_BACKING_AIO);
    if (have == v->size) {
        return bdrv_co_preadv(backing, (int64_t)guest, v, 0);
    }
    ret = iov_init_slice(&part, v, 0, have);
    ret = ret < 0 ? ret : bdrv_co_preadv(backing, (int64_t)guest, &part, 0);
    iov_clear(&part);
    return ret;
}

/* @v is exactly the extent's length. */
static int coroutine_fn co_read_extent(Qcow2 *q, const Extent *x, uint64_t guest, IOVector *v)
{
    switch (x->kind) {
    case SC_NORMAL:
        if (unlikely(!q->data)) { /* BLK_O_NO_IO */
            return -EIO;
        }
        bdrv_co_debug_event(q->file, BLKDBG_READ_AIO);
        return qcow2_data_co_read(q, x->host, guest, v);
    case SC_ZERO_PLAIN:
    case SC_ZERO_ALLOC:
        iov_memset(v, 0, 0, v->size);
        return 0;
    case SC_UNALLOCATED_PLAIN:
    case SC_UNALLOCATED_ALLOC:
        return co_read_backing(q, guest, v);
    case SC_COMPRESSED:
        return qcow2_decompress_co_read(q, x->entry, geo_in_cluster(&q->geo, guest), v, 0, v->size);
    case SC_INVALID:
        break;
    }
    return qcow2_entry_co_unreadable(q, x->entry, guest);
}

/* ---- Requests of several extents ---- */

typedef struct ReadPiece {
    Qcow2 *q;
    Extent x;
    uint64_t guest;
    IOVector v;
} ReadPiece;

static int coroutine_fn co_read_piece(void *opaque)
{
    ReadPiece *p = opaque;
    int ret = co_read_extent(p->q, &p->x, p->guest, &p->v);

    iov_clear(&p->v);
    return ret;
}

/* Whether reading it may sleep. */
static bool does_io(const Qcow2 *q, const Extent *x)
{
    return x->kind == SC_NORMAL || x->kind == SC_COMPRESSED || q->bs->backing;
}

/* @x is the first extent. Looked up one after the other, read together: the last of them, and what
 * needs no I/O, right here. Under the request's pin. */
static int coroutine_fn G_GNUC_NO_INLINE co_read_pieces(Qcow2 *q, uint64_t guest, IOVector *v,
                                                        Extent x)
{
    ReadPiece slots[CO_PIECES_MAX];
    uint64_t end = guest + v->size;
    CoPieces pieces;
    IovCursor at;
    int ret = 0;

    co_pieces_init(&pieces);
    iov_cursor_init(&at, v);
    while (ret == 0) {
        unsigned slot = co_pieces_slot(&pieces);
        ReadPiece *p = &slots[slot];

        ret = pieces.ret < 0 ? pieces.ret : iov_cursor_take(&at, &p->v, x.bytes);
        if (ret < 0) {
            break;
        }
        p->q = q;
        p->x = x;
        p->guest = guest;
        guest += x.bytes;
        if (guest == end || !does_io(q, &x)) {
            ret = co_read_piece(p);
        } else {
            co_pieces_begin(&pieces, slot, co_read_piece, p);
        }
        if (ret < 0 || guest == end) {
            break;
        }
        ret = qcow2_map_co_find(q, guest, end - guest, &x);
    }
    return co_pieces_end(&pieces, ret);
}

int coroutine_fn qcow2_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v, unsigned flags)
{
    Qcow2 *q = bs->opaque;
    unsigned pin = qcow2_pin_enter(q->pin);
    Extent x;
    int ret = qcow2_map_co_find(q, (uint64_t)offset, v->size, &x);

    g_assert(offset >= 0 && v->size > 0);
    if (ret == 0) {
        ret = likely(x.bytes == v->size) ? co_read_extent(q, &x, (uint64_t)offset, v)
                                         : co_read_pieces(q, (uint64_t)offset, v, x);
    }
    qcow2_pin_leave(q->pin, pin);
    return ret;
}
