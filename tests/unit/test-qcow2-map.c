/* SPDX-License-Identifier: MIT */
/*
 * Runs over whole tables: random L2 tables, written by hand, are looked up from random places, and
 * each run must be sound (one kind, contiguous on the host, one state of COPIED) and, within a
 * slice, as long as it can be, against an oracle that asks subcluster by subcluster.
 */
#include "mem-driver.h"
#include "mem-image.h"

#include "block/qcow2/map.h"

#include "util/bytes.h"

#include <string.h>

typedef struct Point { /* what a naive look-up says of one subcluster */
    ScKind kind;
    uint64_t host;
    bool copied;
} Point;

static MemImage im;
static BlockBackend *blk;
static Qcow2 *q;
static unsigned slice_entries;

static bool has_host(ScKind k)
{
    return k == SC_NORMAL || k == SC_ZERO_ALLOC || k == SC_UNALLOCATED_ALLOC;
}

static L2Entry entry_at(uint64_t guest)
{
    const Geometry *g = &im.geo;
    uint64_t l2 = ldbe64(im.data + im.l1 + geo_l1_index(g, guest) * 8) & QCOW2_OFFSET_MASK;

    if (!l2) {
        return (L2Entry){ 0 };
    }
    return qcow2_l2_load(g, im.data + l2, (unsigned)geo_l2_index(g, guest));
}

static Point point_at(uint64_t guest)
{
    const Geometry *g = &im.geo;
    L2Entry e = entry_at(guest);
    Point p = { qcow2_l2_kind(g, e, geo_sc_index(g, guest), guest), 0, false };

    if (has_host(p.kind)) {
        p.host = qcow2_l2_host(g, e) + geo_in_cluster(g, guest);
        p.copied = qcow2_l2_copied(e);
    }
    return p;
}

static bool continues(Point a, Point b, uint64_t distance)
{
    return a.kind == b.kind && a.copied == b.copied &&
           (!has_host(a.kind) || b.host == a.host + distance);
}

/* The longest run that one slice can tell. */
static uint64_t oracle(uint64_t guest, uint64_t bytes)
{
    const Geometry *g = &im.geo;
    Point first = point_at(guest);
    uint64_t at = ALIGN_DOWN(guest, g->subcluster_size) + g->subcluster_size;
    uint64_t slice = g->cluster_size * slice_entries, end = ALIGN_DOWN(guest, slice) + slice;

    if (first.kind == SC_COMPRESSED) {
        end = geo_cluster_start(g, guest) + g->cluster_size;
    }
    while (at < MIN(guest + bytes, end) && continues(first, point_at(at), at - guest)) {
        at += g->subcluster_size;
    }
    return MIN(at - guest, bytes);
}

/* ---- Random tables ---- */

static uint64_t random_bitmap(GRand *rand)
{
    uint32_t alloc, zero;

    switch (g_rand_int_range(rand, 0, 5)) {
    case 0:
        return UINT32_MAX;
    case 1:
        return UINT64_C(0xffffffff00000000);
    case 2:
        return 0;
    default:
        alloc = g_rand_int(rand);
        zero = g_rand_int(rand) & ~alloc;
        return (uint64_t)zero << 32 | alloc;
    }
}

static L2Entry random_entry(GRand *rand, uint64_t *host)
{
    const Geometry *g = &im.geo;
    L2Entry e = { 0 };

    if (g_rand_int_range(rand, 0, 4)) {
        *host += g->cluster_size; /* mostly a run goes on */
    } else {
        *host = (uint64_t)g_rand_int_range(rand, 100, 1 << 20) << g->cluster_bits;
    }
    switch (g_rand_int_range(rand, 0, 8)) {
    case 0:
        return qcow2_l2_make_compressed(g, *host + 17, g->cluster_size / 2);
    case 1:
        break;
    default:
        e.desc = *host | (g_rand_int_range(rand, 0, 6) ? L2E_COPIED : 0);
    }
    if (g->extended_l2) {
        e.bitmap = random_bitmap(rand);
        e.bitmap &= e.desc ? UINT64_MAX : UINT64_C(0xffffffff00000000);
    } else {
        e.desc |= g_rand_int_range(rand, 0, 4) ? 0 : L2E_ZERO;
    }
    return e;
}

static void fill(GRand *rand)
{
    const Geometry *g = &im.geo;
    uint64_t tables = geo_l1_entries(g, im.size), host = 64 * MiB;

    for (uint64_t t = 0; t < tables; t++) {
        void *l2;

        if (t % 4 == 2) {
            continue; /* no table */
        }
        l2 = mem_image_l2(&im, t);
        for (unsigned i = 0; i < 1u << g->l2_bits; i++) {
            qcow2_l2_store(g, l2, i, random_entry(rand, &host));
        }
    }
}

/* ---- The test ---- */

static int coroutine_fn co_check_runs(void *opaque)
{
    GRand *rand = opaque;

    for (int i = 0; i < 20000; i++) {
        uint64_t guest = (((uint64_t)g_rand_int(rand) << 16) ^ g_rand_int(rand)) % im.size, want;
        uint64_t bytes = (uint64_t)g_rand_int_range(rand, 1, 1 << g_rand_int_range(rand, 1, 24));
        Point p = point_at(guest);
        Extent x;

        bytes = MIN(bytes, im.size - guest);
        g_assert_cmpint(qcow2_map_co_find(q, guest, bytes, &x), ==, 0);
        g_assert_cmpint(x.kind, ==, p.kind);
        g_assert_cmpuint(x.host, ==, p.host);
        want = oracle(guest, bytes);
        if (ldbe64(im.data + im.l1 + geo_l1_index(&im.geo, guest) * 8)) {
            g_assert_cmpuint(x.bytes, ==, want);
        } else { /* without a table it goes on to the next one */
            g_assert_cmpuint(x.bytes, >=, want);
            g_assert_cmpuint(x.bytes, <=, bytes);
            g_assert_cmpint(point_at(guest + x.bytes - 1).kind, ==, SC_UNALLOCATED_PLAIN);
        }
    }
    return 0;
}

static void check_image(unsigned cluster_bits, bool ext, uint64_t size, unsigned slice)
{
    g_autofree char *options = g_strdup_printf("l2-cache-entry-size=%u,l2-cache-size=64k", slice);
    g_autoptr(GRand) rand = g_rand_new_with_seed(cluster_bits * 2 + ext);

    im = (MemImage){
        .cluster_bits = cluster_bits, .refcount_order = 4, .extended_l2 = ext, .size = size
    };
    mem_image_init(&im);
    fill(rand);
    blk = mem_image_open(&im, options);
    q = mem_image_qcow2(blk);
    slice_entries = slice / im.geo.l2_entry_size;
    co_run_sync(co_check_runs, rand);
    blk_close(blk);
    mem_image_clear(&im);
}

static void test_std(void)
{
    check_image(9, false, 700 * KiB, 512);
    check_image(12, false, 30 * MiB, 1024);
    check_image(16, false, 5 * GiB, 4096);
}

static void test_ext(void)
{
    check_image(14, true, 130 * MiB, 4096);
    check_image(16, true, 2 * GiB, 512);
    check_image(16, true, 2 * GiB, 65536);
}

/* Bad entries are reported and never followed; their neighbours are read, up to them. */
static int coroutine_fn co_check_bad(void *opaque)
{
    Extent x;

    g_assert_cmpint(qcow2_map_co_find(q, 0, 10 * im.geo.cluster_size, &x), ==, 0);
    g_assert_cmpuint(x.bytes, ==, im.geo.cluster_size);
    g_assert_cmpint(qcow2_map_co_find(q, im.geo.cluster_size, 512, &x), ==, -EIO);
    return 0;
}

static void test_bad(void)
{
    const uint64_t cs = 65536;
    const L2Entry bad[] = {
        { (101 * cs) | L2E_COPIED, UINT64_C(0x100000001) }, /* both bits */
        { 0, 1 },                                           /* allocated nowhere */
        { (101 * cs + 512) | L2E_COPIED, 1 },               /* not aligned */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        im = (MemImage){
            .cluster_bits = 16, .refcount_order = 4, .extended_l2 = true, .size = 10 * MiB
        };
        mem_image_init(&im);
        qcow2_l2_store(&im.geo, mem_image_l2(&im, 0), 0, qcow2_l2_make_normal(&im.geo, 100 * cs));
        qcow2_l2_store(&im.geo, mem_image_l2(&im, 0), 1, bad[i]);
        blk = mem_image_open(&im, NULL);
        q = mem_image_qcow2(blk);
        co_run_sync(co_check_bad, NULL);
        g_assert_true(ldbe64(last_mem->data + 72) & QCOW2_INCOMPAT_CORRUPT);
        blk_close(blk);
        mem_image_clear(&im);
    }
}

/* ---- cache-clean-interval, when the thread that opened the image is gone ---- */

static gpointer open_in_thread(gpointer unused)
{
    blk = mem_image_open(&im, "cache-clean-interval=1");
    return NULL;
}

static bool is_cached(uint64_t guest)
{
    const Geometry *g = &im.geo;
    uint64_t l2 = ldbe64(im.data + im.l1 + geo_l1_index(g, guest) * 8) & QCOW2_OFFSET_MASK;
    bool cached =
        qcow2_cache_peek_begin(q->l2_cache, l2 + geo_l2_index(g, guest) * g->l2_entry_size) != NULL;

    if (cached) {
        qcow2_cache_peek_end(q->l2_cache);
    }
    return cached;
}

/* Reads that miss clean up; a look at what is cached is a use of it. */
static void test_clean(void)
{
    char buf[512];
    uint64_t table; /* bytes of the disk that an L2 table maps */

    im = (MemImage){ .cluster_bits = 12, .refcount_order = 4, .size = 64 * MiB };
    mem_image_init(&im);
    for (uint64_t i = 0; i < 4; i++) {
        (void)mem_image_l2(&im, i);
    }
    g_thread_join(g_thread_new("opener", open_in_thread, NULL));
    q = mem_image_qcow2(blk);
    table = im.geo.cluster_size << im.geo.l2_bits;
    g_assert_cmpint(blk_pread(blk, 0, sizeof(buf), buf, 0), ==, 0);
    g_usleep(1100000);
    g_assert_cmpint(blk_pread(blk, (int64_t)table, sizeof(buf), buf, 0), ==, 0);
    g_usleep(1100000); /* twice: an entry is kept for one interval after its last use */
    g_assert_cmpint(blk_pread(blk, (int64_t)table * 2, sizeof(buf), buf, 0), ==, 0);
    g_assert_false(is_cached(0));
    g_assert_true(is_cached(table * 2));
    blk_close(blk);
    mem_image_clear(&im);
}

/* ---- The memory that large images share ---- */

#define LARGE_IMAGES 12

static uint64_t l2_budget(BlockBackend *b)
{
    return qcow2_cache_budget(mem_image_qcow2(b)->l2_cache);
}

/* The ninth has its share too, and all of it is given back. */
static void test_budget(void)
{
    BlockBackend *all[LARGE_IMAGES];
    uint64_t sum = 0;
    char buf[512];

    im = (MemImage){ .cluster_bits = 16, .refcount_order = 4, .size = UINT64_C(4) << 40 };
    mem_image_init(&im);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < LARGE_IMAGES; i++) {
            all[i] = mem_image_open(&im, NULL);
            g_assert_cmpuint(l2_budget(all[i]), >=, 4 * MiB);
            g_assert_cmpint(blk_pread(all[i], (int64_t)1 << 41, sizeof(buf), buf, 0), ==, 0);
            sum += l2_budget(all[i]);
        }
        g_assert_cmpuint(l2_budget(all[0]), ==, 32 * MiB);
        g_assert_cmpuint(sum, <=, 256 * MiB);
        for (int i = 0; i < LARGE_IMAGES; i++) {
            blk_close(all[i]);
        }
        sum = 0;
    }
    mem_image_clear(&im);
}

/* A table that was let go of while its slices were cached, and whose place becomes another table:
 * of large clusters that is made zero on disk, not in the cache. */
static void test_table_reused(void)
{
    uint64_t cs = UINT64_C(1) << 17, far = UINT64_C(2) * GiB, data, old;
    uint8_t byte = 1;

    im = (MemImage){ .cluster_bits = 17, .refcount_order = 4, .size = 8 * GiB };
    mem_image_init(&im);
    data = mem_image_alloc(&im);
    memset(im.data + data, 0x77, cs);
    qcow2_l2_store(&im.geo, mem_image_l2(&im, 0), 0, qcow2_l2_make_normal(&im.geo, data));
    old = ldbe64(im.data + im.l1) & QCOW2_OFFSET_MASK;
    im.data[im.l1] &= 0x7f; /* it says that others share it, which is not so */
    blk = mem_image_open(&im, NULL);
    q = mem_image_qcow2(blk);
    g_assert_cmpint(blk_pread(blk, 0, 1, &byte, 0), ==, 0);
    g_assert_cmpint(byte, ==, 0x77);
    g_assert_cmpint(blk_pwrite(blk, cs, 1, &byte, 0), ==, 0); /* a table of its own */
    for (int i = 0; i < 3; i++) {                             /* ... and the old one goes */
        g_assert_cmpint(blk_flush(blk), ==, 0);
    }
    g_assert_cmpint(blk_pwrite(blk, far + cs, 1, &byte, 0), ==, 0);
    g_assert_cmphex(q->l1[1] & QCOW2_OFFSET_MASK, ==, old); /* its place is used again */
    g_assert_cmpint(blk_pread(blk, far, 1, &byte, 0), ==, 0);
    g_assert_cmpint(byte, ==, 0);
    blk_close(blk);
    mem_image_clear(&im);
}

int main(int argc, char **argv)
{
    mem_register();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/map/standard", test_std);
    g_test_add_func("/qcow2/map/extended", test_ext);
    g_test_add_func("/qcow2/map/bad", test_bad);
    g_test_add_func("/qcow2/map/clean", test_clean);
    g_test_add_func("/qcow2/map/budget", test_budget);
    g_test_add_func("/qcow2/map/table-reused", test_table_reused);
    return g_test_run();
}
