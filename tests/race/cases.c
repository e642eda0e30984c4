/* SPDX-License-Identifier: MIT */
/* The catalogue. Clusters 0 to 7 hold 0x11 to begin with, on disk; the others nothing. */
/* Shows INV-RB-1, INV-TR-1, INV-WR-1, INV-WR-2, INV-WR-3. */
#include "race.h"

#include "block/qcow2/compress.h"
#include "block/qcow2/map.h"

#include <glib/gstdio.h>

/* ---- What is freed is not reused or punched under a request that found it before ---- */

static void overwrite_against(Env *e, const char *event, ReqKind free_kind)
{
    Req *w;

    stop_at(e, event);
    w = start(e, REQ_WRITE, 2 * e->c, e->c, 0x22);
    wait_stopped(e);
    if (g_str_equal(
            event,
            "pwritev")) { /* told of by the image, before anything is looked up; then by its file */
        stop_at(e, event);
        go_on(e);
        wait_stopped(e);
    }
    now(e, free_kind, 2 * e->c, e->c, 0);
    now(e, REQ_FLUSH, 0, 0, 0);
    now(e, REQ_WRITE, 20 * e->c, 2 * e->c, 0x33); /* must not get the cluster */
    now(e, REQ_FLUSH, 0, 0, 0);
    go_on(e);
    finish(e, w);
    expect(e, 2 * e->c, e->c, 0x22, 0);
    want(e, 2 * e->c, e->c, ANY);
    want(e, 20 * e->c, 2 * e->c, 0x33);
}

static void overwrite_discard(Env *e)
{
    overwrite_against(e, "write_aio", REQ_DISCARD);
}

static void overwrite_zero(Env *e)
{
    overwrite_against(e, "write_aio", REQ_UNMAP);
}

static void overwrite_discard_in_file(Env *e)
{
    overwrite_against(e, "pwritev", REQ_DISCARD);
}

static void read_against(Env *e, ReqKind free_kind)
{
    Req *r;

    stop_at(e, "read_aio");
    r = start(e, REQ_READ, 2 * e->c, e->c, 0);
    wait_stopped(e);
    now(e, free_kind, 2 * e->c, e->c, 0);
    now(e, REQ_FLUSH, 0, 0, 0); /* a punch now would leave 0xdd */
    now(e, REQ_WRITE, 20 * e->c, 2 * e->c, 0x33);
    now(e, REQ_FLUSH, 0, 0, 0);
    go_on(e);
    wait_done(e, r);
    for (int64_t i = 0; i < e->c; i++) {
        g_assert_true(data_of(r)[i] == 0x11 || data_of(r)[i] == 0);
    }
    req_free(r);
    want(e, 2 * e->c, e->c, 0);
    want(e, 20 * e->c, 2 * e->c, 0x33);
}

static void read_discard(Env *e)
{
    read_against(e, REQ_DISCARD);
}

static void read_zero(Env *e)
{
    read_against(e, REQ_UNMAP);
}

/* The cluster is free once the read has ended; its punch comes before its next owner. */
static void stale_punch(Env *e)
{
    Req *r;

    stop_at(e, "read_aio");
    r = start(e, REQ_READ, 3 * e->c, e->c, 0);
    wait_stopped(e);
    now(e, REQ_DISCARD, 2 * e->c, 3 * e->c, 0);
    now(e, REQ_FLUSH, 0, 0, 0);
    go_on(e);
    wait_done(e, r);
    for (int64_t i = 0; i < e->c; i++) {
        g_assert_cmphex(data_of(r)[i], ==, 0x11); /* it had found the cluster */
    }
    req_free(r);
    for (int i = 0; i < 6; i++) {
        Req *f = start(e, REQ_FLUSH, 0, 0, 0); /* frees, beside who takes */

        now(e, REQ_WRITE, (20 + i) * e->c, e->c, 0x40 + (uint8_t)i);
        finish(e, f);
        want(e, (20 + i) * e->c, e->c, 0x40 + (unsigned)i);
    }
    want(e, 2 * e->c, 3 * e->c, 0);
}

/* ---- Allocating writes ---- */

static void allocate_against(Env *e, const char *event, ReqKind kind)
{
    Req *w, *z;

    stop_at(e, event);
    w = start(e, REQ_WRITE, 10 * e->c + 100, 200, 0x22);
    wait_stopped(e);
    z = start(e, kind, 10 * e->c, e->c, 0);
    let_run(e);
    g_assert_false(is_done(z)); /* it waits: the entry is about to change */
    now(e, REQ_WRITE, 20 * e->c, e->c, 0x33);
    now(e, REQ_FLUSH, 0, 0, 0);
    go_on(e);
    finish(e, w);
    finish(e, z);
    want(e, 10 * e->c, e->c, 0);
    want(e, 20 * e->c, e->c, 0x33);
}

static void allocate_zero(Env *e)
{
    allocate_against(e, "write_aio", REQ_ZERO);
}

static void allocate_unmap(Env *e)
{
    allocate_against(e, "write_aio", REQ_UNMAP);
}

static void allocate_discard(Env *e)
{
    allocate_against(e, "write_aio", REQ_DISCARD);
}

/* Two that need the same cluster, the second one also the next. */
static void allocate_allocate(Env *e)
{
    Req *a, *b;

    stop_at(e, "write_aio");
    a = start(e, REQ_WRITE, 10 * e->c + 100, 200, 0x22);
    wait_stopped(e);
    b = start(e, REQ_WRITE, 10 * e->c + 200, e->c, 0x33);
    let_run(e);
    g_assert_false(is_done(b));
    go_on(e);
    finish(e, a);
    finish(e, b);
    want(e, 10 * e->c + 100, 100, 0x22);
    want(e, 10 * e->c + 200, e->c, 0x33); /* it came when the first was in its place */
}

/* What the first one reads to fill in must not be what the second one replaces. */
static void cow_short_backing(Env *e)
{
    Req *a, *b;

    now(e, REQ_UNMAP, 0, 8 * e->c, 0);
    now(e, REQ_FLUSH, 0, 0, 0);
    want(e, 0, 8 * e->c, 0);
    stop_at(e, "write_aio");
    a = start(e, REQ_WRITE, 9 * e->c + 700, 100, 0x22);
    wait_stopped(e);
    b = start(e, REQ_WRITE, 9 * e->c - 300, 400, 0x33);
    let_run(e);
    go_on(e);
    finish(e, a);
    finish(e, b);
    want(e, 9 * e->c + 700, 100, 0x22);
    want(e, 9 * e->c - 300, 400, 0x33);
}

/* A cluster at whose middle the backing file ends. */
static void backing_end(Env *e)
{
    int64_t at = 5 * e->c; /* the file ends 512 bytes behind */
    Req *a, *b;

    g_clear_pointer(&e->blk, blk_close);
    fake_forget_all();
    g_assert_cmpint(image_create(&e->spec, NULL), ==, 0);
    reopen(e);
    want_backing(e, 0, (int64_t)e->spec.size);
    stop_at(e, "write_aio");
    a = start(e, REQ_WRITE, at + 100, 50, 0x22);
    wait_stopped(e);
    b = start(e, REQ_WRITE, at + 1000, 50, 0x33);
    let_run(e);
    expect(e, at + 512, 488, 0, 0);
    go_on(e);
    finish(e, a);
    finish(e, b);
    want(e, at + 100, 50, 0x22);
    want(e, at + 1000, 50, 0x33);
}

/* ---- Flush ---- */

/* Copy-on-write, allocation, and flushes that overtake each other; the file at a stop is an image
 * without errors. */
static void flush_storm(Env *e)
{
    Req *f, *w[8];

    for (int round = 0; round < 3; round++) {
        now(e, REQ_WRITE, (10 + round) * e->c + 10, 20, 0x50);
        want(e, (10 + round) * e->c + 10, 20, 0x50);
        stop_at(e, "refblock_update_part");
        f = start(e, REQ_FLUSH, 0, 0, 0);
        wait_stopped(e);
        check_copy(e, false);
        for (int i = 0; i < 8; i++) {
            int64_t at = (14 + round * 8 + i) * e->c + 100;

            w[i] = start(e, i % 3 == 2 ? REQ_FLUSH : REQ_WRITE, at, i % 3 == 2 ? 0 : 300, 0x60);
            if (i % 3 != 2) {
                want(e, at, 300, 0x60);
            }
        }
        let_run(e);
        check_copy(e, false);
        go_on(e);
        finish(e, f);
        for (int i = 0; i < 8; i++) {
            finish(e, w[i]);
        }
        check_copy(e, true);
    }
}

/* The first write of an L2 table: at each step of the flush that brings it, what is on disk is
 * whole. */
static void new_table(Env *e)
{
    static const char *const events[] = { "refblock_update_part", "flush_to_disk" };
    int64_t at = (int64_t)e->spec.size - 2 * e->c;

    for (unsigned i = 0; i < G_N_ELEMENTS(events); i++) {
        Req *f;

        now(e, REQ_WRITE, at + i * e->c, e->c, 0x22);
        want(e, at + i * e->c, e->c, 0x22);
        stop_at(e, events[i]);
        f = start(e, REQ_FLUSH, 0, 0, 0);
        wait_stopped(e);
        check_copy(e, true);
        go_on(e);
        finish(e, f);
        check_copy(e, true);
    }
}

/* The refcount table moves, and grows again before the header says so, or just before it does. */
static void reftable_growth(Env *e, const char *event)
{
    int64_t at = 10 * e->c, n = 4200 * e->c;
    Req *f, *g, *w;

    /* 64 entries a block, 64 blocks a cluster of table: 2 MiB more each time pass its end. */
    stop_at(e, event);
    g = start(e, REQ_WRITE, at, n, 0x21);
    f = start(e, REQ_FLUSH, 0, 0, 0);
    wait_stopped(e);
    want(e, at, n, 0x21);
    g_assert_cmpint(blk_debug_breakpoint(e->blk, "reftable_grow", "again"), ==, 0);
    w = start(e, REQ_WRITE, at + n, n, 0x31);
    for (int i = 0; i < 10000 && !blk_debug_is_suspended(e->blk, "again"); i++) {
        let_run(e);
        g_usleep(1000);
    }
    g_assert_true(blk_debug_is_suspended(e->blk, "again"));
    check_copy(e, true);
    g_assert_cmpint(blk_debug_resume(e->blk, "again"), ==, 0);
    let_run(e);
    check_copy(e, true);
    go_on(e);
    finish(e, g);
    finish(e, f);
    finish(e, w);
    want(e, at + n, n, 0x31);
    check_copy(e, true);
}

static void reftable_growth_write(Env *e)
{
    reftable_growth(e, "refblock_alloc_write_table");
}

static void reftable_growth_switch(Env *e)
{
    reftable_growth(e, "refblock_alloc_switch_table");
}

#define STATE_FAR (64 * (int64_t)MiB) /* of another L2 table */

static void expect_zero(Env *e, int64_t from, int64_t to)
{
    for (int64_t at = from; at < to; at += MiB) {
        expect(e, at, MIN(MiB, to - at), 0, 0);
    }
}

static int coroutine_fn load_fn(void *opaque)
{
    Env *e = opaque;
    g_autofree uint8_t *buf = g_malloc((gsize)e->c);

    for (unsigned i = 0; i < 2; i++) {
        IOVector v;
        int ret;

        iov_init_buf(&v, buf, (size_t)e->c);
        ret = blk_co_load_vmstate(e->blk, i * STATE_FAR, &v);
        if (ret < 0) {
            return ret;
        }
        for (int64_t k = 0; k < e->c; k++) {
            g_assert_cmphex(buf[k], ==, 0x41 + i);
        }
    }
    return 0;
}

/* Two requests, each of which wants a larger L1 table: the second begins when the first has ended.
 */
static void one_then_other(Env *e, ReqKind first, int64_t off1, ReqKind second, int64_t off2)
{
    Req *a, *b;

    stop_at(e, "l1_grow_write_table");
    a = start(e, first, off1, e->c, 0x41);
    wait_stopped(e);
    g_assert_cmpint(blk_debug_breakpoint(e->blk, "l1_grow_alloc_table", "second"), ==, 0);
    b = start(e, second, off2, e->c, 0x42);
    for (int i = 0; i < 50; i++) {
        let_run(e);
        g_usleep(200);
        g_assert_false(blk_debug_is_suspended(e->blk, "second"));
    }
    g_assert_false(is_done(b));
    go_on(e);
    finish(e, a);
    for (int i = 0; i < 10000 && !blk_debug_is_suspended(e->blk, "second"); i++) {
        let_run(e);
        g_usleep(1000);
    }
    g_assert_cmpint(blk_debug_resume(e->blk, "second"), ==, 0);
    finish(e, b);
}

/* Two saves of a machine's state. */
static void two_states(Env *e)
{
    one_then_other(e, REQ_STATE, 0, REQ_STATE, STATE_FAR);
    g_assert_cmpint(co_run_sync(load_fn, e), ==, 0);
    reopen(e);
    g_assert_cmpint(co_run_sync(load_fn, e), ==, 0);
}

/* The disk grows over the state while that is saved: none of it shows. */
static void state_resize(Env *e)
{
    one_then_other(e, REQ_STATE, 0, REQ_RESIZE, 2 * STATE_FAR);
    expect_zero(e, (int64_t)e->spec.size, 2 * STATE_FAR);
    now(e, REQ_RESIZE, (int64_t)e->spec.size, 0, 0);
}

/* And the other way round: the state lies behind the disk as it has become. */
static void resize_state(Env *e)
{
    one_then_other(e, REQ_RESIZE, 2 * STATE_FAR, REQ_STATE, STATE_FAR);
    expect_zero(e, (int64_t)e->spec.size, 2 * STATE_FAR);
    now(e, REQ_RESIZE, (int64_t)e->spec.size, 0, 0);
}

/* Power is lost with requests in flight; the next writer counts anew. */
static void dirty_rebuild(Env *e)
{
    Req *w;

    now(e, REQ_WRITE, 20 * e->c, 3 * e->c, 0x22);
    now(e, REQ_FLUSH, 0, 0, 0);
    stop_at(e, "write_aio");
    w = start(e, REQ_WRITE, 30 * e->c + 5, 10, 0x33);
    wait_stopped(e);
    check_copy(e, true);
    go_on(e);
    finish(e, w);
    check_copy(e, true);
    want(e, 20 * e->c, 3 * e->c, 0x22);
    want(e, 30 * e->c + 5, 10, 0x33);
}

/* Those who wait for a new cluster go on together once it is there: one that is stopped then holds
 * up nobody. */
static void waiters_go_together(Env *e)
{
    int64_t at = 20 * e->c, half = e->c / 2;
    Req *first, *w[2];

    stop_at(e, "write_aio");
    first = start(e, REQ_WRITE, at, 512, 0x21);
    wait_stopped(e);
    for (unsigned i = 0; i < 2; i++) {
        w[i] = start(e, REQ_WRITE, at + half + i * half / 2, 512, (uint8_t)(0x22 + i));
        let_run(e);
        g_assert_false(is_done(w[i]));
        want(e, at + half + i * half / 2, 512, 0x22 + i);
    }
    want(e, at, 512, 0x21);
    g_assert_cmpint(blk_debug_breakpoint(e->blk, "write_aio", "B"), ==, 0);
    go_on(e);
    finish(e, first);
    for (int i = 0; i < 1000 && !is_done(w[0]) && !is_done(w[1]); i++) {
        let_run(e);
        g_usleep(1000);
    }
    g_assert_true(blk_debug_is_suspended(e->blk, "B")); /* one of them, while the other ended */
    g_assert_true(is_done(w[0]) != is_done(w[1]));
    g_assert_cmpint(blk_debug_resume(e->blk, "B"), ==, 0);
    finish(e, w[0]);
    finish(e, w[1]);
}

/* A part of a cluster is filled in in place while all of it is let go of. */
static void fill_in_discard(Env *e)
{
    Req *w, *d;

    now(e, REQ_WRITE, 20 * e->c, 512, 0x21);
    stop_at(e, "write_aio");
    w = start(e, REQ_WRITE, 20 * e->c + e->c / 2, 512, 0x22);
    wait_stopped(e);
    d = start(e, REQ_DISCARD, 20 * e->c, e->c, 0);
    for (int i = 0; i < 1000 && (i == 0 || !e->spec.extended_l2) && !is_done(d); i++) {
        let_run(e);
    }
    g_assert_true(is_done(d) ==
                  !e->spec.extended_l2); /* (standard: an overwrite, that is pinned) */
    go_on(e);
    finish(e, w);
    finish(e, d);
    now(e, REQ_FLUSH, 0, 0, 0);
    now(e, REQ_WRITE, 24 * e->c, 2 * e->c, 0x33);
    want(e, 20 * e->c, e->c, e->spec.extended_l2 ? 0 : ANY);
    want(e, 24 * e->c, 2 * e->c, 0x33);
}

/* ---- Discard ---- */

static void discard_over_backing(Env *e)
{
    now(e, REQ_DISCARD, 2 * e->c, 3 * e->c, 0);
    now(e, REQ_DISCARD, 10 * e->c, 3 * e->c, 0); /* nothing of ours is there */
    now(e, REQ_FLUSH, 0, 0, 0);
    reopen(e);
    want(e, 2 * e->c, 3 * e->c, 0);
    want(e, 10 * e->c, 3 * e->c, 0);
}

/* ---- Compressed clusters ---- */

static void compressed_shared(Env *e)
{
    for (int i = 0; i < 5; i++) {
        now(e, REQ_COMPRESSED, (12 + i) * e->c, e->c,
            0x70 + (uint8_t)i); /* behind each other in one host cluster */
        want(e, (12 + i) * e->c, e->c, 0x70 + (unsigned)i);
    }
    now(e, REQ_FLUSH, 0, 0, 0);
    now(e, REQ_DISCARD, 13 * e->c, e->c, 0);
    now(e, REQ_FLUSH, 0, 0, 0);
    now(e, REQ_COMPRESSED, 20 * e->c, e->c, 0x22);
    now(e, REQ_FLUSH, 0, 0, 0);
    want(e, 13 * e->c, e->c, 0);
    want(e, 20 * e->c, e->c, 0x22);
}

/* A read that unpacks, against writes over it and reuse of its place. */
static void compressed_rewrite(Env *e)
{
    Req *r;

    for (int i = 0; i < 3; i++) {
        now(e, REQ_COMPRESSED, (12 + i) * e->c, e->c, 0x70);
    }
    now(e, REQ_FLUSH, 0, 0, 0);
    stop_at(e, "read_compressed");
    r = start(e, REQ_READ, 13 * e->c, 100, 0);
    wait_stopped(e);
    now(e, REQ_COMPRESSED, 12 * e->c, 3 * e->c, 0x22); /* behind the old ones in their cluster */
    now(e, REQ_WRITE, 13 * e->c + 300, 100, 0x33);
    now(e, REQ_WRITE, 12 * e->c, e->c, 0x22);
    now(e, REQ_WRITE, 14 * e->c, e->c, 0x22); /* the last user of it */
    now(e, REQ_FLUSH, 0, 0, 0);
    now(e, REQ_WRITE, 20 * e->c, 8 * e->c, 0x44);
    now(e, REQ_FLUSH, 0, 0, 0);
    go_on(e);
    wait_done(e, r);
    for (int i = 0; i < 100; i++) {
        g_assert_true(data_of(r)[i] == 0x70 || data_of(r)[i] == 0x22);
    }
    req_free(r);
    want(e, 12 * e->c, 3 * e->c, 0x22);
    want(e, 13 * e->c + 300, 100, 0x33);
    want(e, 20 * e->c, 8 * e->c, 0x44);
}

typedef struct Stale {
    Qcow2 *q;
    int64_t guest;
    Extent x;
    unsigned pin;
} Stale;

static int coroutine_fn stale_find(void *opaque)
{
    Stale *s = opaque;

    s->pin = qcow2_pin_enter(s->q->pin);
    return qcow2_map_co_find(s->q, s->guest, s->q->geo.cluster_size, &s->x);
}

static int coroutine_fn stale_read(void *opaque)
{
    Stale *s = opaque;
    uint8_t buf[100];
    IOVector v;
    int ret;

    iov_init_buf(&v, buf, sizeof(buf));
    ret = qcow2_decompress_co_read(s->q, s->x.entry, 0, &v, 0, sizeof(buf));
    qcow2_pin_leave(s->q->pin, s->pin);
    return ret;
}

/* A read that found the entry just before it was let go of keeps what it unpacks: not past the
 * reuse of the place. */
static void compressed_kept(Env *e)
{
    Stale s = { .q = blk_bs(e->blk)->opaque, .guest = 12 * e->c };

    now(e, REQ_COMPRESSED, 12 * e->c, e->c, 0x70);
    now(e, REQ_FLUSH, 0, 0, 0);
    g_assert_cmpint(co_run_sync(stale_find, &s), ==, 0);
    now(e, REQ_DISCARD, 12 * e->c, e->c, 0);
    g_assert_cmpint(co_run_sync(stale_read, &s), ==, 0);
    now(e, REQ_FLUSH, 0, 0, 0); /* the place is free */
    now(e, REQ_COMPRESSED, 12 * e->c, e->c, 0x22);
    expect(e, 12 * e->c, 100, 0x22, 0x22);
    want(e, 12 * e->c, e->c, 0x22);
}

/* ---- Alignment ---- */

/* A read-modify-write of the file must not write back what an aligned write replaced meanwhile. */
static void rmw_against_aligned(Env *e)
{
    Req *a, *b;

    stop_at(e, "pwritev_rmw_after_head");
    a = start(e, REQ_WRITE, 2 * e->c + 10, 20, 0x22);
    wait_stopped(e);
    b = start(e, REQ_WRITE, 2 * e->c, 4096, 0x33);
    let_run(e);
    g_assert_false(is_done(b));
    go_on(e);
    finish(e, a);
    finish(e, b);
    want(e, 2 * e->c, 4096, 0x33);
}

/* ---- The life of an image ---- */

static void drain_in_flight(Env *e)
{
    Req *w;

    stop_at(e, "write_aio");
    w = start(e, REQ_WRITE, 20 * e->c + 7, 100, 0x22);
    wait_stopped(e);
    go_on_later(e);
    blk_drain(e->blk);
    g_assert_true(is_done(w));
    finish(e, w);
    want(e, 20 * e->c + 7, 100, 0x22);
}

static void close_in_flight(Env *e)
{
    Req *w, *o;

    stop_at(e, "write_aio");
    w = start(e, REQ_WRITE, 20 * e->c + 7, 100, 0x22);
    wait_stopped(e);
    o = start(e, REQ_WRITE, 20 * e->c + 200, 100, 0x33); /* waits for the first */
    let_run(e);
    go_on_later(e);
    blk_close(e->blk);
    e->blk = NULL;
    g_assert_true(is_done(w) && is_done(o));
    finish(e, w);
    finish(e, o);
    want(e, 20 * e->c + 7, 100, 0x22);
    want(e, 20 * e->c + 200, 100, 0x33);
    reopen(e);
}

static void resize_in_flight(Env *e)
{
    Req *w;

    stop_at(e, "write_aio");
    w = start(e, REQ_WRITE, 38 * e->c, e->c, 0x22);
    wait_stopped(e);
    go_on_later(e);
    g_assert_cmpint(blk_truncate(e->blk, 36 * e->c, false, BLK_PREALLOC_OFF, 0, NULL), ==, 0);
    g_assert_true(is_done(w));
    finish(e, w);
    g_assert_cmpint(blk_truncate(e->blk, (int64_t)e->spec.size, false, BLK_PREALLOC_OFF, 0, NULL),
                    ==, 0);
    want(e, 36 * e->c, 4 * e->c, 0);
}

/* Each holder of a file has locks of its own, in one process or in two. */
static void two_writers(Env *e)
{
    g_autofree char *dir = g_dir_make_tmp("cowlet-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "image", NULL);
    GError *err = NULL;
    BlockBackend *first, *second;
    Options *o = opts_new();

    opts_set(o, "size", "1M");
    g_assert_cmpint(blk_create(path, "qcow2", o, NULL), ==, 0);
    first = blk_open(path, NULL, BLK_O_RDWR, &err);
    g_assert_no_error(err);
    second = blk_open(path, NULL, BLK_O_RDWR, &err);
    g_assert_null(second);
    g_assert_nonnull(err);
    g_clear_error(&err);
    second = blk_open(path, NULL, BLK_O_FORCE_SHARE, &err);
    g_assert_no_error(err);
    blk_close(second);
    blk_close(first);
    second = blk_open(path, NULL, BLK_O_RDWR, &err);
    g_assert_no_error(err);
    blk_close(second);
    g_unlink(path);
    g_rmdir(dir);
}

/* So that nobody waits for a flush to make room for tables. */
#define TABLES_STAY "l2-cache-size=1M,refcount-cache-size=1M"

const RaceCase race_cases[] = {
    { "overwrite-discard-reuse", overwrite_discard },
    { "overwrite-zero-reuse", overwrite_zero },
    { "overwrite-discard-reuse-in-file", overwrite_discard_in_file },
    { "read-discard-reuse", read_discard },
    { "read-zero-reuse", read_zero },
    { "stale-punch", stale_punch },
    { "allocate-zero", allocate_zero },
    { "allocate-unmap", allocate_unmap },
    { "allocate-discard", allocate_discard },
    { "allocate-allocate", allocate_allocate },
    { "waiters-go-together", waiters_go_together },
    { "fill-in-discard", fill_in_discard },
    { "cow-short-backing", cow_short_backing, .short_backing = true },
    { "backing-end", backing_end, .short_backing = true },
    { "flush-storm", flush_storm },
    { "new-table", new_table, .size = 34 * MiB },
    { "reftable-growth-write", reftable_growth_write, TABLES_STAY, .cluster_size = 512,
      .refcount_bits = 64, .size = 8500 * 512, .no_extended = true },
    { "reftable-growth-switch", reftable_growth_switch, TABLES_STAY, .cluster_size = 512,
      .refcount_bits = 64, .size = 8500 * 512, .no_extended = true },
    { "two-states", two_states },
    { "state-resize", state_resize },
    { "resize-state", resize_state },
    { "dirty-rebuild", dirty_rebuild, .lazy = true },
    { "discard-over-backing", discard_over_backing },
    { "compressed-shared", compressed_shared },
    { "compressed-rewrite", compressed_rewrite },
    { "compressed-kept", compressed_kept },
    { "rmw-aligned", rmw_against_aligned, .options = "file.align=4096" },
    { "drain-in-flight", drain_in_flight },
    { "close-in-flight", close_in_flight },
    { "resize-in-flight", resize_in_flight },
    { "two-writers", two_writers },
};
const unsigned nrace_cases = G_N_ELEMENTS(race_cases);
