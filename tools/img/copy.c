/* SPDX-License-Identifier: MIT */
/*
 * Workers (coroutines of one loop) take pieces of the image in their order, read them, and write
 * what is not zero.  Reads overlap; writes begin in the order of their offsets, each as soon as the
 * one before it has begun, so that one input always gives the same layout (unless out_of_order).
 */
#include "copy.h"

#include <errno.h>
#include <string.h>

/* Small enough that what is read is still in a processor's cache when it is written; a cluster of
 * the target at least, for that is written whole. */
#define PIECE (512 * KiB)

/* Each part that fails is told; the others under way end, and no more begin. */
static void fail(Copy *c, int ret, const char *what, int64_t offset)
{
    c->ret = ret;
    img_error("error while %s %" G_GINT64_FORMAT ": %s", what, offset, strerror(-ret));
}

static CopySource *source_at(Copy *c, int64_t offset)
{
    CopySource *s = c->sources;

    while (offset >= s->start + s->bytes) {
        s++;
    }
    return s;
}

/* ---- What to copy ---- */

static CopyKind kind_of(const Copy *c, int status)
{
    if (c->base_blk && !(status & BLK_ALLOCATED)) {
        return c->shared_base ? PIECE_BASE : PIECE_DIFF;
    }
    if (status & BLK_ZERO) {
        return c->min_sparse ? PIECE_ZERO : PIECE_DATA;
    }
    return PIECE_DATA;
}

/* What the target holds of its own there hides what its backing file has. */
static int coroutine_fn co_mind_target(Copy *c, CopyPiece *p)
{
    int ret = blk_co_is_allocated(c->target, p->offset, p->bytes, &p->bytes);

    if (ret > 0) {
        p->kind = PIECE_DATA;
    }
    return ret < 0 ? ret : 0;
}

static int coroutine_fn co_classify_source(Copy *c, CopyPiece *p)
{
    CopySource *s = source_at(c, p->offset);
    int64_t in = p->offset - s->start, map, n = MIN(p->bytes, s->bytes - in);
    BlockDriverState *file, *bs = blk_bs(s->blk);
    BlockDriverState *base = c->shared_base ? c->shared_base
                             : c->base_blk  ? blk_node_backing(bs)
                                            : NULL;
    int status = blk_co_block_status_above(s->blk, NULL, base, s->skip + in, n, &p->bytes, &map,
                                           &file, NULL);

    if (status < 0) {
        return status;
    }
    p->kind = kind_of(c, status);
    return c->target_has_data && (p->kind == PIECE_BASE || p->kind == PIECE_DIFF)
               ? co_mind_target(c, p)
               : 0;
}

/* Kind and length of what lies at p->offset, p->bytes at most. */
static int coroutine_fn co_classify(Copy *c, CopyPiece *p)
{
    return c->co_classify ? c->co_classify(c, p) : co_classify_source(c, p);
}

/* Compressed clusters are read and written whole. */
static void whole_clusters(const Copy *c, CopyPiece *p, int64_t left)
{
    if (p->bytes >= c->cluster) {
        p->bytes = ALIGN_DOWN(p->bytes, c->cluster);
    } else if (p->bytes < left) {
        p->bytes = MIN(c->cluster, left);
        p->kind =
            c->base_blk && !c->target_has_data && p->kind != PIECE_DATA ? PIECE_DIFF : PIECE_DATA;
    }
    if (p->kind != PIECE_ZERO && p->kind != PIECE_BASE) {
        p->bytes = MIN(p->bytes, c->cluster);
    }
}

/* The next piece of the image, of @left bytes that are left; 0 or -errno. */
static int coroutine_fn co_next_piece(Copy *c, CopyPiece *p, int64_t left)
{
    int ret;

    *p = (CopyPiece){ .offset = c->next, .bytes = left };
    ret = co_classify(c, p);
    if (ret < 0 && c->salvage) {
        *p = (CopyPiece){ .kind = PIECE_DATA, .offset = c->next, .bytes = MIN(left, c->piece) };
        ret = 0;
    }
    if (ret < 0) {
        return ret;
    }
    if (c->compress && !p->plain) {
        whole_clusters(c, p, left);
    } else if (p->kind == PIECE_DATA || p->kind == PIECE_DIFF) {
        /* Pieces end at multiples of their size, so that writes are aligned. */
        p->bytes = MIN(p->bytes, c->piece - p->offset % c->piece);
    }
    c->next += p->bytes;
    p->ticket = c->tickets++;
    return 0;
}

/* The next piece; false: none is left, or an error (told). */
static bool coroutine_fn co_take(Copy *c, CopyPiece *p)
{
    bool ok = false;

    co_mutex_lock(&c->hand_out);
    if (c->ret == 0 && c->next < c->total) {
        int ret = co_next_piece(c, p, c->total - c->next);

        ok = ret == 0;
        if (ret < 0) {
            fail(c, ret, "reading block status at offset", p->offset);
        }
    }
    co_mutex_unlock(&c->hand_out);
    return ok;
}

/* ---- Reading ---- */

/* Sector by sector: what cannot be read becomes zero. */
static void coroutine_fn co_salvage(Copy *c, CopySource *s, int64_t at, int64_t bytes, uint8_t *buf)
{
    int64_t unit = MAX(512, (int64_t)blk_node_facts(blk_bs(s->blk)).alignment);

    for (int64_t n; bytes > 0; at += n, buf += n, bytes -= n) {
        int ret;

        n = MIN(bytes, unit - at % unit);
        ret = blk_co_pread(s->blk, at, n, buf, 0);
        if (ret < 0) {
            if (!c->quiet) {
                img_error("warning: error while reading offset %" G_GINT64_FORMAT ": %s", at,
                          strerror(-ret));
            }
            memset(buf, 0, (size_t)n);
        }
    }
}

static int coroutine_fn co_read(Copy *c, int64_t offset, int64_t bytes, uint8_t *buf)
{
    while (bytes > 0) {
        CopySource *s = source_at(c, offset);
        int64_t in = offset - s->start, at = s->skip + in, n = MIN(bytes, s->bytes - in);
        int ret = blk_co_pread(s->blk, at, n, buf, 0);

        if (ret < 0 && c->salvage) {
            co_salvage(c, s, at, n, buf);
        } else if (ret < 0) {
            return ret;
        }
        offset += n;
        buf += n;
        bytes -= n;
    }
    return 0;
}

/* The backing file's content; it reads zero past its end. */
static int coroutine_fn co_read_base(Copy *c, int64_t offset, int64_t bytes, uint8_t *buf)
{
    int64_t len = blk_getlength(c->base_blk), n = CLAMP(len - offset, 0, bytes);

    memset(buf + n, 0, (size_t)(bytes - n));
    return n ? blk_co_pread(c->base_blk, offset, n, buf, 0) : 0;
}

/* ---- Writing ---- */

static bool zero_is_there(const Copy *c, int64_t offset)
{
    return c->reads_zero && (!c->base_blk || offset >= blk_getlength(c->base_blk));
}

/* Zero without data where the target has a form for that. */
static int coroutine_fn co_write_zero(Copy *c, int64_t offset, int64_t bytes)
{
    int64_t end = offset + bytes, base = c->base_blk ? blk_getlength(c->base_blk) : 0;

    if (zero_is_there(c, offset)) {
        return 0;
    }
    if (c->reads_zero) {
        end = MIN(end, MAX(base, offset));
    }
    return blk_co_pwrite_zeroes(c->target, offset, end - offset,
                                c->min_sparse ? BLK_REQ_MAY_UNMAP : 0);
}

typedef enum UnitKind { UNIT_DATA, UNIT_ZERO, UNIT_SAME } UnitKind;

/* What a unit of the buffer needs; @base (may be NULL) is what the backing file has there. */
static UnitKind unit_kind(const Copy *c, const uint8_t *buf, const uint8_t *base, int64_t bytes)
{
    if (base && memcmp(buf, base, (size_t)bytes) == 0) {
        return UNIT_SAME;
    }
    return c->min_sparse && buffer_is_zero(buf, (size_t)bytes) ? UNIT_ZERO : UNIT_DATA;
}

/* The first run of units of one kind. */
static int64_t run_of_units(const Copy *c, const CopyPiece *p, int64_t done, const uint8_t *buf,
                            const uint8_t *base, UnitKind *kind)
{
    bool packed = c->compress && !p->plain;
    int64_t unit = packed          ? c->cluster
                   : c->min_sparse ? c->min_sparse
                   : base          ? 4096
                                   : p->bytes;
    int64_t n = 0;

    while (done + n < p->bytes) {
        int64_t at = done + n,
                m = MIN(unit - (packed ? 0 : (p->offset + at) % unit), p->bytes - at);
        UnitKind k = unit_kind(c, buf + at, base ? base + at : NULL, m);

        if (n && k != *kind) {
            break;
        }
        *kind = k;
        n += m;
    }
    return n;
}

static int coroutine_fn co_write_buffer(Copy *c, const CopyPiece *p, uint8_t *buf,
                                        const uint8_t *base)
{
    int ret = 0;

    for (int64_t done = 0, n; done < p->bytes && ret == 0; done += n) {
        UnitKind kind = UNIT_DATA;
        int64_t at = p->offset + done;
        IOVector v;

        n = run_of_units(c, p, done, buf, base, &kind);
        if (kind == UNIT_ZERO) {
            ret = co_write_zero(c, at, n);
        } else if (kind == UNIT_DATA) {
            iov_init_buf(&v, buf + done, (size_t)n);
            ret = c->compress && !p->plain ? blk_co_pwritev_compressed(c->target, at, &v)
                                           : blk_co_pwritev(c->target, at, &v, 0);
        }
    }
    return ret;
}

/* ---- The workers ---- */

static void coroutine_fn co_wait_turn(Copy *c, const CopyPiece *p)
{
    while (c->turn != p->ticket) {
        co_queue_wait(&c->turn_queue, NULL);
    }
    c->turn++;
    /* They run when this one sleeps, that is when its write has begun. */
    co_queue_all(&c->turn_queue);
}

/* Not more than c->rate bytes per second since the start. */
static void coroutine_fn co_pace(Copy *c, int64_t bytes)
{
    int64_t due;

    if (!c->rate) {
        return;
    }
    due = c->started_ns + (int64_t)((double)c->paced / (double)c->rate * 1e9);
    c->paced += bytes;
    if (due > aio_clock_ns()) {
        co_sleep_ns(due - aio_clock_ns());
    }
}

static void coroutine_fn co_copy_piece(Copy *c, const CopyPiece *p, uint8_t *buf, uint8_t *base)
{
    bool data = p->kind == PIECE_DATA || p->kind == PIECE_DIFF;
    int ret = 0;

    base = p->kind == PIECE_DIFF ? base : NULL;
    if (data) {
        co_pace(c, p->bytes);
        ret = co_read(c, p->offset, p->bytes, buf);
        if (ret == 0 && base) {
            ret = co_read_base(c, p->offset, p->bytes, base);
        }
        if (ret < 0) {
            fail(c, ret, "reading at byte", p->offset);
        }
    }
    if (!c->out_of_order) {
        co_wait_turn(c, p);
    }
    if (c->ret) {
        return;
    }
    if (data) {
        ret = co_write_buffer(c, p, buf, base);
    } else if (p->kind == PIECE_ZERO) {
        ret = co_write_zero(c, p->offset, p->bytes);
    }
    if (ret < 0 &&
        (c->ret == 0 ||
         c->out_of_order)) { /* in order, what comes after a failure is not to be written */
        fail(c, ret, "writing at byte", p->offset);
    }
    if (data || !c->counted) {
        c->done += p->bytes;
        progress_set((double)c->done / (double)(c->counted ? c->work : c->total) * 100);
    }
}

static void coroutine_fn worker(void *opaque)
{
    Copy *c = opaque;
    size_t size = (size_t)c->piece; /* a cluster at least */
    uint8_t *buf = mem_align_try(4096, size),
            *base = c->base_blk ? mem_align_try(4096, size) : NULL;
    CopyPiece p;

    if (!buf || (c->base_blk && !base)) {
        fail(c, -ENOMEM, "reading at byte", c->next);
    }
    while (co_take(c, &p)) {
        co_copy_piece(c, &p, buf, base);
    }
    mem_align_free(buf);
    mem_align_free(base);
    c->running--;
}

/* For the progress line: how much there is to read. */
static int coroutine_fn count_fn(void *opaque)
{
    Copy *c = opaque;

    for (int64_t at = 0; at < c->total;) {
        CopyPiece p = { .offset = at, .bytes = c->total - at };
        int ret = co_classify(c, &p);

        if (ret < 0) { /* told, or salvaged, when it is copied */
            return ret;
        }
        c->work += p.kind == PIECE_DATA || p.kind == PIECE_DIFF ? p.bytes : 0;
        at += p.bytes;
    }
    return 0;
}

static int coroutine_fn finish_fn(void *opaque)
{
    Copy *c = opaque;
    IOVector v;

    iov_init_buf(&v, NULL, 0);
    return c->compress ? blk_co_pwritev_compressed(c->target, 0, &v) : 0;
}

bool copy_run(Copy *c)
{
    BlockDriverInfo info = { 0 };
    int ret = blk_get_info(blk_bs(c->target), &info);

    c->piece = MAX(PIECE, ret < 0 ? 0 : (int64_t)info.cluster_size);
    if (c->compress) {
        if (ret < 0) {
            img_error("could not get block driver info");
            return false;
        }
        c->cluster = info.cluster_size;
        if (c->cluster <= 0 || c->cluster > 32 * MiB) {
            img_error("invalid cluster size");
            return false;
        }
    }
    co_mutex_init(&c->hand_out);
    co_queue_init(&c->turn_queue);
    if (progress_enabled()) {
        c->counted = co_run_sync(count_fn, c) == 0;
    }
    c->started_ns = aio_clock_ns();
    c->running = c->workers;
    for (int i = 0; i < c->workers; i++) {
        Coroutine *co = coroutine_create(worker, c);

        if (co) {
            coroutine_enter(co);
        } else {
            fail(c, -ENOMEM, "reading at byte", c->next);
            c->running--;
        }
    }
    AIO_WAIT_WHILE(aio_current(), c->running > 0);
    if (c->ret == 0) {
        ret = co_run_sync(finish_fn, c);
        if (ret < 0) {
            fail(c, ret, "writing at byte", c->total);
        }
    }
    return c->ret == 0;
}
