/* SPDX-License-Identifier: MIT */
/* Requests of the stress, one after the other in each coroutine, told to the model. */
#include "stress.h"

#include "block/io.h"
#include "tests/lib/rand.h"

#include <errno.h>

static const GrainRange nothing = { 0, 0 };

atomic_ullong stress_requests;

/* ---- Ranges ---- */

static GrainRange any_range(Worker *w)
{
    const Model *m = &w->r->m;
    unsigned usual = rand_below(&w->rand, 4) ? 6 : 60, hot = m->ngrains / 4 + 1;
    GrainRange g;

    g.first = rand_below(&w->rand, rand_below(&w->rand, 3) ? hot : m->ngrains);
    g.n = rand_range(&w->rand, 1, MIN(usual, m->ngrains - g.first));
    while (g.n > 1 && model_bytes(m, g) > 256 * KiB) {
        g.n--;
    }
    return g;
}

/* Whole clusters. */
static GrainRange cluster_range(Worker *w)
{
    int64_t cs = w->r->spec.cluster_size;
    unsigned clusters = (unsigned)(w->r->m.size / cs), at, n;
    GrainRange g;

    at = rand_below(&w->rand, rand_below(&w->rand, 3) ? clusters / 4 + 1 : clusters);
    n = rand_range(&w->rand, 1, MIN(3, clusters - at));
    g.first = model_grain_at(&w->r->m, at * cs);
    g.n = model_grain_at(&w->r->m, (at + n) * cs) - g.first;
    return g;
}

/* Grains of [start, end) bytes, whole ones. */
static GrainRange inside(const Model *m, int64_t start, int64_t end)
{
    unsigned first = model_grain_at(m, start), last = model_grain_at(m, end);

    if (last > first && end < m->size && model_start(m, (GrainRange){ last, 0 }) > end) {
        last--;
    }
    return (GrainRange){ first, last > first ? last - first : 0 };
}

static int64_t range_end(const Model *m, GrainRange g)
{
    return model_start(m, g) + model_bytes(m, g);
}

/* ---- Clusters that may be written in place ---- */

static unsigned cluster_at(const Round *r, int64_t offset)
{
    return (unsigned)(offset / r->spec.cluster_size);
}

/* From now on clusters of @g may be written in place. */
static void mark_plain(Round *r, GrainRange g)
{
    unsigned last = cluster_at(r, range_end(&r->m, g) - 1);

    for (unsigned i = cluster_at(r, model_start(&r->m, g)); i <= last; i++) {
        atomic_store(&r->plain[i], 1);
    }
}

static bool any_plain(Round *r, GrainRange g)
{
    unsigned last = cluster_at(r, range_end(&r->m, g) - 1);

    if (r->resizes && range_end(&r->m, g) > r->smallest) {
        return true; /* growth writes zeroes at the old end */
    }

    for (unsigned i = cluster_at(r, model_start(&r->m, g)); i <= last; i++) {
        if (atomic_load(&r->plain[i])) {
            return true;
        }
    }
    return false;
}

/* A compressed write is refused where a cluster is written in place (a preallocated one is from the
 * start), and with an external data file; for no other reason. */
static bool may_refuse(Round *r, GrainRange g, int ret)
{
    return (ret == -ENOTSUP && r->spec.data_file) ||
           (ret == -EIO && (r->spec.prealloc || any_plain(r, g)));
}

/* ---- Errors ---- */

/* Is this outcome possible here? @end: of the request. */
static void expect(Worker *w, const char *what, GrainRange g, int ret)
{
    Round *r = w->r;

    if (ret >= 0 || r->faults) {
        return;
    }
    if (ret == -EIO && range_end(&r->m, g) > (r->resizes ? r->smallest : (int64_t)r->spec.size)) {
        return; /* past the end of the disk, now or a moment ago */
    }
    round_fail(r, "%s of %" G_GINT64_FORMAT "+%" G_GINT64_FORMAT " fails: %s", what,
               model_start(&r->m, g), model_bytes(&r->m, g), g_strerror(-ret));
}

static void wrong(Worker *w, const char *what, GrainRange g, const ModelError *e)
{
    round_fail(
        w->r,
        "%s of %" G_GINT64_FORMAT "+%" G_GINT64_FORMAT " finds 0x%02x at %" G_GINT64_FORMAT ": %s",
        what, model_start(&w->r->m, g), model_bytes(&w->r->m, g), e->found, e->offset, e->allowed);
}

/* ---- Requests ---- */

static void coroutine_fn co_read(Worker *w)
{
    Model *m = &w->r->m;
    GrainRange g = any_range(w);
    uint64_t begin = model_now(m);
    ModelError e;
    int ret = blk_co_pread(w->r->blk, model_start(m, g), model_bytes(m, g), w->buf, 0);

    expect(w, "read", g, ret);
    if (ret >= 0 && !model_check(m, g, begin, w->buf, &e)) {
        wrong(w, "read", g, &e);
    }
}

static void coroutine_fn co_write(Worker *w)
{
    Model *m = &w->r->m;
    GrainRange g = any_range(w);
    uint32_t op = atomic_fetch_add(&w->r->next_op, 1);
    int ret;

    model_fill(op, model_start(m, g), model_bytes(m, g), w->buf);
    model_write_begin(m, g, op, false);
    mark_plain(w->r, g);
    ret = blk_co_pwrite(w->r->blk, model_start(m, g), model_bytes(m, g), w->buf,
                        rand_below(&w->rand, 30) ? 0 : BLK_REQ_FUA);
    model_write_end(m, g, op, ret < 0 ? nothing : g);
    expect(w, "write", g, ret);
}

static int coroutine_fn co_compressed(Worker *w, GrainRange g)
{
    IOVector v;

    iov_init_buf(&v, w->buf, model_bytes(&w->r->m, g));
    return blk_co_pwritev_compressed(w->r->blk, model_start(&w->r->m, g), &v);
}

static void coroutine_fn co_write_compressed(Worker *w)
{
    Model *m = &w->r->m;
    GrainRange g = cluster_range(w);
    uint32_t op = atomic_fetch_add(&w->r->next_op, 1);
    int ret;

    model_fill(op, model_start(m, g), model_bytes(m, g), w->buf);
    model_write_begin(m, g, op, false);
    if (!(op & 1)) { /* what does not compress is written plain */
        mark_plain(w->r, g);
    }
    ret = co_compressed(w, g);
    model_write_end(m, g, op, ret < 0 ? nothing : g);
    expect(w, "compressed write", g, may_refuse(w->r, g, ret) ? 0 : ret);
}

static void coroutine_fn co_zero(Worker *w)
{
    static const unsigned flags[] = { 0, BLK_REQ_MAY_UNMAP, BLK_REQ_MAY_UNMAP,
                                      BLK_REQ_NO_FALLBACK };
    Model *m = &w->r->m;
    GrainRange g = rand_below(&w->rand, 2) ? any_range(w) : cluster_range(w);
    uint32_t op = atomic_fetch_add(&w->r->next_op, 1);
    int ret;

    model_write_begin(m, g, op, true);
    mark_plain(w->r, g);
    ret = blk_co_pwrite_zeroes(w->r->blk, model_start(m, g), model_bytes(m, g),
                               flags[rand_below(&w->rand, 4)]);
    model_write_end(m, g, op, ret < 0 ? nothing : g);
    expect(w, "zero write", g, ret == -ENOTSUP ? 0 : ret);
}

/* Whole clusters read zero then, where the format can say so; the rest is a hint. */
static void coroutine_fn co_discard(Worker *w)
{
    Model *m = &w->r->m;
    int64_t cs = w->r->spec.cluster_size;
    GrainRange g = rand_below(&w->rand, 2) ? any_range(w) : cluster_range(w), sure;
    uint32_t op = atomic_fetch_add(&w->r->next_op, 1);
    int64_t start = ROUND_UP(model_start(m, g), cs), end = range_end(m, g) / cs * cs;
    int ret;

    model_write_begin(m, g, op, true);
    ret = blk_co_pdiscard(w->r->blk, model_start(m, g), model_bytes(m, g));
    sure = ret < 0 || w->r->spec.v2 || start >= end ? nothing : inside(m, start, end);
    model_write_end(m, g, op, sure);
    expect(w, "discard", g, ret);
}

static void coroutine_fn co_flush(Worker *w)
{
    uint64_t begin = model_now(&w->r->m);
    uint_fast64_t old = atomic_load(&w->r->flushed);
    int ret = blk_co_flush(w->r->blk);

    expect(w, "flush", (GrainRange){ 0, 1 }, ret);
    while (ret == 0 && old < begin && !atomic_compare_exchange_weak(&w->r->flushed, &old, begin)) {
    }
}

static void coroutine_fn co_status(Worker *w)
{
    Model *m = &w->r->m;
    GrainRange g = any_range(w), z;
    uint64_t begin = model_now(m);
    int64_t start = model_start(m, g), bytes = model_bytes(m, g), n;
    ModelError e;
    int ret =
        bdrv_co_block_status_above(blk_bs(w->r->blk), NULL, start, bytes, &n, NULL, NULL, NULL);

    expect(w, "block status", g, ret);
    if (ret < 0) {
        return;
    }
    if (n < 0 || n > bytes || (n == 0 && start < w->r->smallest)) {
        round_fail(w->r,
                   "block status of %" G_GINT64_FORMAT "+%" G_GINT64_FORMAT
                   " tells of %" G_GINT64_FORMAT " bytes",
                   start, bytes, n);
    }
    z = inside(m, start, start + n);
    if ((ret & BLK_ZERO) && z.n && !model_may_be_zero(m, z, begin, &e)) {
        wrong(w, "block status (zero)", z, &e);
    }
}

static void coroutine_fn co_resize(Worker *w)
{
    Round *r = w->r;
    Model *m = &r->m;
    int64_t size = g_array_index(r->sizes, int64_t, rand_below(&w->rand, r->sizes->len));
    BlockPrealloc mode = rand_below(&w->rand, 4) ? BLK_PREALLOC_OFF
                                                 : 1 + rand_below(&w->rand, BLK_PREALLOC_FULL);
    uint32_t op = atomic_fetch_add(&r->next_op, 1);
    g_autoptr(GError) err = NULL;
    GrainRange g;
    int ret;

    g.first = model_grain_at(m, size);
    g.n = m->ngrains - g.first;
    model_write_begin(m, g, op, true); /* cut off, and zero when it grows again */
    ret = blk_co_truncate(r->blk, size, false, mode, 0, &err);
    model_write_end(m, g, op, ret < 0 ? nothing : g);
    /* (Only what grows is preallocated; others resize meanwhile.) */
    if (ret < 0 && !r->faults && !(mode != BLK_PREALLOC_OFF && ret == -EINVAL)) {
        round_fail(r, "resize to %" G_GINT64_FORMAT " fails: %s", size,
                   err ? err->message : g_strerror(-ret));
    }
}

static void coroutine_fn co_one(Worker *w)
{
    unsigned d = rand_below(&w->rand, 1000);

    if (d < 300) {
        co_read(w);
    } else if (d < 620) {
        co_write(w);
    } else if (d < 720) {
        co_zero(w);
    } else if (d < 820) {
        co_discard(w);
    } else if (d < 890) {
        co_write_compressed(w);
    } else if (d < 940) {
        co_status(w);
    } else if (d < 990 || !w->r->resizes) {
        co_flush(w);
    } else {
        co_resize(w);
    }
}

void coroutine_fn worker_co_run(void *opaque)
{
    Worker *w = opaque;
    Round *r = w->r;

    while (atomic_fetch_sub(&r->left, 1) > 0 && !atomic_load(&r->failed)) {
        co_one(w);
        atomic_fetch_add_explicit(&stress_requests, 1, memory_order_relaxed);
        if (rand_below(&w->rand, 8) == 0) {
            co_reschedule_self();
        }
    }
    g_free(w->buf);
    g_free(w);
    atomic_fetch_sub(&r->running, 1);
}
