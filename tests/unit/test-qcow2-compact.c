/* SPDX-License-Identifier: MIT */
/*
 * Inside of compacting: the map of who has which cluster against a plain list of numbers; the
 * reverse index against a walk over all tables, also where it is cut or looks at few; an image
 * that another program would find as it was when the work is interrupted anywhere.
 */
/* Shows INV-CMP-1, INV-CMP-3. */
#include "mem-driver.h"
#include "mem-image.h"

#include "block/qcow2/compact.h"

#include <errno.h>
#include <string.h>

/* ---- The map ---- */

#define CLUSTERS 300

static void check_find(CompactMap *m, const uint32_t *model)
{
    uint64_t from = (uint64_t)g_test_rand_int_range(0, CLUSTERS);
    uint64_t n = (uint64_t)g_test_rand_int_range(1, 5);
    uint64_t below = (uint64_t)g_test_rand_int_range(0, CLUSTERS + 20), want = 0;

    for (uint64_t c = MAX(from, 1); !want && c + n <= MIN(below, CLUSTERS); c++) {
        uint64_t k = 0;

        while (k < n && !model[c + k]) {
            k++;
        }
        want = k == n ? c : 0;
    }
    g_assert_cmpuint(qcow2_compact_map_find(m, from, n, below), ==, want);
}

static void check_sums(CompactMap *m, const uint32_t *model)
{
    uint64_t used = 0, end = 0;

    for (uint64_t c = 0; c < CLUSTERS; c++) {
        used += model[c] != 0;
        end = model[c] ? c + 1 : end;
    }
    qcow2_compact_map_sum_up(m);
    g_assert_cmpuint(m->used, ==, used);
    g_assert_cmpuint(m->end, ==, end);
}

static void test_map(void)
{
    uint32_t model[CLUSTERS] = { 0 };
    CompactMap m;

    g_assert_cmpint(qcow2_compact_map_init(&m, CLUSTERS), ==, 0);
    g_assert_false(qcow2_compact_map_add(&m, CLUSTERS, 1));
    g_assert_false(qcow2_compact_map_sub(&m, CLUSTERS, 0));
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t c = (uint64_t)g_test_rand_int_range(0, CLUSTERS);
        uint32_t n = (uint32_t)g_test_rand_int_range(0, 4);

        if (g_test_rand_int_range(0, 20) < (i / 4000 % 2 ? 12 : 8)) {
            g_assert_true(qcow2_compact_map_add(&m, c, n));
            model[c] += n;
            m.meta[c / 8] |= (uint8_t)(model[c] ? 1u << c % 8 : 0);
        } else {
            bool fits = n <= model[c];

            g_assert_cmpint(qcow2_compact_map_sub(&m, c, n), ==, fits);
            model[c] -= fits ? n : 0;
            g_assert_true(model[c] || !qcow2_compact_map_bit(m.meta, c)); /* it goes with it */
        }
        g_assert_cmpuint(qcow2_compact_map_refs(&m, c), ==, model[c]);
        check_find(&m, model);
        if (i % 100 == 0) {
            check_sums(&m, model);
        }
    }
    qcow2_compact_map_clear(&m);
}

/* A count that does not fit is refused, and nothing is lost of what there was. */
static void test_map_limit(void)
{
    CompactMap m;

    g_assert_cmpint(qcow2_compact_map_init(&m, 8), ==, 0);
    g_assert_true(qcow2_compact_map_add(&m, 3, UINT32_MAX - 1));
    g_assert_false(qcow2_compact_map_add(&m, 3, 2));
    g_assert_cmpuint(qcow2_compact_map_refs(&m, 3), ==, UINT32_MAX - 1);
    g_assert_true(qcow2_compact_map_sub(&m, 3, UINT32_MAX - 1));
    g_assert_cmpuint(qcow2_compact_map_find(&m, 1, 7, 8), ==, 1);
    qcow2_compact_map_clear(&m);
}

/* ---- The index ---- */

#define CLUSTER 512
#define SIZE ((int64_t)(256 * KiB))

static MemImage im;
static BlockBackend *blk;

/* Data all over the file, with holes where some of it was. */
static void open_image(void)
{
    uint8_t buf[CLUSTER];

    im = (MemImage){ .cluster_bits = 9, .refcount_order = 4, .size = SIZE };
    mem_image_init(&im);
    blk = mem_image_open(&im, NULL);
    for (int64_t c = 0; c < SIZE / CLUSTER; c += 2) {
        int64_t guest = c * 67 % (SIZE / CLUSTER);

        memset(buf, (int)guest % 255 + 1, sizeof(buf));
        g_assert_cmpint(blk_pwrite(blk, guest * CLUSTER, CLUSTER, buf, 0), ==, 0);
    }
    for (int64_t c = 0; c < SIZE / CLUSTER; c += 3) {
        g_assert_cmpint(blk_pdiscard(blk, c * CLUSTER, CLUSTER), ==, 0);
    }
    g_assert_cmpint(blk_flush(blk), ==, 0);
}

static void close_image(void)
{
    BlockCheckResult res = { 0 };

    g_assert_cmpint(blk_check(blk, &res, 0, NULL, NULL), ==, 0);
    g_assert_cmpint(res.corruptions, ==, 0);
    g_assert_cmpint(res.check_errors, ==, 0);
    blk_close(blk);
    mem_image_clear(&im);
}

static unsigned wanted, found;
static uint64_t first_cluster, last_cluster;

/* One reference: it is in the index just if it should be. */
static bool look(Compact *c, uint32_t table, uint32_t slot, uint64_t value)
{
    uint64_t bytes;
    uint64_t at = qcow2_compact_target(c, qcow2_compact_table(c, table)->kind, value, &bytes) >>
                  c->q->geo.cluster_bits;
    unsigned n = 0;

    for (CompactRef *r = qcow2_compact_index_first(&c->index, at); r;
         r = qcow2_compact_index_next(&c->index, r)) {
        n += r->table == table && r->slot == slot && r->value == value;
    }
    g_assert_cmpuint(n, ==, at >= first_cluster && at < last_cluster);
    found += n;
    return true;
}

static void coroutine_fn co_compare(Compact *c, uint64_t lo, uint64_t hi)
{
    uint64_t to = hi;

    g_assert_cmpint(qcow2_compact_index_co_make(c, lo, &to, NULL), ==, 0);
    g_assert_cmpuint(to, ==, hi);
    first_cluster = lo;
    last_cluster = hi;
    found = 0;
    g_assert_cmpint(qcow2_compact_scan_co_visit(c, look), ==, 0);
    wanted = 0;
    for (uint64_t i = lo; i < hi; i++) {
        for (CompactRef *r = qcow2_compact_index_first(&c->index, i); r;
             r = qcow2_compact_index_next(&c->index, r)) {
            wanted++;
        }
    }
    g_assert_cmpuint(found, ==, wanted); /* and nothing else is there */
}

/* A range made shorter has the same of what is left. */
static void coroutine_fn co_rename(Compact *c, uint64_t end)
{
    uint64_t hi = end, from = 0, refs = 0;

    g_assert_cmpint(qcow2_compact_index_co_make(c, 1, &hi, NULL), ==, 0);
    while (++from < end && !qcow2_compact_index_first(&c->index, from)) {
    }
    g_assert_cmpuint(from, <, end);
    for (CompactRef *r = qcow2_compact_index_first(&c->index, from); r;
         r = qcow2_compact_index_next(&c->index, r)) {
        refs++;
    }
    for (uint64_t to = end - 1; to > from && refs; to--) {
        if (qcow2_compact_index_first(&c->index, to)) {
            continue;
        }
        qcow2_compact_index_rename(&c->index, from, to);
        g_assert_null(qcow2_compact_index_first(&c->index, from));
        for (CompactRef *r = qcow2_compact_index_first(&c->index, to); r;
             r = qcow2_compact_index_next(&c->index, r)) {
            refs--;
        }
        g_assert_cmpuint(refs, ==, 0);
    }
    qcow2_compact_index_rename(&c->index, end + 5, 1); /* outside: nothing */
}

static int coroutine_fn co_index(void *opaque)
{
    Compact c = { .q = mem_image_qcow2(blk),
                  .tables = g_array_new(FALSE, FALSE, sizeof(CompactTable)),
                  .at = g_hash_table_new(NULL, NULL) };
    int64_t length = bdrv_co_getlength(c.q->file->bs);
    uint64_t clusters = geo_clusters(&c.q->geo, (uint64_t)length);

    g_assert_cmpint(qcow2_compact_map_init(&c.map, clusters), ==, 0);
    g_assert_cmpint(qcow2_compact_scan_co_all(&c), ==, 0);
    g_assert_cmpuint(c.map.end, <=, clusters);
    co_compare(&c, 0, clusters);
    co_compare(&c, clusters / 3, clusters / 2);
    co_compare(&c, clusters - 1, clusters);
    co_rename(&c, clusters);
    qcow2_compact_index_clear(&c.index);
    qcow2_compact_map_clear(&c.map);
    g_array_unref(c.tables);
    g_hash_table_unref(c.at);
    return 0;
}

static void test_index(void)
{
    open_image();
    g_assert_cmpint(co_run_sync(co_index, NULL), ==, 0);
    close_image();
}

/* ---- Interrupted and run again ---- */

static bool stop_at(double part, void *opaque)
{
    int *left = opaque;

    return --*left > 0;
}

static void check_content(void)
{
    uint8_t buf[CLUSTER];

    for (int64_t c = 0; c < SIZE / CLUSTER; c++) {
        uint8_t want = c % 2 || c % 3 == 0 ? 0 : (uint8_t)(c % 255 + 1);

        g_assert_cmpint(blk_pread(blk, c * CLUSTER, CLUSTER, buf, 0), ==, 0);
        for (int i = 0; i < CLUSTER; i++) {
            g_assert_cmphex(buf[i], ==, want);
        }
    }
}

static void test_interrupted(void)
{
    int stops = 0;

    for (int step = 1;; step += 1 + step / 3) {
        GError *err = NULL;
        int left = step, ret;
        BlockCheckResult res = { 0 };

        open_image();
        check_content();
        ret = blk_compact(blk, step % 2 ? BLK_COMPACT_DEFRAGMENT : 0, stop_at, &left, &err);
        g_assert_true(ret == 0 || ret == -ECANCELED);
        stops += ret < 0;
        g_assert_true(ret == 0 || err);
        g_clear_error(&err);
        check_content();
        g_assert_cmpint(blk_check(blk, &res, 0, NULL, NULL), ==, 0);
        g_assert_cmpint(res.corruptions + res.leaks, ==, 0); /* what it had begun is ended */
        left = INT_MAX;
        g_assert_cmpint(blk_compact(blk, 0, stop_at, &left, &err), ==, 0);
        check_content();
        close_image();
        if (ret == 0) {
            break;
        }
    }
    g_assert_cmpint(stops, >, 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mem_register();
    g_test_add_func("/qcow2-compact/map", test_map);
    g_test_add_func("/qcow2-compact/map-limit", test_map_limit);
    g_test_add_func("/qcow2-compact/index", test_index);
    g_test_add_func("/qcow2-compact/interrupted", test_interrupted);
    return g_test_run();
}
