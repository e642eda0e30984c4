/* SPDX-License-Identifier: MIT */
/*
 * Races round what is let go of: punches, discards in place, packing, and flushes that fail while
 * others go on. A punch or a sync of the file is stopped where it is about to begin. Each case
 * asserts that what it is named for took place.
 */
#include "race.h"

#include <errno.h>

/* The file's operations of these kinds wait; what waits for one of them has come there. */
static void wait_blocked(Env *e)
{
    for (int i = 0; fake_blocked() == 0; i++) {
        g_assert_cmpint(i, <, 300000);
        let_run(e);
    }
}

/*
 * A discard that leaves the clusters where they are punches them after it has let go of the lock.
 * Until that is done nobody writes to any of them: the punch would take what was written.
 */
static void discard_in_place(Env *e)
{
    Req *d, *w[3];

    fake_block(FAKE_ZERO);
    d = start(e, REQ_DISCARD, 2 * e->c, 3 * e->c, 0);
    wait_blocked(e);
    for (int i = 0; i < 3; i++) {
        w[i] = start(e, REQ_WRITE, (2 + i) * e->c + 1024, 2048, 0x30 + (uint8_t)i);
    }
    let_run(e);
    g_assert_cmpuint(fake_blocked(), ==, 1); /* it is still on its way */
    for (int i = 0; i < 3; i++) {
        g_assert_false(is_done(w[i]));
    }
    fake_block(0);
    finish(e, d);
    want(e, 2 * e->c, 3 * e->c, 0);
    for (int i = 0; i < 3; i++) {
        finish(e, w[i]);
        want(e, (2 + i) * e->c + 1024, 2048, 0x30 + (unsigned)i);
    }
}

/* The cluster in which the last compressed data lies, and its room behind them, is being punched:
 * new data does not go there, compressed or not. */
static void pack_punch(Env *e)
{
    Req *f, *c;

    now(e, REQ_COMPRESSED, 12 * e->c, e->c, 0x70);
    now(e, REQ_FLUSH, 0, 0, 0);
    now(e, REQ_DISCARD, 12 * e->c, e->c, 0);
    want(e, 12 * e->c, e->c, 0);
    fake_block(FAKE_DISCARD);
    f = start(e, REQ_FLUSH, 0, 0, 0);
    wait_blocked(e); /* the punch of the only user's cluster */
    c = start(e, REQ_COMPRESSED, 14 * e->c, e->c, 0x22);
    wait_done(e, c);
    now(e, REQ_WRITE, 20 * e->c, 2 * e->c, 0x33);
    g_assert_false(is_done(f));
    g_assert_cmpuint(fake_blocked(), ==, 1);
    fake_block(0);
    req_free(c);
    finish(e, f);
    want(e, 14 * e->c, e->c, 0x22);
    want(e, 20 * e->c, 2 * e->c, 0x33);
    expect(e, 14 * e->c, e->c, 0x22, 0x22);
    now(e, REQ_COMPRESSED, 15 * e->c, e->c, 0x23);
    want(e, 15 * e->c, e->c, 0x23);
}

/* Clusters that are being punched are nobody's yet: not even allocations beside them get one. */
static void punch_reuse(Env *e)
{
    Req *f;

    now(e, REQ_DISCARD, 2 * e->c, 3 * e->c, 0);
    want(e, 2 * e->c, 3 * e->c, 0);
    fake_block(FAKE_DISCARD);
    f = start(e, REQ_FLUSH, 0, 0, 0);
    wait_blocked(e);
    for (int i = 0; i < 4; i++) {
        now(e, REQ_WRITE, (20 + i) * e->c, e->c, 0x40 + (uint8_t)i);
        want(e, (20 + i) * e->c, e->c, 0x40 + (unsigned)i);
    }
    g_assert_false(is_done(f));
    fake_block(0);
    finish(e, f);
}

/* ---- Beside an overwrite ---- */

/* A write that fills in a part of a cluster leaves the parts alone that can be written in place:
 * what such a write puts there meanwhile stays. */
static void fill_beside_overwrite(Env *e)
{
    int64_t at = 2 * e->c, sc = e->c / 32;
    Req *w;

    now(e, REQ_ZERO, at + sc, sc, 0);
    stop_at(e, "write_aio");
    w = start(e, REQ_WRITE, at + sc + 50, sc + 50, 0x22); /* ends within the next subcluster */
    wait_stopped(e);
    now(e, REQ_WRITE, at + 2 * sc + 200, 100, 0x33);
    g_assert_false(is_done(w));
    go_on(e);
    finish(e, w);
    want(e, at + sc, 50, 0);
    want(e, at + sc + 50, sc + 50, 0x22);
    want(e, at + 2 * sc + 200, 100, 0x33);
}

/* Two writes that share a new cluster and not a byte: one takes it, the other one waits for that.
 */
static void allocate_beside(Env *e)
{
    Req *a, *b;

    stop_at(e, "write_aio");
    a = start(e, REQ_WRITE, 10 * e->c + 100, 200, 0x22);
    wait_stopped(e);
    b = start(e, REQ_WRITE, 10 * e->c + e->c / 2, 300, 0x33);
    let_run(e);
    g_assert_false(is_done(b));
    go_on(e);
    finish(e, a);
    finish(e, b);
    want(e, 10 * e->c + 100, 200, 0x22);
    want(e, 10 * e->c + e->c / 2, 300, 0x33);
}

/* A discard and zeroes that begin before what is being allocated wait for it all the same. */
static void allocate_within(Env *e)
{
    static const ReqKind kinds[] = { REQ_DISCARD, REQ_UNMAP, REQ_ZERO };

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        int64_t at = (12 + 6 * (int64_t)i) * e->c;
        Req *w, *z;

        stop_at(e, "write_aio");
        w = start(e, REQ_WRITE, at + 100, 200, 0x22);
        wait_stopped(e);
        z = start(e, kinds[i], at - 2 * e->c, 4 * e->c, 0);
        let_run(e);
        g_assert_false(is_done(z));
        go_on(e);
        finish(e, w);
        finish(e, z);
        want(e, at - 2 * e->c, 4 * e->c, 0);
    }
}

/* ---- Flushes that fail ---- */

#define L2_COVERS (INT64_C(64) * 512) /* an L2 table of 512 bytes */

/* The write of refcounts fails: no table that relies on them follows. */
static void counts_fail(Env *e)
{
    FakeFault one = { .ops = FAKE_WRITE, .nth = 1, .error = EIO };

    now(e, REQ_WRITE, 10 * e->c, 3 * e->c, 0x22);
    want(e, 10 * e->c, 3 * e->c, 0x22);
    fake_arm(&one);
    g_assert_cmpint(blk_flush(e->blk), ==, -EIO);
    g_assert_true(fake_fault_met());
    fake_arm(NULL);
    check_copy(e, false);
}

/* An L1 entry changes while the flush that writes others fails: all are written by the next. */
static void l1_again(Env *e)
{
    FakeFault one = { .ops = FAKE_WRITE, .nth = 1, .error = EIO };
    Req *f;

    now(e, REQ_WRITE, 2 * L2_COVERS, 512, 0x22);
    stop_at(e, "l1_update");
    f = start(e, REQ_FLUSH, 0, 0, 0);
    wait_stopped(e);
    now(e, REQ_WRITE, 1 * L2_COVERS, 512, 0x21); /* before the ones under way, and behind */
    now(e, REQ_WRITE, 3 * L2_COVERS, 512, 0x23);
    fake_arm(&one);
    go_on(e);
    g_assert_cmpint(result(e, f), ==, -EIO);
    g_assert_true(fake_fault_met());
    fake_arm(NULL);
    for (int i = 1; i <= 3; i++) {
        want(e, i * L2_COVERS, 512, 0x20 + (unsigned)i);
    }
}

/*
 * A sync fails, and what was written since the last one is lost, as the kernel may do it. The next
 * sync knows nothing of that; so no flush says that all is well until the image is opened again.
 */
static void failed_sync(Env *e)
{
    static const FakeSetup drops = { .align = 1, .sync_drops = true };
    static const FakeSetup usual = { .align = 1 };
    FakeFault one = { .ops = FAKE_FLUSH, .nth = 1, .error = EIO };

    fake_setup(&drops);
    now(e, REQ_WRITE, 10 * e->c, 2 * e->c, 0x22);
    now(e, REQ_FLUSH, 0, 0, 0);
    want(e, 10 * e->c, 2 * e->c, 0x22);
    now(e, REQ_WRITE, 14 * e->c + 100, 2 * e->c, 0x33);
    now(e, REQ_DISCARD, 2 * e->c, e->c, 0);
    want(e, 14 * e->c + 100, 2 * e->c, ANY);
    want(e, 2 * e->c, e->c, ANY);
    fake_arm(&one);
    g_assert_cmpint(blk_flush(e->blk), ==, -EIO);
    g_assert_true(fake_fault_met());
    fake_arm(NULL);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(blk_flush(e->blk), <, 0);
    }
    check_copy(e, false);
    reopen(e);
    fake_setup(&usual);
    e->leaks_ok = true;
}

const RaceCase free_cases[] = {
    { "discard-in-place", discard_in_place, .options = "discard-no-unref=on" },
    { "pack-punch", pack_punch },
    { "punch-reuse", punch_reuse },
    { "allocate-beside", allocate_beside },
    { "allocate-within", allocate_within },
    { "fill-beside-overwrite", fill_beside_overwrite },
    { "counts-fail", counts_fail },
    { "l1-again", l1_again, .cluster_size = 512, .size = 4 * L2_COVERS, .no_extended = true },
    { "failed-sync", failed_sync },
};
const unsigned nfree_cases = G_N_ELEMENTS(free_cases);
