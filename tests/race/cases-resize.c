/* SPDX-License-Identifier: MIT */
/*
 * Resizes beside requests: while space is reserved for a larger disk, or what a smaller one loses
 * is on its way out, requests within both sizes go on, and those past either end fail at once.
 * Shows INV-TRUNC-1.
 */
#include "race.h"

#include "block/driver.h"

#include <errno.h>

#define GROWN 1200 /* clusters; as many of 512 bytes need a larger L1 table */

static void wait_blocked(Env *e)
{
    for (int i = 0; fake_blocked() == 0; i++) {
        g_assert_cmpint(i, <, 300000);
        let_run(e);
    }
}

static int64_t file_length(Env *e)
{
    return atomic_load(&blk_bs(e->blk)->file->bs->total_bytes);
}

static void expect_refused(Env *e, int64_t offset)
{
    Req *w = start(e, REQ_WRITE, offset, e->c, 0x77);

    g_assert_cmpint(result(e, w), ==, -EIO);
}

/* Requests of each kind, which end while the resize @r is on its way. */
static void go_on_beside(Env *e, Req *r)
{
    now(e, REQ_WRITE, e->c + 512 % e->c, 512, 0x22);
    now(e, REQ_WRITE, 10 * e->c, 3 * e->c, 0x33); /* takes new clusters */
    now(e, REQ_DISCARD, 11 * e->c, e->c, 0);
    expect(e, 10 * e->c, e->c, 0x33, 0x33);
    expect(e, 12 * e->c, e->c, 0x33, 0x33);
    g_assert_false(is_done(r));
    want(e, e->c + 512 % e->c, 512, 0x22);
    want(e, 10 * e->c, e->c, 0x33);
    want(e, 11 * e->c, e->c, 0);
    want(e, 12 * e->c, e->c, 0x33);
}

static void shrink_again(Env *e)
{
    now(e, REQ_RESIZE, (int64_t)e->spec.size, 0, 0);
}

/* The file is made longer for the new clusters, and others write to it past its old end. */
static void grow_reserved(Env *e)
{
    Req *r;

    fake_block(FAKE_ZERO);
    r = start(e, REQ_RESIZE, GROWN * e->c, (int64_t)BLK_PREALLOC_METADATA, 0);
    wait_blocked(e);
    go_on_beside(e, r);
    expect_refused(e, (GROWN - 10) * e->c);
    fake_block(0);
    finish(e, r);
    expect(e, (int64_t)e->spec.size, e->c, 0, 0);
    expect(e, (GROWN - 1) * e->c, e->c, 0, 0);
    now(e, REQ_WRITE, (GROWN - 1) * e->c, e->c, 0x44);
    expect(e, (GROWN - 1) * e->c, e->c, 0x44, 0x44);
    check_copy(e, true);
    shrink_again(e);
}

/* Two of them: the second begins when the first has ended. */
static void grow_grow(Env *e)
{
    Req *a, *b;

    fake_block(FAKE_ZERO);
    a = start(e, REQ_RESIZE, GROWN * e->c, (int64_t)BLK_PREALLOC_METADATA, 0);
    wait_blocked(e);
    b = start(e, REQ_RESIZE, 36 * e->c, 0, 0);
    let_run(e);
    go_on_beside(e, b);
    fake_block(0);
    finish(e, a);
    finish(e, b);
    g_assert_cmpint(blk_getlength(e->blk), ==, 36 * e->c);
    shrink_again(e);
    want(e, 36 * e->c, (int64_t)e->spec.size - 36 * e->c, 0);
}

/* What is past the new end can no longer be reached from the beginning on. */
static void shrink_beside(Env *e)
{
    Req *r;

    now(e, REQ_WRITE, 30 * e->c, 8 * e->c, 0x55);
    fake_block(FAKE_FLUSH);
    r = start(e, REQ_RESIZE, 32 * e->c, 0, 0);
    wait_blocked(e);
    go_on_beside(e, r);
    expect_refused(e, 33 * e->c);
    expect(e, 30 * e->c, 2 * e->c, 0x55, 0x55);
    fake_block(0);
    finish(e, r);
    g_assert_cmpint(blk_getlength(e->blk), ==, 32 * e->c);
    check_copy(e, true);
    shrink_again(e);
    want(e, 30 * e->c, 2 * e->c, 0x55);
    want(e, 32 * e->c, (int64_t)e->spec.size - 32 * e->c, 0);
}

/* A device is full in the middle: what was reserved is given back, and the size is the old one. */
static void grow_full(Env *e)
{
    static const FakeFault full = { .ops = FAKE_ZERO, .nth = 2, .forever = true, .error = ENOSPC };
    int64_t before = blk_getlength(e->blk), length = file_length(e);
    BlockCheckResult res = { 0 };
    Req *r;

    fake_arm(&full);
    r = start(e, REQ_RESIZE, GROWN * e->c, (int64_t)BLK_PREALLOC_METADATA, 0);
    g_assert_cmpint(result(e, r), ==, -ENOSPC);
    g_assert_true(fake_fault_met());
    fake_arm(NULL);
    g_assert_cmpint(blk_getlength(e->blk), ==, before);
    g_assert_cmpint(blk_flush(e->blk), ==, 0);
    g_assert_cmpint(file_length(e), <=, length + e->c); /* the L1 table is elsewhere */
    g_assert_cmpint(blk_check(e->blk, &res, 0, NULL, NULL), ==, 0);
    g_assert_cmpint(res.corruptions + res.leaks, ==, 0);
}

static int coroutine_fn load_state_fn(void *opaque)
{
    Env *e = opaque;
    g_autofree uint8_t *buf = g_malloc((gsize)e->c);
    IOVector v;
    int ret;

    iov_init_buf(&v, buf, (size_t)e->c);
    ret = blk_co_load_vmstate(e->blk, 0, &v);
    for (int64_t i = 0; i < e->c && ret == 0; i++) {
        g_assert_cmphex(buf[i], ==, 0x41);
    }
    return ret;
}

/* A machine's state is saved, for which the L1 table grows; the next part of it waits for that. */
static void save_beside(Env *e)
{
    Req *a, *b;

    fake_block(FAKE_FLUSH);
    a = start(e, REQ_STATE, 0, e->c, 0x41);
    wait_blocked(e);
    b = start(e, REQ_STATE, e->c, e->c, 0x42);
    let_run(e);
    go_on_beside(e, a);
    g_assert_false(is_done(b));
    fake_block(0);
    finish(e, a);
    finish(e, b);
    g_assert_cmpint(co_run_sync(load_state_fn, e), ==, 0);
    check_copy(e, true);
}

const RaceCase resize_cases[] = {
    { "grow-reserved", grow_reserved },
    { "grow-reserved-l1", grow_reserved, .cluster_size = 512, .no_extended = true },
    { "grow-grow", grow_grow },
    { "shrink-beside", shrink_beside },
    { "grow-full", grow_full },
    { "save-beside", save_beside },
};
const unsigned nresize_cases = G_N_ELEMENTS(resize_cases);
