/* SPDX-License-Identifier: MIT */
/*
 * The race catalogue: cases.c, each with standard and extended entries, with and without a backing
 * file, in one event loop and in two.  After each: the disk is what the case wants, again after
 * closing and opening, the check is clean without leaks, and the reference agrees.
 */
#include "race.h"

#include <string.h>

#define PATIENCE 30000 /* ms */

struct Req {
    Env *e;
    ReqKind kind;
    int64_t offset, bytes;
    uint8_t *buf;
    int ret;
    atomic_bool done;
};

/* ---- Requests ---- */

static int coroutine_fn req_co_do(Req *r)
{
    BlockBackend *blk = r->e->blk;
    IOVector v;

    switch (r->kind) {
    case REQ_READ:
        return blk_co_pread(blk, r->offset, r->bytes, r->buf, 0);
    case REQ_WRITE:
        return blk_co_pwrite(blk, r->offset, r->bytes, r->buf, 0);
    case REQ_ZERO:
        return blk_co_pwrite_zeroes(blk, r->offset, r->bytes, 0);
    case REQ_UNMAP:
        return blk_co_pwrite_zeroes(blk, r->offset, r->bytes, BLK_REQ_MAY_UNMAP);
    case REQ_DISCARD:
        return blk_co_pdiscard(blk, r->offset, r->bytes);
    case REQ_COMPRESSED:
        iov_init_buf(&v, r->buf, r->bytes);
        return blk_co_pwritev_compressed(blk, r->offset, &v);
    case REQ_FLUSH:
        return blk_co_flush(blk);
    case REQ_STATE:
        iov_init_buf(&v, r->buf, r->bytes);
        return blk_co_save_vmstate(blk, r->offset, &v);
    case REQ_RESIZE:
        return blk_co_truncate(blk, r->offset, true, (BlockPrealloc)r->bytes, 0, NULL);
    }
    return -1;
}

static void coroutine_fn req_entry(void *opaque)
{
    Req *r = opaque;

    r->ret = req_co_do(r);
    atomic_store(&r->done, true);
}

static void req_enter(void *opaque)
{
    coroutine_enter(coroutine_create(req_entry, opaque));
}

static Req *req_new(Env *e, ReqKind kind, int64_t offset, int64_t bytes, uint8_t fill)
{
    Req *r = g_new0(Req, 1);

    *r = (Req){
        .e = e, .kind = kind, .offset = offset, .bytes = bytes, .buf = g_malloc(MAX(bytes, 1))
    };
    memset(r->buf, fill, bytes);
    return r;
}

static AioContext *other_loop(Env *e)
{
    return e->thread ? io_thread_context(e->thread) : aio_current();
}

Req *start(Env *e, ReqKind kind, int64_t offset, int64_t bytes, uint8_t fill)
{
    Req *r = req_new(e, kind, offset, bytes, fill);

    aio_bh_schedule_oneshot(other_loop(e), req_enter, r);
    return r;
}

bool is_done(Req *r)
{
    return atomic_load(&r->done);
}

void let_run(Env *e)
{
    for (int i = 0; i < 20; i++) {
        aio_poll(aio_current(), false);
        if (e->thread) {
            g_usleep(100);
        }
    }
}

static void wait_ended(Env *e, Req *r)
{
    for (int i = 0; !is_done(r); i++) {
        g_assert_cmpint(i, <, PATIENCE * 10);
        if (!aio_poll(aio_current(), false)) {
            g_usleep(100);
        }
    }
}

void wait_done(Env *e, Req *r)
{
    wait_ended(e, r);
    g_assert_cmpint(r->ret, ==, 0);
}

int result(Env *e, Req *r)
{
    int ret;

    wait_ended(e, r);
    ret = r->ret;
    req_free(r);
    return ret;
}

const uint8_t *data_of(Req *r)
{
    return r->buf;
}

void req_free(Req *r)
{
    g_free(r->buf);
    g_free(r);
}

void finish(Env *e, Req *r)
{
    wait_done(e, r);
    req_free(r);
}

static int coroutine_fn now_fn(void *opaque)
{
    return req_co_do(opaque);
}

void now(Env *e, ReqKind kind, int64_t offset, int64_t bytes, uint8_t fill)
{
    Req *r = req_new(e, kind, offset, bytes, fill);

    g_assert_cmpint(co_run_sync(now_fn, r), ==, 0);
    req_free(r);
}

/* ---- Breakpoints ---- */

void stop_at(Env *e, const char *event)
{
    g_assert_cmpint(blk_debug_breakpoint(e->blk, event, "A"), ==, 0);
}

void wait_stopped(Env *e)
{
    for (int i = 0; !blk_debug_is_suspended(e->blk, "A"); i++) {
        g_assert_cmpint(i, <, PATIENCE * 10);
        if (!aio_poll(aio_current(), false)) {
            g_usleep(100);
        }
    }
    let_run(e);
}

void go_on(Env *e)
{
    g_assert_cmpint(blk_debug_resume(e->blk, "A"), ==, 0);
}

static void go_on_bh(void *opaque)
{
    go_on(opaque);
}

void go_on_later(Env *e)
{
    aio_bh_schedule_oneshot(aio_current(), go_on_bh, e);
}

/* ---- Content ---- */

void want(Env *e, int64_t offset, int64_t bytes, unsigned fill)
{
    for (int64_t i = offset; i < offset + bytes; i++) {
        e->want[i] = (uint16_t)fill;
    }
}

void want_backing(Env *e, int64_t offset, int64_t bytes)
{
    for (int64_t i = offset; i < offset + bytes; i++) {
        e->want[i] = i < e->spec.backing ? image_backing_fill(i) : 0;
    }
}

void expect(Env *e, int64_t offset, int64_t bytes, unsigned a, unsigned b)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    g_assert_cmpint(blk_pread(e->blk, offset, bytes, buf, 0), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        if (buf[i] != a) {
            g_assert_cmphex(buf[i], ==, b);
        }
    }
}

static void verify(Env *e)
{
    g_autofree uint8_t *buf = g_malloc(e->spec.size);

    g_assert_cmpint(blk_pread(e->blk, 0, e->spec.size, buf, 0), ==, 0);
    for (uint64_t i = 0; i < e->spec.size; i++) {
        if (e->want[i] == ANY) {
            e->want[i] = buf[i]; /* from now on exact */
        } else if (e->want[i] != buf[i]) {
            g_test_message("%s, at %" G_GUINT64_FORMAT, e->name, i);
            g_assert_cmphex(buf[i], ==, e->want[i]);
        }
    }
}

/* ---- Images ---- */

static BlockBackend *open_named(Env *e, const char *name, int flags)
{
    Options *o = opts_new();
    GError *err = NULL;
    BlockBackend *blk;

    opts_set(o, "driver", "qcow2");
    opts_set(o, "discard", "unmap");
    opts_set(o, "file.driver", "blkdebug");
    opts_set(o, "file.image.driver", "fake");
    opts_set(o, "file.image.filename", name);
    if (*e->spec.options) {
        g_assert_true(opts_parse(o, e->spec.options, NULL, NULL));
    }
    blk = blk_open(NULL, o, flags, &err);
    g_assert_no_error(err);
    return blk;
}

static void report(const char *line, void *opaque)
{
    g_test_message("check: %s", line);
}

static void check_named(Env *e, const char *name, bool leaks_ok)
{
    BlockBackend *blk = open_named(e, name, BLK_O_CHECK);
    BlockCheckResult res = { 0 };

    g_assert_cmpint(blk_check(blk, &res, 0, report, NULL), ==, 0);
    g_assert_cmpint(res.corruptions, ==, 0);
    g_assert_cmpint(res.check_errors, ==, 0);
    g_assert_true(leaks_ok || res.leaks == 0);
    blk_close(blk);
}

void check_copy(Env *e, bool writable)
{
    FakeContent c = fake_save(IMAGE_NAME);

    fake_restore("copy", &c);
    fake_content_clear(&c);
    if (writable) {
        blk_close(open_named(e, "copy", BLK_O_RDWR));
    }
    check_named(e, "copy", true);
}

void reopen(Env *e)
{
    if (e->blk) {
        blk_close(e->blk);
    }
    e->blk = open_named(e, IMAGE_NAME, BLK_O_RDWR | BLK_O_RESIZE);
}

static void ask_reference(Env *e)
{
    g_autofree uint8_t *content = g_malloc(e->spec.size);
    g_autofree char *bad = NULL;

    for (uint64_t i = 0; i < e->spec.size; i++) {
        content[i] = (uint8_t)e->want[i];
    }
    if (!image_has_reference()) {
        g_test_message("not seen by the reference, which is not installed");
    }
    bad = image_ask_reference(&e->spec, content, e->spec.size);
    g_assert_cmpstr(bad, ==, NULL);
}

static void set_up(Env *e, const RaceCase *k, bool extended, bool backing)
{
    GError *err = NULL;

    e->name = k->name;
    e->c = k->cluster_size ? k->cluster_size : 16 * KiB;
    e->spec = (ImageSpec){ .cluster_size = (unsigned)e->c,
                           .refcount_bits = k->refcount_bits ? k->refcount_bits : 16,
                           .extended_l2 = extended,
                           .lazy_refcounts = k->lazy,
                           .size = k->size ? k->size : 40 * (uint64_t)e->c };
    e->spec.backing = !backing ? 0 : k->short_backing ? 5 * e->c + 512 : (int64_t)e->spec.size;
    g_strlcpy(e->spec.options, k->options ? k->options : "", sizeof(e->spec.options));
    g_assert_cmpint(image_create(&e->spec, &err), ==, 0);
    reopen(e);
    e->want = g_new(uint16_t, e->spec.size);
    want_backing(e, 0, (int64_t)e->spec.size);
    /* Clusters 0 to 7 hold 0x11. */
    now(e, REQ_WRITE, 0, 8 * e->c, 0x11);
    now(e, REQ_FLUSH, 0, 0, 0);
    want(e, 0, 8 * e->c, 0x11);
}

static void run_case(const RaceCase *k, bool extended, bool backing, bool two_loops)
{
    Env e = { .two_loops = two_loops };

    e.thread = two_loops ? io_thread_new("race", NULL) : NULL;
    set_up(&e, k, extended, backing);
    k->run(&e);
    now(&e, REQ_FLUSH, 0, 0, 0);
    verify(&e);
    reopen(&e);
    verify(&e);
    g_clear_pointer(&e.blk, blk_close);
    check_named(&e, IMAGE_NAME, e.leaks_ok);
    if (!two_loops) {
        ask_reference(&e);
    }
    io_thread_free(e.thread);
    fake_forget_all();
    g_free(e.want);
}

static void test_case(gconstpointer data)
{
    const RaceCase *k = data;

    for (unsigned i = 0; i < 8; i++) {
        if (!k->no_extended || !(i & 1)) {
            run_case(k, i & 1, i & 2, i & 4);
        }
    }
}

static void add_cases(const RaceCase *cases, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *path = g_strdup_printf("/race/%s", cases[i].name);

        g_test_add_data_func(path, &cases[i], test_case);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    fake_init();
    add_cases(race_cases, nrace_cases);
    add_cases(free_cases, nfree_cases);
    add_cases(resize_cases, nresize_cases);
    return g_test_run();
}
