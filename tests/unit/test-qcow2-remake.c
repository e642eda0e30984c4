/* SPDX-License-Identifier: MIT */
/*
 * Another geometry in place: the plan for each cluster keeps what it reads, whatever maps it; an
 * image in memory goes from one geometry to the next with its content; what fails or is cancelled
 * leaves it as it was, and nothing leaks.
 */
#include "mem-driver.h"
#include "mem-image.h"

#include "block/qcow2/remake-plan.h"
#include "block/qcow2/remake.h"

#include <errno.h>
#include <string.h>

/* ---- The plan ---- */

#define MOST 32 /* old clusters in a new one, here */

static L2Entry random_entry(GRand *r, const Geometry *g, uint64_t *host)
{
    L2Entry e = { 0 };

    if (g_rand_int_range(r, 0, 6) == 0) {
        return (L2Entry){ .desc = L2E_COMPRESSED | UINT64_C(0x123456) };
    }
    if (g_rand_boolean(r)) {
        e.desc = *host | L2E_COPIED;
        *host += g_rand_int_range(r, 0, 8) ? g->cluster_size : 5 * g->cluster_size;
    }
    if (g->extended_l2) {
        uint32_t zero = g_rand_int_range(r, 0, 3) ? 0 : g_rand_int(r);
        uint32_t data = g_rand_int_range(r, 0, 3) ? UINT32_MAX : g_rand_int(r);

        e.bitmap = (uint64_t)zero << 32 | (e.desc ? data & ~zero : 0);
    } else if (g_rand_int_range(r, 0, 3) == 0) {
        e.desc |= L2E_ZERO;
    }
    return e;
}

/* What the byte at @at reads: of the host (*@host), zero, of the backing file, packed. */
static ScKind kind_at(const Geometry *g, const L2Entry *e, uint64_t at, uint64_t *host)
{
    L2Entry x = e[at >> g->cluster_bits];
    ScKind kind = qcow2_l2_kind(g, x, (unsigned)(geo_in_cluster(g, at) >> g->subcluster_bits), 0);

    *host = kind == SC_NORMAL ? qcow2_l2_host(g, x) + geo_in_cluster(g, at) : 0;
    return kind == SC_ZERO_ALLOC          ? SC_ZERO_PLAIN
           : kind == SC_UNALLOCATED_ALLOC ? SC_UNALLOCATED_PLAIN
                                          : kind;
}

static void check_byte(const RemakeRules *r, const RemakeSource *s, const RemakePlan *p,
                       uint64_t at)
{
    uint64_t was_host, host;
    ScKind was = kind_at(&r->from, s->entries, s->skip + at, &was_host);
    ScKind is = kind_at(&r->to, &p->entry, at, &host);

    if (p->action == REMAKE_PACK) {
        return;
    }
    if (p->action == REMAKE_FILL && (p->fill >> (at >> r->to.subcluster_bits) & 1)) {
        return; /* whatever it was */
    }
    if (is == SC_NORMAL) {
        g_assert_cmpint(was, ==, SC_NORMAL);
        g_assert_cmpuint(was_host, ==, host);
    } else if (is == SC_ZERO_PLAIN) {
        g_assert_true(was == SC_ZERO_PLAIN || (was == SC_UNALLOCATED_PLAIN && !r->backing));
    } else {
        g_assert_cmpint(was, ==, is);
    }
}

static void check_plan(const RemakeRules *r, const RemakeSource *s)
{
    RemakePlan p = qcow2_remake_plan(r, s);
    uint64_t step = MIN(r->from.subcluster_size, r->to.subcluster_size);
    bool packed = false, data = false, even = true;
    ScKind first = SC_INVALID;

    for (uint64_t at = 0; at < r->to.cluster_size; at += step) {
        uint64_t host;
        ScKind was = kind_at(&r->from, s->entries, s->skip + at, &host);

        check_byte(r, s, &p, at);
        packed |= was == SC_COMPRESSED;
        data |= was == SC_NORMAL;
        even &= at == 0 || was == first;
        first = was;
    }
    /* Nothing is moved without need. */
    g_assert_true(p.action != REMAKE_PACK || (packed && !data));
    if (even && !packed && s->n == 1) {
        g_assert_true(p.action == REMAKE_STAY || p.action == REMAKE_BARE);
    }
    if (r->from.cluster_bits == r->to.cluster_bits && !r->repack && r->to.extended_l2) {
        g_assert_true(p.action == REMAKE_STAY || p.action == REMAKE_BARE);
    }
    g_assert_true(p.action == REMAKE_FILL || !p.fill);
}

static void plan_some(GRand *r, RemakeRules *rules)
{
    unsigned up = rules->to.cluster_bits > rules->from.cluster_bits
                      ? rules->to.cluster_bits - rules->from.cluster_bits
                      : 0;
    unsigned down = rules->from.cluster_bits > rules->to.cluster_bits
                        ? rules->from.cluster_bits - rules->to.cluster_bits
                        : 0;
    L2Entry e[MOST];
    RemakeSource s = { .entries = e, .n = 1u << up, .guest = 64 * MiB };

    for (unsigned i = 0; i < 200; i++) {
        uint64_t host = (uint64_t)g_rand_int_range(r, 1, 64) << rules->from.cluster_bits;

        rules->backing = g_rand_boolean(r);
        s.skip = (uint64_t)g_rand_int_range(r, 0, 1 << down) << rules->to.cluster_bits;
        for (unsigned k = 0; k < s.n; k++) {
            e[k] = k && g_rand_int_range(r, 0, 3) && !(e[k - 1].desc & L2E_COMPRESSED) &&
                           (e[k - 1].desc & QCOW2_OFFSET_MASK)
                       ? (L2Entry){ e[k - 1].desc + rules->from.cluster_size, e[k - 1].bitmap }
                       : random_entry(r, &rules->from, &host);
        }
        check_plan(rules, &s);
    }
}

static void test_plan(void)
{
    GRand *r = g_rand_new_with_seed(17);

    for (unsigned from = 0; from < 12; from++) {
        for (unsigned to = 0; to < 12; to++) {
            RemakeRules rules = { 0 };
            unsigned a = 14 + from / 2, b = 14 + to / 2;

            qcow2_geometry_init(&rules.from, 3, MIN(a, 19), 4, from & 1, false, false);
            qcow2_geometry_init(&rules.to, 3, MIN(b, 19), 4, to & 1, false, false);
            rules.repack = a != b;
            plan_some(r, &rules);
        }
    }
    g_rand_free(r);
}

/* ---- Whole images ---- */

#define SIZE ((int64_t)(2 * MiB))

typedef struct Image {
    MemImage im;
    BlockBackend *blk;
    uint8_t *model;
} Image;

static void image_open(Image *i, unsigned cluster_bits, bool extended)
{
    GRand *r = g_rand_new_with_seed(cluster_bits);

    i->im = (MemImage){ .cluster_bits = cluster_bits,
                        .refcount_order = 4,
                        .extended_l2 = extended,
                        .size = (uint64_t)SIZE };
    mem_image_init(&i->im);
    i->blk = mem_image_open(&i->im, NULL);
    i->model = g_malloc0((size_t)SIZE);
    for (int n = 0; n < 60; n++) {
        int64_t at = g_rand_int_range(r, 0, SIZE / 512) * 512;
        int64_t len = g_rand_int_range(r, 1, 200) * 512;

        len = MIN(len, SIZE - at);
        if (n % 5 == 0) {
            memset(i->model + at, 0, (size_t)len);
            g_assert_cmpint(blk_pwrite_zeroes(i->blk, at, len, 0), ==, 0);
        } else {
            memset(i->model + at, n, (size_t)len);
            g_assert_cmpint(blk_pwrite(i->blk, at, len, i->model + at, 0), ==, 0);
        }
    }
    g_rand_free(r);
}

static void image_check(Image *i)
{
    g_autofree uint8_t *buf = g_malloc((size_t)SIZE);
    BlockCheckResult res = { 0 };

    g_assert_cmpint(blk_flush(i->blk), ==, 0);
    g_assert_cmpint(blk_check(i->blk, &res, 0, NULL, NULL), ==, 0);
    g_assert_cmpint(res.corruptions + res.leaks + res.check_errors, ==, 0);
    g_assert_cmpint(blk_pread(i->blk, 0, SIZE, buf, 0), ==, 0);
    g_assert_cmpmem(buf, (size_t)SIZE, i->model, (size_t)SIZE);
}

static void image_close(Image *i)
{
    g_assert_cmpint(blk_close(i->blk), ==, 0);
    mem_image_clear(&i->im);
    g_free(i->model);
}

typedef struct Call {
    Qcow2 *q;
    RemakeTarget t;
    int left; /* calls of progress until it is cancelled; -1: never */
    double done;
    GError *err;
} Call;

static bool progress(double done, void *opaque)
{
    Call *c = opaque;

    g_assert_cmpfloat(done, >=, c->done);
    c->done = done;
    return c->left < 0 || c->left-- > 0;
}

static int coroutine_fn call_fn(void *opaque)
{
    Call *c = opaque;

    return qcow2_remake_co_run(c->q, &c->t, progress, c, &c->err);
}

static Call call_for(Image *i)
{
    Call c = { .q = mem_image_qcow2(i->blk), .left = -1 };

    c.t = qcow2_remake_current(c.q);
    return c;
}

/* Changes beside each other: what was let go of is used again. */
static void write_more(Image *i, int n)
{
    for (int64_t at = 0; at < SIZE; at += SIZE / 16) {
        memset(i->model + at + 512 * n, 100 + n, 3 * 512);
        g_assert_cmpint(blk_pwrite(i->blk, at + 512 * n, 3 * 512, i->model + at + 512 * n, 0), ==,
                        0);
    }
}

static void test_images(void)
{
    static const unsigned bits[] = { 9, 12, 14, 16 };

    for (unsigned k = 0; k < 2 * G_N_ELEMENTS(bits); k++) {
        unsigned from = bits[k / 2];
        Image i;

        if (k % 2 && from < 14) {
            continue;
        }
        image_open(&i, from, k % 2);
        for (int n = 0; n < 6; n++) {
            Call c = call_for(&i);

            c.t.cluster_bits = n % 3 ? bits[(k + (unsigned)n) % G_N_ELEMENTS(bits)] : from;
            c.t.extended_l2 = c.t.cluster_bits >= 14 && n % 2;
            c.t.refcount_order = (unsigned)(n * 5 % 7);
            g_assert_cmpint(co_run_sync(call_fn, &c), ==, 0);
            g_assert_no_error(c.err);
            g_assert_cmpuint(c.q->geo.refcount_order, ==, c.t.refcount_order);
            g_assert_cmpuint(c.q->geo.extended_l2, ==, c.t.extended_l2);
            g_assert_cmpuint(c.q->geo.cluster_bits, ==, c.t.cluster_bits);
            image_check(&i);
            write_more(&i, n);
            image_check(&i);
        }
        image_close(&i);
    }
}

/* Cancelled at each of its steps. */
static void test_cancel(void)
{
    Image i;
    int n = 0, ret;

    image_open(&i, 9, false);
    image_check(&i);
    do {
        Call c = call_for(&i);
        int64_t length = last_mem->size;

        c.t.refcount_order = 6;
        c.t.cluster_bits = 10;
        c.left = n++;
        ret = co_run_sync(call_fn, &c);
        if (ret < 0) {
            g_assert_cmpint(ret, ==, -ECANCELED);
            g_assert_nonnull(c.err);
            g_clear_error(&c.err);
            g_assert_cmpint(last_mem->size, <=, length);
        }
        image_check(&i);
    } while (ret < 0);
    g_assert_cmpint(n, >, 10);
    image_close(&i);
}

static void test_refused(void)
{
    Image i;
    Call c;

    image_open(&i, 12, false);
    c = call_for(&i);
    c.t.extended_l2 = true;
    g_assert_cmpint(co_run_sync(call_fn, &c), <, 0);
    g_assert_cmpstr(c.err->message, ==,
                    "Extended L2 entries are only supported with cluster sizes of at least 16384 "
                    "bytes");
    g_clear_error(&c.err);
    image_check(&i);
    image_close(&i);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mem_register();
    g_test_add_func("/qcow2/remake/plan", test_plan);
    g_test_add_func("/qcow2/remake/images", test_images);
    g_test_add_func("/qcow2/remake/cancel", test_cancel);
    g_test_add_func("/qcow2/remake/refused", test_refused);
    return g_test_run();
}
