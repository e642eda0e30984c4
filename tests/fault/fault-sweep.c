/* SPDX-License-Identifier: MIT */
/*
 * Fault sweep: each scenario with its nth file operation failing, for every n until a run meets no
 * fault; with EIO and ENOSPC (some of a failing write reaches the file), once and from there on.
 *
 * After a failure: it is reported with its errno; all that can be read is old or, where the failed
 * step was, old or new by sector; a small write elsewhere shows nothing but itself; the step
 * succeeds at once when the fault is gone, and the rest of the steps and a flush; what that flush
 * covers is there when the process dies then; the file has no errors and no leaks. Only a failed
 * sync makes the node refuse writes: then all that goes on when it is opened again, and the file
 * has nothing worse than leaks.
 */
#include "fault-sweep.h"

#include "tests/lib/fake-file.h"
#include "tests/lib/rand.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SECTOR 512

typedef struct Mode {
    const char *name;
    FakeFault fault;
} Mode;

static const Mode modes[] = {
    { "EIO", { .ops = FAKE_ALL, .error = EIO, .torn = true } },
    { "ENOSPC", { .ops = FAKE_SPACE, .error = ENOSPC, .torn = true } },
    { "EIO from there on", { .ops = FAKE_ALL, .error = EIO, .forever = true } },
    { "ENOSPC from there on",
      { .ops = FAKE_SPACE, .error = ENOSPC, .forever = true, .torn = true } },
};

static const ImageSpec specs[] = {
    { .cluster_size = 512, .refcount_bits = 16 },
    { .cluster_size = 512, .refcount_bits = 64, .backing = 20 },
    { .cluster_size = 4096, .refcount_bits = 16, .backing = 20, .lazy_refcounts = true },
    { .cluster_size = 16384, .refcount_bits = 16, .extended_l2 = true },
    { .cluster_size = 16384,
      .refcount_bits = 1,
      .extended_l2 = true,
      .backing = 20,
      .lazy_refcounts = true },
    { .cluster_size = 65536, .refcount_bits = 16, .zstd = true },
    { .cluster_size = 131072, .refcount_bits = 16, .extended_l2 = true },
    { .cluster_size = 4096, .refcount_bits = 16, .data_file = true },
    { .cluster_size = 16384,
      .refcount_bits = 16,
      .data_file = true,
      .data_raw = true,
      .extended_l2 = true },
    { .cluster_size = 4096, .refcount_bits = 16, .v2 = true },
};

typedef struct Model {
    uint8_t *mem, *disk; /* what reads; what stood there at the last flush that ended well */
    int64_t size, disk_size;
    uint8_t *must; /* for each byte: the bitmap "b" must tell of it */
    bool tracked;  /* that bitmap is there, and is enabled */
} Model;

typedef struct Run {
    const Scenario *sc;
    ImageSpec spec;
    const Mode *mode;
    int64_t n;
    BlockBackend *blk;
    int close_ret; /* of STEP_CLOSE */
    Model m;
    uint8_t *want, *got, *held; /* held: by the snapshot */
    unsigned fill;
    unsigned ops; /* FakeOp that failed */
    bool stays;   /* the node is not closed by a step */
    bool failed;  /* this run */
} Run;

static unsigned failures, runs, faults;
static int64_t capacity; /* of the buffers: the largest size of the disk in a scenario */
static bool verbose;

static void G_GNUC_PRINTF(2, 3) complain(Run *r, const char *fmt, ...)
{
    char spec[300];
    va_list ap;

    if (r->failed || failures > 20) {
        r->failed = true;
        return;
    }
    r->failed = true;
    failures++;
    image_describe(&r->spec, spec, sizeof(spec));
    printf("# %s, fault %" G_GINT64_FORMAT ", %s: ", r->sc->name, r->n, r->mode->name);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n#   %s\n", spec);
}

/* ---- Steps ---- */

static int64_t step_offset(const Run *r, const Step *s)
{
    return (int64_t)(s->at * r->spec.cluster_size) + s->at_bytes;
}

static int64_t step_bytes(const Run *r, const Step *s)
{
    return (int64_t)(s->clusters * r->spec.cluster_size) + s->bytes;
}

typedef struct CompressedArgs {
    BlockBackend *blk;
    int64_t offset, bytes;
    void *buf;
} CompressedArgs;

static int coroutine_fn compressed_fn(void *opaque)
{
    CompressedArgs *a = opaque;
    IOVector v;

    iov_init_buf(&v, a->buf, a->bytes);
    return blk_co_pwritev_compressed(a->blk, a->offset, &v);
}

static int open_image(Run *r)
{
    g_autoptr(GError) err = NULL;

    r->blk = image_open(&r->spec, BLK_O_RDWR | BLK_O_RESIZE | BLK_O_UNMAP, &err);
    if (!r->blk && !err) {
        complain(r, "open failed without a message");
    }
    return r->blk ? 0 : -EIO;
}

static int create_image(Run *r)
{
    g_autoptr(GError) err = NULL;
    int ret = image_create(&r->spec, &err);

    if (ret < 0 && !err) {
        complain(r, "create failed without a message");
    }
    return ret;
}

static int resize(Run *r, int64_t size, BlockPrealloc prealloc)
{
    g_autoptr(GError) err = NULL;
    int ret = blk_truncate(r->blk, size, false, prealloc, 0, &err);

    if (ret < 0 && !err) {
        complain(r, "resize failed without a message");
    }
    return ret;
}

static int amend(Run *r, const char *options)
{
    static const BlockAmend how;
    g_autoptr(GError) err = NULL;
    Options *o = opts_new();
    bool parsed = opts_parse(o, options, NULL, NULL);
    int ret;

    g_assert_true(parsed);
    ret = blk_amend(r->blk, o, &how, &err);
    if (ret < 0 && !err) {
        complain(r, "amend failed without a message");
    }
    return ret;
}

static bool is_of_snapshots(const Step *s)
{
    return s->kind == STEP_SNAPSHOT || s->kind == STEP_APPLY || s->kind == STEP_DELETE;
}

static int snapshot(Run *r, const Step *s)
{
    const BlockSnapshotInfo info = { .name = s->options };
    g_autoptr(GError) err = NULL;
    int ret = s->kind == STEP_SNAPSHOT ? blk_snapshot_create(r->blk, &info, &err)
              : s->kind == STEP_APPLY  ? blk_snapshot_apply(r->blk, s->options, &err)
                                       : blk_snapshot_delete(r->blk, NULL, s->options, &err);

    if (ret < 0 && !err) {
        complain(r, "a snapshot failed without a message");
    }
    /* Deleted, and what followed failed: then it is not there for the retry. */
    return s->kind == STEP_DELETE && ret == -ENOENT ? 0 : ret;
}

static int change_bitmap(Run *r, const Step *s)
{
    BlockBitmapData data = { NULL };
    const BlockBitmapChange c = { .action = (BlockBitmapAction)s->at,
                                  .name = s->options,
                                  .granularity = 512,
                                  .source = &data };
    g_autoptr(GError) err = NULL;
    int ret = c.action == BLK_BITMAP_MERGE ? blk_bitmap_read(r->blk, "a", &data, &err) : 0;

    ret = ret < 0 ? ret : blk_bitmap_change(r->blk, &c, &err);
    dirty_bits_unref(data.bits);
    if (ret < 0 && !err) {
        complain(r, "a change of a bitmap failed without a message");
    }
    if (ret < 0 && !strcmp(s->options, "b") && c.action != BLK_BITMAP_MERGE) {
        r->m.tracked = false; /* opened again it may have been done */
    }
    /* ... which the retry finds. */
    return r->ops & FAKE_FLUSH && ((c.action == BLK_BITMAP_ADD && ret == -EEXIST) ||
                                   (c.action == BLK_BITMAP_REMOVE && ret == -ENOENT))
               ? 0
               : ret;
}

static int compact(Run *r, unsigned flags)
{
    g_autoptr(GError) err = NULL;
    int ret = blk_compact(r->blk, flags, NULL, NULL, &err);

    if (ret < 0 && !err) {
        complain(r, "compact failed without a message");
    }
    return ret;
}

static void say_nothing(const char *line, void *opaque)
{
}

/* What could not be looked at, or mended, is told: as the error that was met. */
static int repair(Run *r)
{
    BlockCheckResult res = { 0 };
    g_autoptr(GError) err = NULL;
    BlockBackend *blk = image_open(&r->spec, BLK_O_RDWR | BLK_O_RESIZE | BLK_O_CHECK, &err);
    int ret = blk ? blk_check(blk, &res, BLK_FIX_LEAKS | BLK_FIX_ERRORS, say_nothing, NULL) : -EIO;
    int closed = blk ? blk_close(blk) : 0;

    ret = ret < 0 ? ret : closed;
    return ret < 0 || res.check_errors || res.corruptions || res.leaks ? -EIO : 0;
}

/* What @s puts into r->want over its range; its value is one of this run's, by step. */
static void make_want(Run *r, const Step *s, unsigned fill)
{
    int64_t offset = step_offset(r, s), bytes = step_bytes(r, s);

    if (s->kind == STEP_EMPTY) {
        for (int64_t i = 0; i < r->m.size; i++) {
            r->want[i] = i < r->spec.backing ? image_backing_fill(i) : 0;
        }
        return;
    }
    for (int64_t i = offset; i < offset + bytes; i++) {
        r->want[i] = s->kind == STEP_WRITE || s->kind == STEP_COMPRESSED
                         ? (uint8_t)(1 + (fill * 37 + (i / SECTOR) * 11) % 127)
                         : 0;
    }
}

static int run_step(Run *r, const Step *s, unsigned fill)
{
    int64_t offset = step_offset(r, s), bytes = step_bytes(r, s);
    CompressedArgs a = { r->blk, offset, bytes, r->want + offset };

    switch (s->kind) {
    case STEP_WRITE:
        make_want(r, s, fill);
        return blk_pwrite(r->blk, offset, bytes, r->want + offset, 0);
    case STEP_ZERO:
        make_want(r, s, fill);
        return blk_pwrite_zeroes(r->blk, offset, bytes, 0);
    case STEP_UNMAP:
        make_want(r, s, fill);
        return blk_pwrite_zeroes(r->blk, offset, bytes, BLK_REQ_MAY_UNMAP);
    case STEP_DISCARD:
        make_want(r, s, fill);
        return blk_pdiscard(r->blk, offset, bytes);
    case STEP_COMPRESSED:
        make_want(r, s, fill);
        return co_run_sync(compressed_fn, &a);
    case STEP_FLUSH:
        return blk_flush(r->blk);
    case STEP_RESIZE:
        return resize(r, bytes, (BlockPrealloc)s->at);
    case STEP_AMEND:
        return amend(r, s->options);
    case STEP_SNAPSHOT:
    case STEP_APPLY:
    case STEP_DELETE:
        return snapshot(r, s);
    case STEP_BITMAP:
        return change_bitmap(r, s);
    case STEP_COMPACT:
        return compact(r, (unsigned)s->at);
    case STEP_REPAIR:
        return repair(r);
    case STEP_EMPTY:
        make_want(r, s, fill);
        return blk_make_empty(r->blk);
    case STEP_READ:
        return blk_pread(r->blk, 0, r->m.size, r->got, 0);
    case STEP_OPEN:
        return open_image(r);
    case STEP_CLOSE:
        r->close_ret = blk_close(g_steal_pointer(&r->blk));
        return 0;
    case STEP_CREATE:
        return create_image(r);
    case STEP_END:
        break;
    }
    return 0;
}

/* ---- Model ---- */

/* r->got over [start, end) is, sector by sector, m->mem or @alt (NULL: none); becomes m->mem. */
static bool settle(Run *r, int64_t start, int64_t end, const uint8_t *alt, const char *when)
{
    for (int64_t at = start; at < end; at = ALIGN_DOWN(at, (int64_t)SECTOR) + SECTOR) {
        int64_t n = MIN(ALIGN_DOWN(at, (int64_t)SECTOR) + SECTOR, end) - at;

        if (memcmp(r->got + at, r->m.mem + at, n) && (!alt || memcmp(r->got + at, alt + at, n))) {
            complain(r, "%s: reads 0x%02x at %" G_GINT64_FORMAT ", expected 0x%02x%s", when,
                     r->got[at], at, r->m.mem[at], alt ? " or another" : "");
            return false;
        }
    }
    memcpy(r->m.mem + start, r->got + start, end - start);
    return true;
}

static bool read_all(Run *r, const char *when)
{
    int64_t size = blk_getlength(r->blk);
    int ret = blk_pread(r->blk, 0, size, r->got, 0);

    if (ret < 0) {
        complain(r, "%s: reading fails: %s", when, g_strerror(-ret));
        return false;
    }
    return true;
}

/* All that changed since it began to track. One that could not be tracked says that it is in use;
 * that is for an error to bring about. */
static void verify_bitmap(Run *r, const char *when)
{
    BlockBitmapData d = { NULL };
    g_autoptr(GError) err = NULL;
    int ret = r->m.tracked ? blk_bitmap_read(r->blk, "b", &d, &err) : -ENOENT;

    if (ret < 0 && r->m.tracked && !r->ops) {
        complain(r, "%s: the bitmap: %s", when, err->message);
    }
    for (int64_t i = 0; ret == 0 && i < r->m.size; i += SECTOR) {
        if (r->m.must[i] && !dirty_bits_test(d.bits, (uint64_t)(i / SECTOR))) {
            complain(r, "%s: the bitmap has no bit for sector %d", when, (int)(i / SECTOR));
            break;
        }
    }
    dirty_bits_unref(d.bits);
}

static void apply_bitmap(Run *r, const Step *s)
{
    if (!strcmp(s->options, "b") && s->at != BLK_BITMAP_MERGE) {
        memset(r->m.must, 0, capacity);
        r->m.tracked = s->at != BLK_BITMAP_REMOVE;
    }
}

/* The step ended well: that is what reads from now on. */
static void apply(Run *r, const Step *s)
{
    int64_t offset = step_offset(r, s), bytes = step_bytes(r, s);

    switch (s->kind) {
    case STEP_WRITE:
    case STEP_ZERO:
    case STEP_UNMAP:
    case STEP_COMPRESSED:
        memcpy(r->m.mem + offset, r->want + offset, bytes);
        memset(r->m.must + ALIGN_DOWN(offset, (int64_t)SECTOR), 1, bytes + offset % SECTOR);
        break;
    case STEP_DISCARD: /* a hint: zero or as before */
        fake_hold(true);
        if (read_all(r, "after a discard")) {
            settle(r, offset, offset + bytes, r->want, "after a discard");
        }
        fake_hold(false);
        break;
    case STEP_FLUSH:
        memcpy(r->m.disk, r->m.mem, capacity);
        r->m.disk_size = r->m.size;
        break;
    case STEP_RESIZE:
        memset(r->m.mem + bytes, 0, capacity - bytes);
        r->m.size = bytes;
        r->m.disk_size = bytes;
        memset(r->m.disk + bytes, 0, capacity - bytes);
        break;
    case STEP_CREATE:
        memset(r->m.mem, 0, capacity);
        for (int64_t i = 0; i < r->spec.backing; i++) {
            r->m.mem[i] = image_backing_fill(i);
        }
        memcpy(r->m.disk, r->m.mem, capacity);
        r->m.size = r->m.disk_size = (int64_t)r->spec.size;
        break;
    case STEP_READ:
        if (memcmp(r->got, r->m.mem, r->m.size)) {
            complain(r, "a read tells something else");
        }
        break;
    case STEP_BITMAP:
        apply_bitmap(r, s);
        break;
    case STEP_AMEND:
    case STEP_SNAPSHOT:
        memcpy(r->held, r->m.mem, capacity);
        break;
    case STEP_APPLY:
        memcpy(r->m.mem, r->held, capacity);
        memcpy(r->m.disk, r->held, capacity);
        break;
    case STEP_EMPTY: /* on the disk, too */
        memcpy(r->m.mem, r->want, r->m.size);
        memcpy(r->m.disk, r->m.mem, capacity);
        break;
    case STEP_DELETE:
    case STEP_COMPACT:
    case STEP_REPAIR:
    case STEP_OPEN:
    case STEP_CLOSE:
    case STEP_END:
        break;
    }
}

/* Steps from @i on until one fails; its index. */
static unsigned run_steps(Run *r, const Step *steps, unsigned i, int *ret)
{
    for (*ret = 0; steps[i].kind != STEP_END && !(r->stays && steps[i].kind == STEP_CLOSE); i++) {
        *ret = run_step(r, &steps[i], r->fill + i);
        if (*ret < 0) {
            break;
        }
        apply(r, &steps[i]);
    }
    return i;
}

static bool keeps_content(const Step *s)
{
    return s->kind == STEP_FLUSH || s->kind == STEP_READ || s->kind == STEP_OPEN ||
           s->kind == STEP_AMEND || s->kind == STEP_BITMAP || s->kind == STEP_COMPACT ||
           s->kind == STEP_REPAIR || is_of_snapshots(s);
}

/* Everything is as the model says, but for what the failed step @s (may be NULL) may have done. */
static void verify(Run *r, const Step *s, const char *when)
{
    int64_t offset = s ? step_offset(r, s) : 0, end = s ? offset + step_bytes(r, s) : 0;
    const uint8_t *alt = r->want;

    if (!r->blk || !read_all(r, when)) {
        return;
    }
    verify_bitmap(r, when);
    if (s && s->kind == STEP_RESIZE) {
        offset = MIN(step_bytes(r, s), r->m.size);
        end = blk_getlength(r->blk);
        if (end != r->m.size && end != step_bytes(r, s)) {
            complain(r, "%s: the size is neither old nor new", when);
        }
        r->m.size = end;
        memset(r->want + offset, 0, MAX(end - offset, 0));
    } else if (s && s->kind == STEP_APPLY) {
        offset = 0;
        end = r->m.size;
        alt = r->held;
    } else if (s && s->kind == STEP_EMPTY) {
        offset = 0;
        end = r->m.size;
    } else if (s && keeps_content(s)) {
        offset = end = 0;
    }
    if (blk_getlength(r->blk) != r->m.size) {
        complain(r, "%s: the size is wrong", when);
        return;
    }
    end = MAX(end, offset);
    if (settle(r, 0, offset, NULL, when) && settle(r, offset, end, alt, when)) {
        settle(r, end, r->m.size, NULL, when);
    }
}

/* ---- The image as a whole ---- */

static void report(const char *line, void *opaque)
{
    if (verbose) {
        printf("#   check: %s\n", line);
    }
}

static bool is_dirty(void)
{
    FakeContent c = fake_save(IMAGE_NAME);
    bool dirty = c.size >= 80 && c.data[7] >= 3 && (c.data[79] & 1);

    fake_content_clear(&c);
    return dirty;
}

/* Left dirty: its counts are wrong until the next writable open rebuilds them, and then must be
 * right. */
static void rebuild_if_dirty(Run *r, const char *when)
{
    g_autoptr(GError) err = NULL;
    BlockBackend *blk;

    if (!is_dirty()) {
        return;
    }
    fake_hold(true);
    blk = image_open(&r->spec, BLK_O_RDWR, &err);
    if (blk) {
        blk_close(blk);
    } else {
        complain(r, "%s: the rebuild fails: %s", when, err->message);
    }
    fake_hold(false);
}

static void check(Run *r, bool leaks_ok, const char *when)
{
    BlockCheckResult res;
    int ret;

    rebuild_if_dirty(r, when);
    ret = image_check(&r->spec, &res, report, NULL);

    if (ret < 0 || res.corruptions || res.check_errors || (res.leaks && !leaks_ok)) {
        complain(r, "%s: check says %d, %d errors, %d leaks, %d not checked", when, ret,
                 (int)res.corruptions, (int)res.leaks, (int)res.check_errors);
    }
}

/* A few bytes into a cluster that nobody touched; true if they were taken. (Of a disk that has
 * shrunk below it: what is in its first sector once more.) */
static bool probe(Run *r)
{
    Step s = { STEP_WRITE, PROBE_CLUSTER, 50, 0, 20 };
    int ret;

    if (step_offset(r, &s) >= blk_getlength(r->blk)) {
        return blk_pwrite(r->blk, 0, SECTOR, r->m.mem, 0) >= 0;
    }
    ret = run_step(r, &s, 99);

    if (ret < 0) {
        return false;
    }
    apply(r, &s);
    verify(r, NULL, "after a write elsewhere");
    return true;
}

/* Without a fault, and with nothing left that a fault spoilt. */
static void close_well(Run *r, const char *when)
{
    int ret = blk_close(g_steal_pointer(&r->blk));

    if (ret < 0) {
        complain(r, "%s: close fails: %s", when, g_strerror(-ret));
    }
}

/* The process dies after a flush: what it finds who opens the image then. The node is closed. */
static void dies(Run *r, const char *when)
{
    FakeContent files[3];

    for (unsigned k = 0; k < 3; k++) {
        files[k] = fake_save(image_files[k]);
    }
    close_well(r, when);
    check(r, false, when);
    for (unsigned k = 0; k < 3; k++) {
        if (files[k].size >= 0) {
            fake_restore(image_files[k], &files[k]);
        }
        fake_content_clear(&files[k]);
    }
    if (open_image(r) < 0) {
        complain(r, "%s, and then killed: does not open again", when);
        return;
    }
    verify(r, NULL, "flushed and killed after the failure");
}

/* The rest of the steps without a fault. True: all is flushed, the node is open. */
static bool finish(Run *r, unsigned i, const char *when)
{
    int ret;
    unsigned at = run_steps(r, r->sc->run, i, &ret);

    if (ret < 0) {
        complain(r, "%s: step %u fails without a fault: %s", when, at, g_strerror(-ret));
    }
    if (r->blk && ret == 0) {
        verify(r, NULL, when);
        ret = blk_flush(r->blk);
        if (ret < 0) {
            complain(r, "%s: flush fails without a fault: %s", when, g_strerror(-ret));
        }
    }
    return r->blk && ret == 0;
}

/* After a write of metadata failed: what is on disk is what was flushed, or newer. */
static void reopen(Run *r, const Step *s)
{
    uint8_t *mem = r->m.mem;
    int64_t size;

    if (open_image(r) < 0 || !read_all(r, "opened again")) {
        complain(r, "does not open again");
        return;
    }
    size = blk_getlength(r->blk);
    if (size != r->m.size && size != r->m.disk_size &&
        (s->kind != STEP_RESIZE || size != step_bytes(r, s))) {
        complain(r, "opened again: the size is neither old nor new");
    }
    r->m.size = size;
    r->m.mem = r->m.disk;
    r->m.disk = mem;
    settle(r, 0, size, mem, "opened again");
}

static void after_failure(Run *r, unsigned i, int ret)
{
    const Step *s = &r->sc->run[i];
    bool refused = false, synced = !(r->ops & FAKE_FLUSH);

    if (ret != -r->mode->fault.error && s->kind != STEP_OPEN && s->kind != STEP_CREATE &&
        s->kind != STEP_REPAIR) {
        complain(r, "step %u says %s", i, g_strerror(-ret));
    }
    if (r->blk) {
        verify(r, s, "after the failure");
        refused = !probe(r);
        if (!refused) {
            r->stays = true;
            if (finish(r, i, "tried again")) {
                dies(r, "flushed after the failure");
            }
            r->stays = false;
        } else {
            /* INV-REMAKE-4, INV-CMP-4 */
            if (synced && s->kind != STEP_AMEND && s->kind != STEP_COMPACT) {
                complain(r, "writes are refused, and no sync has failed");
            }
            verify(r, NULL, "while writes are refused");
        }
    } else {
        finish(r, i, "tried again");
    }
    if (r->blk && refused) {
        ret = blk_close(g_steal_pointer(&r->blk));
        if (ret == 0) {
            complain(r, "close does not say that writes were refused");
        }
    }
    close_well(r, "after the failure");
    check(r, refused, "closed after the failure");
    if (refused) {
        reopen(r, s);
        if (r->blk) {
            if (s->kind == STEP_RESIZE && r->m.size == step_bytes(r, s)) {
                i++; /* it is done */
            }
            finish(r, i, "opened and tried again");
            close_well(r, "in the end");
            check(r, true, "in the end");
        }
    }
}

/* ---- Sweeps ---- */

static void model_copy(Model *to, const Model *from)
{
    memcpy(to->mem, from->mem, capacity);
    memcpy(to->disk, from->disk, capacity);
    to->size = from->size;
    to->disk_size = from->disk_size;
    memcpy(to->must, from->must, capacity);
    to->tracked = from->tracked;
}

/* True if a fault was met. */
static bool one_run(Run *r)
{
    StepKind first = r->sc->run[0].kind;
    FakeFault f = r->mode->fault;
    unsigned i;
    bool met;
    int ret;

    r->failed = false;
    r->ops = 0;
    r->blk = NULL;
    r->close_ret = 0;
    if (first != STEP_OPEN && first != STEP_CREATE && first != STEP_REPAIR && open_image(r) < 0) {
        complain(r, "does not open");
        return false;
    }
    f.nth = r->n;
    fake_arm(&f);
    i = run_steps(r, r->sc->run, 0, &ret);
    met = fake_fault_met();
    r->ops = fake_fault_ops();
    fake_arm(NULL);
    runs++;
    faults += met;
    if (ret < 0) {
        if (!met) {
            complain(r, "step %u fails without a fault: %s", i, g_strerror(-ret));
        }
        after_failure(r, i, ret);
        return met;
    }
    if (r->blk) {
        verify(r, NULL, "all went well");
        if (blk_flush(r->blk) < 0) {
            complain(r, "flush fails in the end");
        }
        close_well(r, "all went well");
    }
    if (r->close_ret < 0 && !met) {
        complain(r, "close fails without a fault: %s", g_strerror(-r->close_ret));
    }
    if (r->close_ret == 0 && is_dirty()) {
        complain(r, "close leaves the image dirty, and does not say so");
    }
    /* A fault that no step told of: punching is best effort. What close could not do, it says. */
    check(r, r->close_ret < 0, "all went well");
    if (open_image(r) == 0) {
        verify(r, NULL, "opened again");
        close_well(r, "opened again");
    } else {
        complain(r, "does not open again");
    }
    return met;
}

static void prepare(Run *r, FakeContent files[3])
{
    static const Step create = { STEP_CREATE }, flush = { STEP_FLUSH };
    int ret = run_step(r, &create, 0);
    unsigned i;

    apply(r, &create);
    r->blk = NULL;
    if (ret == 0 && open_image(r) == 0) {
        i = run_steps(r, r->sc->prepare, 0, &ret);
        if (ret < 0) {
            complain(r, "step %u of the preparation fails: %s", i, g_strerror(-ret));
        }
        ret = blk_flush(r->blk);
        apply(r, &flush);
    }
    if (ret < 0 || !r->blk) {
        complain(r, "cannot be prepared");
    }
    if (!r->sc->crash) {
        blk_close(r->blk);
    }
    for (unsigned k = 0; k < 3; k++) {
        files[k] = fake_save(image_files[k]);
    }
    if (r->sc->crash) {
        blk_close(r->blk);
    }
    r->blk = NULL;
}

static bool fits(const Scenario *sc, const ImageSpec *spec)
{
    return (!sc->cluster_size || sc->cluster_size == spec->cluster_size) &&
           (!sc->refcount_bits || sc->refcount_bits == spec->refcount_bits) &&
           (!sc->prealloc || (!spec->data_file && (!spec->backing || spec->extended_l2))) &&
           (!sc->lazy || spec->lazy_refcounts) && (!sc->no_data_file || !spec->data_file) &&
           (!sc->bitmaps || !spec->v2) && (!sc->backed || spec->backing) &&
           (!sc->shared || (spec->refcount_bits > 1 && !spec->v2)) &&
           (!sc->plain || (!spec->data_file && !spec->extended_l2 && spec->refcount_bits == 16));
}

static void sweep(const Scenario *sc, const ImageSpec *spec)
{
    Run r = { .sc = sc, .spec = *spec, .mode = &modes[0], .fill = 1 };
    FakeContent files[3];
    bool met = true;
    Model start;

    r.spec.size = (sc->clusters ? sc->clusters : 40) * spec->cluster_size + SECTOR;
    r.spec.prealloc = sc->prealloc;
    r.spec.backing = spec->backing * spec->cluster_size +
                     (spec->backing && spec->cluster_size > 512 ? SECTOR : 0);
    g_strlcpy(r.spec.options, sc->options ? sc->options : "", sizeof(r.spec.options));
    capacity = MAX(60 * (int64_t)spec->cluster_size + 1024,
                   sc->clusters * 2 * (int64_t)spec->cluster_size + 40000);
    start = (Model){ g_malloc0(capacity), g_malloc0(capacity), .must = g_malloc0(capacity) };
    r.m = (Model){ g_malloc0(capacity), g_malloc0(capacity), .must = g_malloc0(capacity) };
    r.want = g_malloc0(capacity);
    r.held = g_malloc0(capacity);
    r.got = g_malloc0(capacity);
    prepare(&r, files);
    model_copy(&start, &r.m);
    for (unsigned k = 0; k < G_N_ELEMENTS(modes) && !r.failed; k++) {
        r.mode = &modes[k];
        met = true;
        for (r.n = 1; met && failures < 20; r.n++) {
            model_copy(&r.m, &start);
            for (unsigned f = 0; f < 3; f++) {
                if (files[f].size >= 0) {
                    fake_restore(image_files[f], &files[f]);
                }
            }
            met = one_run(&r);
        }
    }
    for (unsigned k = 0; k < 3; k++) {
        fake_content_clear(&files[k]);
    }
    fake_forget_all();
    g_free(start.mem);
    g_free(start.disk);
    g_free(start.must);
    g_free(r.m.must);
    g_free(r.m.mem);
    g_free(r.m.disk);
    g_free(r.want);
    g_free(r.held);
    g_free(r.got);
}

int main(int argc, char **argv)
{
    const char *only = NULL;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-v")) {
            verbose = true;
        } else {
            only = argv[i];
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    fake_init();
    for (unsigned k = 0; k < nscenarios; k++) {
        unsigned before = failures, runs_before = runs, faults_before = faults;
        int64_t start = aio_clock_ns();

        if (only && strcmp(only, scenarios[k].name)) {
            continue;
        }
        for (unsigned s = 0; s < G_N_ELEMENTS(specs); s++) {
            if (fits(&scenarios[k], &specs[s])) {
                sweep(&scenarios[k], &specs[s]);
            }
        }
        /* A scenario that made no run, as after too many failures, or met no fault shows
         * nothing. */
        printf("%sok %u - %s: %u runs, %u with a fault (%d ms)\n",
               failures > before || faults == faults_before ? "not " : "", k + 1, scenarios[k].name,
               runs - runs_before, faults - faults_before,
               (int)((aio_clock_ns() - start) / 1000000));
    }
    printf("1..%u\n", nscenarios);
    return failures || faults == 0 ? 1 : 0;
}
