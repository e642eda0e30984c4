/* SPDX-License-Identifier: MIT */
/*
 * Writing compressed clusters.  Packed by a thread of the pool; room for the bytes is taken after
 * the last ones; data first, then the entry in memory; a flush writes data, counts and entries in
 * their order (INV-W-1, INV-W-2).  What does not get smaller is written as it is.  Threads pack in
 * any order; room is taken in the order of the requests, so that the layout depends on them alone.
 */
#include "compress.h"
#include "config-host.h"
#include "alloc.h"
#include "callbacks.h"
#include "change.h"
#include "entry.h"
#include "inflight.h"
#include "refcount.h"
#include "room.h"
#include "track.h"
#include "util/co-pieces.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>
#ifdef CONFIG_ZSTD
#include <zstd.h>
#endif

/* The reference unpacks with a window of 4 KiB: what we pack must not look back further. */
#define DEFLATE_WINDOW_BITS 12
#define ZSTD_LEVELS 22

typedef struct PackJob {
    bool zstd;
    int level; /* 0: the type's own */
    const uint8_t *in;
    uint8_t *out;
    size_t len; /* of both; the result must be smaller */
    size_t packed;
} PackJob;

static int pack_deflate(PackJob *j)
{
    z_stream z = { .next_in = (uint8_t *)j->in,
                   .avail_in = (unsigned)j->len,
                   .next_out = j->out,
                   .avail_out = (unsigned)j->len };
    int r;

    if (deflateInit2(&z, j->level ? MIN(j->level, Z_BEST_COMPRESSION) : Z_DEFAULT_COMPRESSION,
                     Z_DEFLATED, -DEFLATE_WINDOW_BITS, 9, Z_DEFAULT_STRATEGY) != Z_OK) {
        return -ENOMEM;
    }
    r = deflate(&z, Z_FINISH);
    j->packed = z.total_out;
    deflateEnd(&z);
    return r == Z_STREAM_END && j->packed < j->len ? 0 : -E2BIG;
}

#ifdef CONFIG_ZSTD
static int pack_zstd(PackJob *j)
{
    size_t r =
        ZSTD_compress(j->out, j->len, j->in, j->len, j->level ? j->level : ZSTD_CLEVEL_DEFAULT);

    j->packed = r;
    return !ZSTD_isError(r) && r < j->len ? 0 : -E2BIG;
}
#else
static int pack_zstd(PackJob *j)
{
    return -ENOTSUP;
}
#endif

static int pack_job(void *opaque)
{
    PackJob *j = opaque;

    g_assert(j->len > 0);
    return j->zstd ? pack_zstd(j) : pack_deflate(j);
}

int coroutine_fn qcow2_compress_co_pack(unsigned type, unsigned level, const void *in, size_t len,
                                        void *out, size_t *packed)
{
    PackJob j = { .zstd = type == QCOW2_COMPRESSION_ZSTD,
                  .level = (int)level,
                  .in = in,
                  .out = out,
                  .len = len };
    int ret = co_thread_pool_run(pack_job, &j);

    *packed = j.packed;
    return ret;
}

/* Requests get tickets; each takes its room when its turn has come. */
struct PackOrder {
    SpinLock lock;
    uint64_t tickets, turn;
    CoQueue queue;
};

bool qcow2_compress_is_built(unsigned type)
{
#ifdef CONFIG_ZSTD
    return type == QCOW2_COMPRESSION_ZLIB || type == QCOW2_COMPRESSION_ZSTD;
#else
    return type == QCOW2_COMPRESSION_ZLIB;
#endif
}

static unsigned levels(unsigned type)
{
    return type == QCOW2_COMPRESSION_ZSTD ? ZSTD_LEVELS : Z_BEST_COMPRESSION;
}

int qcow2_compress_check_level(unsigned type, uint64_t level, GError **errp)
{
    return level > levels(type)
               ? error_set(errp, EINVAL,
                           "Compression level must be between 1 and %u for compression type '%s'",
                           levels(type), type == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib")
               : 0;
}

unsigned qcow2_compress_level(const Qcow2Header *h, unsigned type)
{
    return h->compression_level <= levels(type) ? h->compression_level : 0;
}

/* For a write. */
static int level_of(const Qcow2 *q)
{
    return q->compression_level < 0
               ? (int)qcow2_compress_level(&q->hdr, q->hdr.compression_type)
               : q->compression_level;
}

int qcow2_compress_init(Qcow2 *q)
{
    q->pack_order = g_new0(struct PackOrder, 1);
    spin_init(&q->pack_order->lock);
    co_queue_init(&q->pack_order->queue);
    return 0;
}

void qcow2_compress_fini(Qcow2 *q)
{
    g_clear_pointer(&q->pack_order, g_free);
}

static uint64_t take_ticket(struct PackOrder *o)
{
    uint64_t t;

    spin_lock(&o->lock);
    t = o->tickets++;
    spin_unlock(&o->lock);
    return t;
}

static void coroutine_fn co_wait_turn(struct PackOrder *o, uint64_t ticket)
{
    spin_lock(&o->lock);
    while (o->turn != ticket) {
        co_queue_wait_spin(&o->queue, &o->lock);
    }
    spin_unlock(&o->lock);
}

static void pass_turn(struct PackOrder *o)
{
    spin_lock(&o->lock);
    g_assert(o->turn < o->tickets);
    o->turn++;
    spin_unlock(&o->lock);
    co_queue_all(&o->queue);
}

/* Room for @bytes, the entry of @guest in flight and its slice held. */
static int coroutine_fn co_plan(Qcow2 *q, uint64_t guest, size_t bytes, InflightAlloc *a,
                                MetaSlice **slice, unsigned *index, uint64_t *host)
    REQUIRES_LOCK(q->alloc.meta_lock)
{
    L2Entry old;
    uint64_t room;
    int ret = qcow2_inflight_co_get_idle(q, guest, guest + 1, NULL, slice, index, &room);

    if (ret < 0) {
        return ret;
    }
    old = qcow2_l2_load(&q->geo, (*slice)->data, *index);
    ret = qcow2_entry_co_check(q, old, guest);
    if (ret == 0 && !(old.desc & L2E_COMPRESSED) && qcow2_l2_has_host(&q->geo, old) &&
        qcow2_l2_copied(old)) {
        ret = -EIO; /* compressed data replaces no cluster that is written in place, as in the
                       reference */
    }
    ret = ret < 0 ? ret : qcow2_alloc_co_bytes(&q->alloc, bytes, host);
    if (ret < 0) {
        qcow2_cache_put(q->l2_cache, *slice);
        return ret;
    }
    qcow2_inflight_begin(q, a, guest, guest + q->geo.cluster_size);
    return 0;
}

static int coroutine_fn co_store(Qcow2 *q, uint64_t guest, const uint8_t *data, size_t bytes)
{
    InflightAlloc a;
    MetaSlice *slice;
    unsigned index;
    uint64_t host;
    int ret;

    g_assert(bytes > 0 && bytes < q->geo.cluster_size && geo_in_cluster(&q->geo, guest) == 0);
    co_mutex_lock(&q->alloc.meta_lock);
    ret = co_plan(q, guest, bytes, &a, &slice, &index, &host);
    co_mutex_unlock(&q->alloc.meta_lock);
    pass_turn(q->pack_order);
    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(q->file, BLKDBG_WRITE_COMPRESSED);
    ret = bdrv_co_pwrite(q->file, (int64_t)host, (int64_t)bytes, data, 0);
    co_mutex_lock(&q->alloc.meta_lock);
    if (ret == 0) {
        bdrv_co_debug_event(q->file, BLKDBG_L2_UPDATE_COMPRESSED);
        qcow2_entry_replace(q, slice, index, guest, qcow2_l2_make_compressed(&q->geo, host, bytes),
                            q->alloc.discard_other);
    } else {
        qcow2_refcount_co_free_unused(&q->alloc, host, bytes);
    }
    qcow2_inflight_end(q, &a);
    qcow2_cache_put(q->l2_cache, slice);
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

/* One cluster, or the part of it that the image's end leaves. */
static int coroutine_fn co_write_one(Qcow2 *q, uint64_t guest, IOVector *v, size_t v_offset,
                                     size_t len)
{
    size_t size = q->geo.cluster_size;
    g_autofree uint8_t *in = g_try_malloc(size), *out = g_try_malloc(size);
    PackJob j = { .zstd = q->hdr.compression_type == QCOW2_COMPRESSION_ZSTD,
                  .level = level_of(q),
                  .in = in,
                  .out = out,
                  .len = size };
    uint64_t ticket;
    unsigned pin;
    int ret;

    if (!in || !out) {
        return -ENOMEM;
    }
    iov_to_buf(v, v_offset, in, len);
    memset(in + len, 0, size - len);
    ticket = take_ticket(q->pack_order);
    ret = co_thread_pool_run(pack_job, &j);
    co_wait_turn(q->pack_order, ticket);
    if (ret == -E2BIG) {
        IOVector flat;

        iov_init_buf(&flat, in, len);
        ret = qcow2_co_pwritev(q->bs, (int64_t)guest, &flat, 0);
        pass_turn(q->pack_order);
        return ret;
    }
    ret = ret < 0 ? ret : qcow2_room_co_make(q);
    if (ret < 0) {
        pass_turn(q->pack_order);
        return ret;
    }
    pin = qcow2_pin_enter(q->pin);
    ret = co_store(q, guest, out, j.packed);
    qcow2_pin_leave(q->pin, pin);
    return ret;
}

typedef struct PackPiece {
    Qcow2 *q;
    uint64_t guest;
    IOVector *v;
    size_t at, len; /* of v */
} PackPiece;

static int coroutine_fn co_pack_piece(void *opaque)
{
    PackPiece *p = opaque;

    return co_write_one(p->q, p->guest, p->v, p->at, p->len);
}

/* Cluster by cluster, several at a time: each takes its ticket as it begins. */
static int coroutine_fn co_pack_all(Qcow2 *q, uint64_t guest, IOVector *v)
{
    PackPiece slots[CO_PIECES_MAX];
    CoPieces pieces;

    co_pieces_init(&pieces);
    for (size_t done = 0; done < v->size;) {
        unsigned slot = co_pieces_slot(&pieces);
        size_t n = MIN(q->geo.cluster_size, v->size - done);

        if (pieces.ret < 0) {
            break;
        }
        slots[slot] = (PackPiece){ .q = q, .guest = guest + done, .v = v, .at = done, .len = n };
        co_pieces_begin(&pieces, slot, co_pack_piece, &slots[slot]);
        done += n;
    }
    return co_pieces_end(&pieces, 0);
}

int coroutine_fn qcow2_co_pwritev_compressed(BlockDriverState *bs, int64_t offset, IOVector *v)
{
    Qcow2 *q = bs->opaque;
    const Geometry *g = &q->geo;
    uint64_t guest = (uint64_t)offset, end = guest + v->size;
    int ret = qcow2_health_may_write(&q->health);

    if (g->external_data) {
        return -ENOTSUP;
    }
    if (ret == 0 && v->size == 0) { /* the end mark: the file ends with a whole sector */
        int64_t len = bdrv_co_getlength(q->file->bs);

        return len < 0 ? (int)len
                       : bdrv_co_truncate(q->file, ALIGN_UP(len, INT64_C(512)), false,
                                          BLK_PREALLOC_OFF, 0, NULL);
    }
    if (geo_in_cluster(g, guest) ||
        (geo_in_cluster(g, end) && end != (uint64_t)atomic_load(&q->bs->total_bytes))) {
        return -EINVAL;
    }
    if (q->crypt) { /* the format leaves what is compressed readable */
        return -ENOTSUP;
    }
    ret = ret < 0 ? ret : qcow2_change_co_begin(q, QCOW2_CHANGE_DISK | QCOW2_CHANGE_IMAGE);
    ret = ret < 0 ? ret : qcow2_track_co_begin(q, guest, v->size);
    ret = ret < 0 ? ret : co_pack_all(q, guest, v);
    return qcow2_room_co_retry(q, ret) ? co_pack_all(q, guest, v) : ret;
}
