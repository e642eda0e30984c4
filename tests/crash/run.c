/* SPDX-License-Identifier: MIT */
/*
 * Runs a program on the driver.  Operations marked "with" begin another lane of requests that run
 * together; "then" continues a lane; all others wait until everything has ended.
 */
#include "run.h"

#include "bitmap.h"
#include "bitmaps.h"
#include "damage.h"
#include "snapshots.h"
#include "content.h"
#include "explorer.h"
#include "model.h"

#include "block/graph/graph.h"
#include "block/qcow2/remake.h"

#include <errno.h>

#define MAX_LANES 32

typedef struct Live {
    Run *r;
    BlockBackend *blk;
    unsigned busy;
} Live;

static void fail(Run *r, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
static void fail(Run *r, const char *fmt, ...)
{
    va_list ap;

    if (!r->error) {
        va_start(ap, fmt);
        r->error = g_strdup_vprintf(fmt, ap);
        va_end(ap);
    }
}

/* ---- The image ---- */

static void add_secret(Options *o)
{
    g_autoptr(Secrets) s = secrets_new();

    secrets_add(s, "s", "moss", 4, NULL);
    opts_set_secrets(o, s);
    opts_set(o, "encrypt.key-secret", "s");
}

BlockBackend *open_image(const Program *p, const char *driver, const char *image, const char *data,
                         int flags, GError **errp)
{
    Options *o = opts_new();
    const ImageConfig *c = &p->cfg;

    opts_set(o, "driver", "qcow2");
    opts_set(o, "file.driver", driver);
    opts_set(o, "file.name", image);
    if (c->data_file) {
        opts_set(o, "data-file.driver", driver);
        opts_set(o, "data-file.name", data);
    }
    if (c->encrypted) {
        add_secret(o);
    }
    if (c->no_unref) {
        opts_set(o, "discard-no-unref", "on");
    }
    if (c->punch_other) {
        opts_set(o, "pass-discard-other", "on");
    }
    if (c->l2_cache) {
        opts_set_int(o, "l2-cache-size", c->l2_cache);
        opts_set_int(o, "refcount-cache-size", c->l2_cache);
    }
    if (flags & BLK_O_RDWR) {
        flags |= BLK_O_RESIZE | (c->no_unmap ? 0 : BLK_O_UNMAP);
    }
    return blk_open(NULL, o, flags, errp);
}

static bool create_backing(const Program *p, GError **errp)
{
    uint64_t size = p->cfg.backing_size;
    g_autofree uint8_t *buf = g_malloc(MAX(size, 1));
    g_autoptr(BlockBackend) blk = NULL;
    Options *o;

    mem_clear(mem_named("backing"));
    for (uint64_t i = 0; i < size / SECTOR; i++) {
        content_fill(buf + i * SECTOR, content_word(0, i, false));
    }
    if (p->cfg.backing == 1) {
        mem_write(mem_named("backing"), 0, buf, size);
        return true;
    }
    o = opts_new();
    opts_set_int(o, "size", (int64_t)size);
    opts_set(o, "cluster_size", "4096");
    if (blk_create("crash-mem:backing", "qcow2", o, errp) < 0) {
        return false;
    }
    blk = blk_open("crash-mem:backing", NULL, BLK_O_RDWR, errp);
    return blk && blk_pwrite(blk, 0, (int64_t)size, buf, 0) == 0 && blk_flush(blk) == 0;
}

static void set_raw_bit(void)
{
    uint8_t bits = 2;

    mem_write(mem_named("img"), 95, &bits, 1);
}

/* A creation opens the data file by a plain name, which ours has not: so the raw bit (of the
 * autoclear bits) is set by hand while the disk is empty, then it grows, preallocated as a creation
 * would leave it. */
static bool make_raw(const Program *p, GError **errp)
{
    g_autoptr(BlockBackend) blk = NULL;

    set_raw_bit();
    blk = open_image(p, "crash-record", "img", "data", BLK_O_RDWR, errp);
    return blk &&
           blk_truncate(blk, (int64_t)p->cfg.size, true, BLK_PREALLOC_METADATA, 0, errp) == 0;
}

static bool create_image(const Program *p, GError **errp)
{
    const ImageConfig *c = &p->cfg;
    Options *o = opts_new();

    opts_set_int(o, "size", c->data_file == 2 ? 0 : (int64_t)c->size);
    opts_set_int(o, "cluster_size", 1 << c->cluster_bits);
    opts_set_int(o, "refcount_bits", c->refcount_bits);
    opts_set(o, "compat", c->version == 2 ? "0.10" : "1.1");
    opts_set_bool(o, "extended_l2", c->extended);
    opts_set_bool(o, "lazy_refcounts", c->lazy);
    if (c->zstd) {
        opts_set(o, "compression_type", "zstd");
    }
    if (c->encrypted) {
        opts_set(o, "encrypt.format", "aes");
        add_secret(o);
    }
    if (c->backing) {
        opts_set(o, "backing_file", "crash-mem:backing");
        opts_set(o, "backing_fmt", c->backing == 1 ? "raw" : "qcow2");
    }
    if (c->data_file) {
        opts_set(o, "data_file", "crash-record:data");
    }
    if (c->prealloc) {
        opts_set(o, "preallocation", blk_prealloc_names[c->prealloc]);
    }
    if (blk_create("crash-record:img", "qcow2", o, errp) < 0) {
        return false;
    }
    if (c->data_file == 3) {
        set_raw_bit();
    }
    return c->data_file != 2 || make_raw(p, errp);
}

static void live_open(Live *l)
{
    g_autoptr(GError) err = NULL;

    l->blk = open_image(l->r->p, "crash-record", "img", "data", BLK_O_RDWR, &err);
    if (!l->blk) {
        fail(l->r, "open: %s", err->message);
    }
}

static void live_close(Live *l, bool dead)
{
    crash_dead = dead;
    blk_close(l->blk);
    crash_dead = false;
    l->blk = NULL;
}

/* ---- Operations ---- */

/* Is a part of what @op changes past the end of a disk that is resized beside it? */
static bool is_cut(const Program *p, const Op *op)
{
    uint64_t least = UINT64_MAX;

    for (guint i = 0; i < p->ops->len; i++) {
        const Op *o = program_op(p, i);

        least = o->type == OP_RESIZE && o->with ? MIN(least, o->bytes) : least;
    }
    return op->offset + op->bytes > least;
}

/* Compressed data replaces no cluster that is written in place: as documented. @met: a write below
 * has failed since it began. On a device there may be no room. Past the end of a disk whose resize
 * failed: as it should be. */
static bool may_fail(const Live *l, const Op *op, int ret, bool met)
{
    bool full = l->r->p->cfg.device && op->type != OP_FLUSH;

    return (op->type == OP_COMPRESS && ret == -EIO) ||
           (op->type < OP_FLUSH && ret == -EIO && is_cut(l->r->p, op)) ||
           (op->type == OP_BITMAP && bitmaps_may_fail(ret)) ||
           (op->type == OP_DISCARD && ret == -ENOTSUP) ||
           (ret == -ENOENT && op->type != OP_FLUSH) || ((met || full) && ret == -ENOSPC) ||
           (crash_faults_met && op->type < OP_FLUSH &&
            op->offset + op->bytes > (uint64_t)blk_getlength(l->blk));
}

/* A sector an element, as many as there may be; the last takes the rest. */
static int scatter(IOVector *v, uint8_t *buf, uint64_t bytes)
{
    int ret = 0;

    iov_init(v);
    while (bytes && ret == 0) {
        uint64_t n = v->niov + 1 < IOV_MAX_ELEMS ? SECTOR : bytes;

        ret = iov_add(v, buf, n);
        buf += n;
        bytes -= n;
    }
    return ret;
}

static int coroutine_fn co_write(BlockBackend *blk, const Op *op)
{
    g_autofree uint8_t *buf = g_malloc(op->bytes);
    unsigned flags = op->type == OP_FUA ? BLK_REQ_FUA : 0;
    IOVector v;
    int ret;

    for (uint64_t i = 0; i < op->bytes / SECTOR; i++) {
        content_fill(buf + i * SECTOR, content_word(op->id, op->offset / SECTOR + i, op->noisy));
    }
    if (op->type != OP_COMPRESS && op->id % 2) {
        ret = scatter(&v, buf, op->bytes);
        ret = ret < 0 ? ret : blk_co_pwritev(blk, (int64_t)op->offset, &v, flags);
        iov_clear(&v);
        return ret;
    }
    if (op->type != OP_COMPRESS) {
        return blk_co_pwrite(blk, (int64_t)op->offset, (int64_t)op->bytes, buf, flags);
    }
    iov_init_buf(&v, buf, op->bytes);
    return blk_co_pwritev_compressed(blk, (int64_t)op->offset, &v);
}

/* (A disk that shrinks is not preallocated.) */
static BlockPrealloc resize_prealloc(BlockBackend *blk, const Op *op)
{
    bool grows = op->bytes >= (uint64_t)blk_getlength(blk);

    return op->noisy && grows ? BLK_PREALLOC_METADATA : BLK_PREALLOC_OFF;
}

static int coroutine_fn co_remake(BlockBackend *blk, uint64_t code)
{
    BlockDriverState *bs = blk_bs(blk);
    const RemakeTarget t = { .cluster_bits = code & 0xff,
                             .refcount_order = code >> 8 & 0xff,
                             .extended_l2 = code >> 16 & 1,
                             .compression_type = code >> 17 & 1,
                             .zero_flags =
                                 qcow2_remake_current(bs->opaque).zero_flags && !(code >> 18 & 1) };
    int ret = qcow2_remake_co_run(bs->opaque, &t, NULL, NULL, NULL);

    bdrv_refresh_limits(bs);
    return ret;
}

static int coroutine_fn co_amend(BlockBackend *blk, const Op *op)
{
    static const BlockAmend how;
    Options *o = opts_new();

    opts_parse(o, program_amend_options(op->offset), NULL, NULL);
    return blk_co_amend(blk, o, &how, NULL);
}

static int coroutine_fn co_repair(BlockBackend *blk)
{
    BlockCheckResult res = { 0 };
    int ret =
        bdrv_co_check((BlockDriverState *)blk_bs(blk), &res, BLK_FIX_LEAKS | BLK_FIX_ERRORS, NULL);

    return ret < 0 ? ret : res.corruptions || res.check_errors ? -EUCLEAN : 0;
}

/* Every third name without a format: so extensions come and go, too. */
static int coroutine_fn co_backing(Live *l, const Op *op)
{
    g_autofree char *name = program_backing_name(l->r->p, op->offset);
    const char *format = l->r->p->cfg.backing == 1 ? "raw" : "qcow2";

    return blk_co_change_backing_file(l->blk, name, op->offset % 3 == 2 ? NULL : format, NULL);
}

static int coroutine_fn co_op(Live *l, const Op *op)
{
    BlockBackend *blk = l->blk;

    switch (op->type) {
    case OP_WRITE:
    case OP_COMPRESS:
    case OP_FUA:
        return co_write(blk, op);
    case OP_ZERO:
    case OP_UNMAP:
        return blk_co_pwrite_zeroes(blk, (int64_t)op->offset, (int64_t)op->bytes,
                                    op->type == OP_UNMAP ? BLK_REQ_MAY_UNMAP : 0);
    case OP_DISCARD:
        return blk_co_pdiscard(blk, (int64_t)op->offset, (int64_t)op->bytes);
    case OP_FLUSH:
        return blk_co_flush(blk);
    case OP_COMPACT:
        return blk_co_compact(blk, (unsigned)op->offset, NULL, NULL, NULL);
    case OP_AMEND:
        return co_amend(blk, op);
    case OP_BACKING:
        return co_backing(l, op);
    case OP_FAULT:
        crash_fault = (unsigned)op->offset;
        return 0;
    case OP_DIE:
        crash_die = (unsigned)op->offset;
        return 0;
    case OP_RESIZE:
        return blk_co_truncate(blk, (int64_t)op->bytes, true, resize_prealloc(blk, op), 0, NULL);
    case OP_REMAKE:
        return co_remake(blk, op->offset);
    case OP_REPAIR:
        return co_repair(blk);
    case OP_SNAPSHOT:
    case OP_APPLY:
    case OP_DELETE:
        return snapshots_co_op(blk, op);
    case OP_BITMAP:
        return bitmaps_co_op(blk, op->offset);
    case OP_EMPTY:
        return blk_co_make_empty(blk);
    case OP_REOPEN:
    case OP_KILL:
    case OP_POWER:
    case OP_CREATE:
    case OP_CLOSE:
        break;
    }
    g_assert_not_reached();
}

/* Requests [first, first + n), one after the other. */
typedef struct Lane {
    Live *l;
    uint32_t first, n;
} Lane;

static uint32_t op_begin(uint32_t index)
{
    return crash_log ? log_add(crash_log, (Event){ .type = EV_OP, .ref = index }) : 0;
}

static void op_done(uint32_t index, uint32_t begin, int ret)
{
    if (crash_log) {
        log_add(crash_log,
                (Event){ .type = EV_OP_DONE, .ref = index, .done = begin, .result = ret });
    }
}

/* Is a kill what ends this opening of the image? */
static bool is_killed(const Program *p, uint32_t i)
{
    while (program_op(p, i)->type < OP_REOPEN) {
        i++;
    }
    return program_op(p, i)->type == OP_KILL;
}

static void coroutine_fn run_lane(void *opaque)
{
    Lane *a = opaque;

    for (uint32_t i = a->first; i < a->first + a->n; i++) {
        const Op *op = program_op(a->l->r->p, i);
        uint32_t begin = crash_dead ? 0 : op_begin(i);
        unsigned met = crash_faults_met;
        int ret = op->type == OP_DIE && !is_killed(a->l->r->p, i) ? 0 : co_op(a->l, op);

        if (crash_dead) { /* nobody hears of it */
            continue;
        }
        op_done(i, begin, ret);
        if (ret < 0 && !may_fail(a->l, op, ret, met != crash_faults_met)) {
            fail(a->l->r, "operation %u failed: %s", i, g_strerror(-ret));
        }
    }
    a->l->busy--;
}

/* What the running image shows in a range, a word a sector. */
static uint8_t *look(Live *l, uint64_t offset, uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(MAX(bytes, 1));
    uint8_t *words = g_malloc(MAX(bytes / SECTOR * 8, 1));

    if (bytes && blk_pread(l->blk, (int64_t)offset, (int64_t)bytes, buf, 0) < 0) {
        fail(l->r, "read of the running image failed");
    }
    for (uint64_t i = 0; i < bytes / SECTOR; i++) {
        uint64_t word;

        if (!content_read(buf + i * SECTOR, &word)) {
            fail(l->r, "sector %" G_GUINT64_FORMAT " of the running image is mixed",
                 offset / SECTOR + i);
        }
        memcpy(words + i * 8, &word, 8);
    }
    return words;
}

static void observe(Live *l, uint32_t index, uint64_t offset, uint64_t bytes)
{
    uint64_t size = (uint64_t)blk_getlength(l->blk);
    uint8_t *words;

    bytes = offset < size ? MIN(bytes, size - offset) : 0;
    words = look(l, offset, bytes);
    log_add(
        crash_log,
        (Event){
            .type = EV_OBSERVED, .ref = index, .offset = offset, .bytes = bytes, .data = words });
}

/* Power failed at some event since it failed last, which says what the log and the files are
 * now. */
static void lose_power(Live *l, uint32_t index)
{
    MemFile left[2] = { 0 };

    live_close(l, true);
    explorer_lose_power(l->r, mix64(crash_yield_seed + index), left);
    log_add(l->r->log,
            (Event){ .type = EV_POWER, .ref = index, .result = (int)l->r->after->len / 2 });
    g_array_append_vals(l->r->after, left, 2);
    mem_copy(mem_named("img"), &left[0]);
    mem_copy(mem_named("data"), &left[1]);
    live_open(l);
    if (l->blk) {
        observe(l, index, 0, (uint64_t)blk_getlength(l->blk));
    }
}

/* Operations that are not the guest's. */
static void special(Live *l, uint32_t index)
{
    const Op *op = program_op(l->r->p, index);
    uint32_t begin;

    crash_die = 0;
    crash_fault = 0; /* no close fails here: what it was to write would be lost by rights */
    if (op->type == OP_POWER) {
        lose_power(l, index);
        return;
    }
    begin = op_begin(index);
    if (op->type == OP_CREATE) {
        g_autoptr(GError) err = NULL;

        if (!create_image(l->r->p, &err)) {
            fail(l->r, "create: %s", err->message);
        }
    } else {
        live_close(l, op->type == OP_KILL);
    }
    if (!l->r->error && op->type != OP_CLOSE) {
        live_open(l);
    }
    op_done(index, begin, l->r->error ? -EIO : 0);
    if (op->type == OP_KILL && crash_log && l->blk) {
        observe(l, index, 0, (uint64_t)blk_getlength(l->blk));
    }
}

/* Not together with others. */
static bool is_alone(const Op *op)
{
    bool snapshot = op->type == OP_SNAPSHOT || op->type == OP_APPLY || op->type == OP_DELETE;
    bool beside = snapshot || (op->type == OP_RESIZE && op->with);

    return op->type >= OP_RESIZE && !beside;
}

/* The lane at @first. */
static uint32_t lane_length(const Program *p, uint32_t first, uint32_t end)
{
    uint32_t n = 1;

    while (first + n < end && program_op(p, first + n)->then &&
           !is_alone(program_op(p, first + n)) && !is_alone(program_op(p, first))) {
        n++;
    }
    return n;
}

/* Does operation @at run beside the batch that begins at @first? */
static bool is_with(const Program *p, uint32_t first, uint32_t at)
{
    const Op *op = program_op(p, at), *begin = program_op(p, first);

    return op->with && op->setup == begin->setup && !is_alone(op) && !is_alone(begin);
}

/* The operations from @first on that run together; the index past them. */
static uint32_t run_batch(Live *l, uint32_t first, uint32_t end)
{
    const Program *p = l->r->p;
    Lane lanes[MAX_LANES];
    uint32_t n = 0, at = first;

    if (program_op(p, first)->type >= OP_REOPEN) {
        special(l, first);
        return first + 1;
    }
    do {
        lanes[n] = (Lane){ .l = l, .first = at, .n = lane_length(p, at, end) };
        at += lanes[n].n;
        l->busy++;
        coroutine_enter(coroutine_create(run_lane, &lanes[n]));
        n++;
    } while (at < end && n < MAX_LANES && is_with(p, first, at));
    AIO_WAIT_WHILE(aio_current(), l->busy);
    if (at == first + 1 && crash_log && !crash_dead && !l->r->error &&
        (program_op(p, first)->type == OP_SNAPSHOT || program_op(p, first)->type == OP_BITMAP)) {
        observe(l, first, 0, (uint64_t)blk_getlength(l->blk));
    }
    if (at == first + 1 && program_op(p, first)->type == OP_DISCARD && crash_log && !crash_dead &&
        !l->r->error) {
        observe(l, first, program_op(p, first)->offset, program_op(p, first)->bytes);
    }
    return at;
}

/* ---- The end ---- */

static void check_live(Live *l, const uint8_t *words, uint64_t size)
{
    Model *m = model_new(l->r->p, true);

    for (uint32_t i = 1; i < l->r->log->events->len; i++) {
        model_event(m, l->r->log, i);
    }
    if (!model_allows_size(m, size)) {
        fail(l->r, "the running image has the wrong size");
    }
    for (uint64_t s = 0; s < size / SECTOR && !l->r->error; s++) {
        uint64_t word;

        memcpy(&word, words + s * 8, 8);
        if (!model_allows(m, s, word)) {
            g_autofree char *want = model_sector_text(m, s);

            fail(l->r,
                 "the running image shows %016" G_GINT64_MODIFIER "x in sector %" G_GUINT64_FORMAT
                 ", allowed is %s",
                 word, s, want);
        }
    }
    model_free(m);
}

/* Defects, and how many of them a check counts. */
static void damage(Run *r)
{
    BlockCheckResult res = { 0 };
    BlockBackend *blk;

    damage_make(mem_named("img"), r->p->cfg.damage);
    blk = open_image(r->p, "crash-mem", "img", "data", 0, NULL);
    if (!blk || blk_check(blk, &res, 0, NULL, NULL) < 0) {
        fail(r, "the damaged image cannot be checked");
    }
    r->corruptions = res.corruptions;
    if (blk) {
        blk_close(blk);
    }
}

static void start_log(Run *r)
{
    mem_copy(&r->start[0], mem_named("img"));
    mem_copy(&r->start[1], mem_named("data"));
    crash_log = r->log;
    log_add(r->log, (Event){ .type = EV_OBSERVED }); /* so that no index is 0 */
}

/* Does what a snapshot has not stay where it is? */
static bool moves_clusters(const Program *p)
{
    for (guint i = 0; i < p->ops->len; i++) {
        if (program_op(p, i)->type == OP_COMPACT) {
            return true;
        }
    }
    return false;
}

static void run_all(Live *l)
{
    const Program *p = l->r->p;
    uint32_t i = 0, end = p->ops->len - 1; /* the close */
    bool bitmap, create = end && program_op(p, 0)->type == OP_CREATE;
    g_autofree uint8_t *words = NULL;

    if (!create) {
        g_autoptr(GError) err = NULL;

        if (!create_image(p, &err)) {
            fail(l->r, "create: %s", err->message);
            return;
        }
        live_open(l);
        while (i < end && program_op(p, i)->setup && !l->r->error) {
            i = run_batch(l, i, end);
        }
        if (l->blk &&
            (i || p->cfg.snapshot || p->cfg.bitmap)) { /* recording begins with an image at rest */
            live_close(l, false);
            if (p->cfg.snapshot && shared_make_snapshot(mem_named("img")) && !moves_clusters(p)) {
                l->r->shared = shared_new(mem_named("img"));
            }
            if (p->cfg.damage) {
                damage(l->r);
            }
            bitmap = p->cfg.bitmap && bitmap_make(mem_named("img"));
            live_open(l);
            if (l->blk && bitmap) {
                l->r->rest = (uint64_t *)look(l, 0, (uint64_t)blk_getlength(l->blk));
            }
        }
    }
    start_log(l->r);
    while (i < end && !l->r->error) {
        i = run_batch(l, i, end);
    }
    if (l->blk) {
        uint64_t size = (uint64_t)blk_getlength(l->blk);

        words = look(l, 0, size);
        if (!l->r->error) {
            check_live(l, words, size);
        }
        special(l, end);
    }
}

Run *run_program(const Program *p)
{
    Run *r = g_new0(Run, 1);
    Live l = { .r = r };
    g_autoptr(GError) err = NULL;

    r->p = p;
    r->log = log_new();
    r->after = g_array_new(FALSE, FALSE, sizeof(MemFile));
    crash_log = NULL;
    crash_yield_seed = mix64(p->seed);
    crash_die = crash_fault = crash_faults_met = 0;
    mem_clear(mem_named("img"));
    mem_clear(mem_named("data"));
    if (p->cfg.device) {
        mem_make_device(mem_named("img"), p->cfg.device);
    }
    if (p->cfg.backing && !create_backing(p, &err)) {
        fail(r, "backing file: %s", err ? err->message : "write failed");
        return r;
    }
    run_all(&l);
    crash_log = NULL;
    return r;
}

void run_free(Run *r)
{
    if (r) {
        mem_clear(&r->start[0]);
        mem_clear(&r->start[1]);
        for (guint i = 0; i < r->after->len; i++) {
            mem_clear(&g_array_index(r->after, MemFile, i));
        }
        g_array_unref(r->after);
        shared_free(r->shared);
        g_free(r->rest);
        log_free(r->log);
        g_free(r->error);
        g_free(r);
    }
}
