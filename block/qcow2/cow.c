/* SPDX-License-Identifier: MIT */
/*
 * Copy-on-write: what must be filled in around the guest's data, and the write that does it.
 *
 * The sources do not change while we read them: the entries are guarded by the run's InflightAlloc,
 * the clusters by the request's pin; a cluster that others may overwrite in place (COPIED) is
 * never a source, but for bytes that this run does not write.
 *
 * INV-COW-1  A host cluster that was in use before is never taken to read zero.
 * INV-COW-2  In place, only subclusters that were not readable from the host are filled in: the
 *            bytes of readable ones belong to concurrent overwrites.
 * INV-COW-3  In clusters that were there before, nothing but the guest's data goes to the guest's
 *            range: a run may hold readable clusters beside those that are filled in.
 */
#include "rules.h"
#include "cow.h"

#include "callbacks.h"
#include "cow-buffer.h"
#include "crypt.h"
#include "entry.h"
#include "util/co-pieces.h"

#define MERGE_MIDDLE (16 * KiB) /* a hole this small between head and tail is read along */
#define ZERO_CHUNK (64 * KiB)
#define ZERO_BY_CALL (256 * KiB) /* from here on, ask the file to zero rather than copy zeroes */

static const _Alignas(4096) uint8_t zeroes[ZERO_CHUNK];

static bool is_normal(const Geometry *g, L2Entry e, unsigned sc, uint64_t guest)
{
    return qcow2_l2_kind(g, e, sc, guest) == SC_NORMAL;
}

uint64_t qcow2_cow_begin(const Geometry *g, L2Entry e, bool in_place, uint64_t start)
{
    uint64_t cluster = geo_cluster_start(g, start);
    unsigned sc = geo_sc_index(g, start);
    uint32_t before;

    g_assert(!in_place || qcow2_l2_has_host(g, e));
    if (in_place) { /* INV-COW-2 */
        return is_normal(g, e, sc, start) ? start : ALIGN_DOWN(start, g->subcluster_size);
    }
    if (!g->extended_l2 || (e.desc & L2E_COMPRESSED)) {
        return cluster;
    }
    before = qcow2_l2_normal_mask(g, e) & ((UINT32_C(1) << sc) - 1);
    return before ? cluster + (unsigned)__builtin_ctz(before) * g->subcluster_size
                  : ALIGN_DOWN(start, g->subcluster_size);
}

uint64_t qcow2_cow_finish(const Geometry *g, L2Entry e, bool in_place, uint64_t end)
{
    uint64_t cluster = geo_cluster_start(g, end - 1);
    unsigned sc = geo_sc_index(g, end - 1);
    uint32_t after;

    g_assert(end > 0);
    if (in_place) {
        return is_normal(g, e, sc, end - 1) ? end : ALIGN_UP(end, g->subcluster_size);
    }
    if (!g->extended_l2 || (e.desc & L2E_COMPRESSED)) {
        return cluster + g->cluster_size;
    }
    after = qcow2_l2_normal_mask(g, e) & ~((UINT32_C(2) << sc) - 1);
    return after ? cluster + (32 - (unsigned)__builtin_clz(after)) * g->subcluster_size
                 : ALIGN_UP(end, g->subcluster_size);
}

/* Read guest [start, start + bytes) as it is now; zeroes past the end of the disk. */
static int coroutine_fn read_guest(Qcow2 *q, uint64_t start, void *buf, uint64_t bytes)
{
    uint64_t size = atomic_load(&q->bs->total_bytes);
    uint64_t have = start >= size ? 0 : MIN(bytes, size - start);
    IOVector v;
    int ret = 0;

    if (have) {
        iov_init_buf(&v, buf, have);
        ret = qcow2_co_preadv(q->bs, start, &v, 0);
    }
    memset((uint8_t *)buf + have, 0, bytes - have);
    return ret;
}

static int add_zeroes(IOVector *w, uint64_t bytes)
{
    int ret = 0;

    while (bytes && ret == 0) {
        uint64_t n = MIN(bytes, (uint64_t)ZERO_CHUNK);

        ret = iov_add(w, (void *)zeroes, n);
        bytes -= n;
    }
    return ret;
}

static uint64_t host_of(const WriteRun *r, const Geometry *g, uint64_t guest)
{
    return r->host + (guest - (r->first << g->cluster_bits));
}

static int coroutine_fn write_guest_only(Qcow2 *q, const WriteRun *r, IOVector *v, size_t v_offset,
                                         unsigned flags)
{
    uint64_t bytes = r->end - r->start;
    IOVector w;
    int ret;

    bdrv_co_debug_event(q->data, BLKDBG_WRITE_AIO);
    if (v_offset == 0 && bytes == v->size) {
        return qcow2_data_co_write(q, host_of(r, &q->geo, r->start), r->start, v, flags);
    }
    ret = iov_init_slice(&w, v, v_offset, bytes);
    if (ret == 0) {
        ret = qcow2_data_co_write(q, host_of(r, &q->geo, r->start), r->start, &w, flags);
    }
    iov_clear(&w);
    return ret;
}

static int coroutine_fn zero_part(Qcow2 *q, const WriteRun *r, uint64_t start, uint64_t end)
{
    g_assert(start <= end);
    return start == end ? 0
                        : bdrv_co_pwrite_zeroes(q->data, host_of(r, &q->geo, start), end - start,
                                                BLK_REQ_NO_FALLBACK);
}

/*
 * Head and tail read zero: large ones by a zero write of the file; -ENOTSUP to fill in otherwise.
 * INV-COW-3: where the clusters were there before, the guest's range between the two may hold data
 * that readers see, and a power loss or a failed write would leave zeroes in its place.
 */
static int coroutine_fn zero_by_call(Qcow2 *q, const WriteRun *r)
{
    int ret;

    if (q->crypt || r->cow_end - r->cow_start - (r->end - r->start) < ZERO_BY_CALL) {
        return -ENOTSUP;
    }
    bdrv_co_debug_event(q->data, BLKDBG_CLUSTER_ALLOC_SPACE);
    if (r->fresh || RULE_BROKEN(ZERO_BESIDE_DATA)) {
        CASE_MET(ZERO_CALL_FRESH);
        return zero_part(q, r, r->cow_start, r->cow_end); /* nobody sees it: one call for all */
    }
    CASE_MET(ZERO_CALL_IN_PLACE);
    ret = zero_part(q, r, r->cow_start, r->start);
    return ret < 0 ? ret : zero_part(q, r, r->end, r->cow_end);
}

/* A guest vector with too many elements for head and tail to fit beside it. */
static int flatten(BlockDriverState *bs, IOVector *v, size_t v_offset, size_t bytes, void **ret)
{
    *ret = bdrv_try_blockalign(bs, bytes);
    if (!*ret) {
        return -ENOMEM;
    }
    iov_to_buf(v, v_offset, *ret, bytes);
    return 0;
}

/* [head or zeroes][guest][tail or zeroes] in one write. */
static int coroutine_fn write_merged(Qcow2 *q, const WriteRun *r, IOVector *v, size_t v_offset,
                                     void *head, void *tail, unsigned flags)
{
    uint64_t head_len = r->start - r->cow_start, tail_len = r->cow_end - r->end;
    uint64_t zero_elems =
        (head ? 1 : head_len / ZERO_CHUNK + 1) + (tail ? 1 : tail_len / ZERO_CHUNK + 1);
    size_t bytes = r->end - r->start;
    void *flat = NULL;
    IOVector w;
    int ret = 0;

    iov_init(&w);
    if (head_len) {
        ret = head ? iov_add(&w, head, head_len) : add_zeroes(&w, head_len);
    }
    if (ret == 0 && v->niov + zero_elems > IOV_MAX_ELEMS) {
        CASE_MET(FLATTENED);
        ret = flatten(q->data->bs, v, v_offset, bytes, &flat);
    }
    if (ret == 0) {
        ret = flat ? iov_add(&w, flat, bytes) : iov_add_slice(&w, v, v_offset, bytes);
    }
    if (ret == 0 && tail_len) {
        ret = tail ? iov_add(&w, tail, tail_len) : add_zeroes(&w, tail_len);
    }
    if (ret == 0) {
        bdrv_co_debug_event(q->data, BLKDBG_WRITE_AIO);
        ret = qcow2_data_co_write(q, host_of(r, &q->geo, r->cow_start), r->cow_start, &w, flags);
    }
    iov_clear(&w);
    mem_align_free(flat);
    return ret;
}

typedef struct CowData {
    uint8_t *buf, *head, *tail; /* head, tail: NULL for zeroes */
    uint64_t bytes;             /* of buf */
} CowData;

typedef struct CowPart {
    Qcow2 *q;
    uint64_t offset, bytes;
    uint8_t *buf;
} CowPart;

static int coroutine_fn co_read_part(void *opaque)
{
    CowPart *p = opaque;

    return read_guest(p->q, p->offset, p->buf, p->bytes);
}

/* At the same time. */
static int coroutine_fn co_read_both(CowPart *head, CowPart *tail)
{
    CoPieces pieces;

    co_pieces_init(&pieces);
    co_pieces_begin(&pieces, co_pieces_slot(&pieces), co_read_part, head);
    return co_pieces_end(&pieces, co_read_part(tail));
}

/* Get what fills in, as far as it is not known to be zero. */
static int coroutine_fn cow_read(Qcow2 *q, const WriteRun *r, CowData *d)
{
    uint64_t head_len = r->start - r->cow_start, tail_len = r->cow_end - r->end;
    bool head = head_len && !r->head_zero, tail = tail_len && !r->tail_zero;
    bool merge = head && tail && (r->merge || r->end - r->start <= MERGE_MIDDLE);
    uint64_t bytes =
        merge ? r->cow_end - r->cow_start : (head ? head_len : 0) + (tail ? tail_len : 0);
    int ret = 0;

    d->bytes = bytes;
    d->buf = qcow2_cow_buffer_get(q, bytes);
    if (!d->buf) {
        return -ENOMEM;
    }
    bdrv_co_debug_event(q->file, BLKDBG_COW_READ);
    if (merge) {
        CASE_MET(COW_MERGED);
        if (r->merge) {
            CASE_MET(COW_COMPRESSED);
        }
        d->head = d->buf;
        d->tail = d->buf + (r->end - r->cow_start);
        return read_guest(q, r->cow_start, d->buf, bytes);
    }
    CASE_MET(COW_APART);
    d->head = head ? d->buf : NULL;
    d->tail = tail ? d->buf + (head ? head_len : 0) : NULL;
    if (head && tail) {
        return co_read_both(&(CowPart){ q, r->cow_start, head_len, d->head },
                            &(CowPart){ q, r->end, tail_len, d->tail });
    }
    if (head) {
        ret = read_guest(q, r->cow_start, d->head, head_len);
    } else if (tail) {
        ret = read_guest(q, r->end, d->tail, tail_len);
    }
    return ret;
}

int coroutine_fn qcow2_cow_co_write(Qcow2 *q, const WriteRun *r, IOVector *v, size_t v_offset,
                                    unsigned flags)
{
    uint64_t head_len = r->start - r->cow_start, tail_len = r->cow_end - r->end;
    CowData d = { 0 };
    int ret;

    g_assert(v_offset + (r->end - r->start) <= v->size);
    if (!head_len && !tail_len) {
        return write_guest_only(q, r, v, v_offset, flags);
    }
    if ((!head_len || r->head_zero) && (!tail_len || r->tail_zero)) {
        if (r->beyond_eof) {
            CASE_MET(PAST_EOF_ZERO);
            return write_guest_only(q, r, v, v_offset, flags);
        }
        if (zero_by_call(q, r) == 0) {
            return write_guest_only(q, r, v, v_offset, flags);
        }
        CASE_MET(ZEROES_WRITTEN);
        return write_merged(q, r, v, v_offset, NULL, NULL, flags);
    }
    ret = cow_read(q, r, &d);
    if (ret == 0 && r->beyond_eof && (!d.head || buffer_is_zero(d.head, head_len)) &&
        (!d.tail || buffer_is_zero(d.tail, tail_len))) {
        CASE_MET(PAST_EOF_READ);
        ret = write_guest_only(q, r, v, v_offset, flags);
    } else if (ret == 0) {
        bdrv_co_debug_event(q->file, BLKDBG_COW_WRITE);
        ret = write_merged(q, r, v, v_offset, d.head, d.tail, flags);
    }
    qcow2_cow_buffer_put(q, d.buf, d.bytes);
    return ret;
}
