/* SPDX-License-Identifier: MIT */
/*
 * The slice cache: hits, misses and eviction within the budget; dirty and held slices stay; seal,
 * write back and what changes meanwhile; drop; faults of loads and writes; loads that others wait
 * for; several threads; and the memory that all images of a process share.
 */
/* Shows INV-CACHE-2, INV-CACHE-3, INV-CACHE-4. */
#include "mem-driver.h"

#include "block/backend.h"
#include "block/qcow2/cache.h"
#include "block/qcow2/options.h"

#include <errno.h>
#include <string.h>

#define SLICE 4096
#define SLICES 256

/* Bytes of slice i are i + 1 at first. */
static uint8_t image[SLICES * SLICE];
static BdrvChild *file;
static MetaCache *cache;

static int coroutine_fn co_open_file(void *slow)
{
    Options *o = opts_new();

    opts_set(o, "driver", "test-mem");
    opts_set(o, "slow", slow ? "on" : "off");
    file = bdrv_co_open_root(NULL, o, BLK_O_RDWR, NULL);
    return 0;
}

static int coroutine_fn co_close_file(void *opaque)
{
    bdrv_co_close_child(file);
    return 0;
}

static void setup(size_t budget, bool slow)
{
    for (size_t i = 0; i < SLICES; i++) {
        memset(image + i * SLICE, (int)i + 1, SLICE);
    }
    mem_preload(image, sizeof(image));
    co_run_sync(co_open_file, slow ? image : NULL);
    g_assert_nonnull(file);
    cache = qcow2_cache_new(file, SLICE, budget * SLICE, BLKDBG_L2_LOAD);
    g_assert_nonnull(cache);
    last_mem->reads = 0;
}

static void teardown(void)
{
    qcow2_cache_free(cache);
    co_run_sync(co_close_file, NULL);
}

static bool cached(uint64_t i)
{
    bool found = qcow2_cache_peek_begin(cache, i * SLICE) != NULL;

    if (found) {
        qcow2_cache_peek_end(cache);
    }
    return found;
}

static size_t count_cached(void)
{
    size_t n = 0;

    for (uint64_t i = 0; i < SLICES; i++) {
        n += cached(i);
    }
    return n;
}

static MetaSlice *coroutine_fn co_hold(uint64_t i)
{
    MetaSlice *s;

    g_assert_cmpint(qcow2_cache_co_get(cache, i * SLICE + 77, &s), ==, 0);
    g_assert_cmpuint(s->offset, ==, i * SLICE);
    return s;
}

static void coroutine_fn co_touch(uint64_t i)
{
    qcow2_cache_put(cache, co_hold(i));
}

static void coroutine_fn co_change(uint64_t i, int byte)
{
    MetaSlice *s = co_hold(i);

    qcow2_cache_modify_begin(cache, s);
    memset(s->data, byte, SLICE);
    qcow2_cache_modify_end(cache, s);
    qcow2_cache_put(cache, s);
}

/* ---- Hits, misses, eviction ---- */

static int coroutine_fn co_hit(void *opaque)
{
    MetaSlice *s;

    g_assert_false(cached(3));
    s = co_hold(3);
    g_assert_cmpint(s->data[SLICE - 1], ==, 4);
    g_assert_cmpint(last_mem->reads, ==, 1);
    g_assert_true(co_hold(3) == s);
    g_assert_cmpint(last_mem->reads, ==, 1);
    qcow2_cache_put(cache, s);
    qcow2_cache_put(cache, s);
    g_assert_true(qcow2_cache_peek_begin(cache, 3 * SLICE + 5) == s);
    qcow2_cache_peek_end(cache);
    return 0;
}

static void test_hit(void)
{
    setup(8, false);
    co_run_sync(co_hit, NULL);
    teardown();
}

static int coroutine_fn co_evict(void *opaque)
{
    for (uint64_t i = 0; i < 100; i++) {
        co_touch(i);
        co_touch(0);
    }
    g_assert_cmpuint(count_cached(), ==, 8);       /* (which counts as a use of them) */
    g_assert_cmpint(last_mem->reads, <=, 100 + 5); /* what is used again and again stays */
    return 0;
}

static void test_evict(void)
{
    setup(8, false);
    co_run_sync(co_evict, NULL);
    teardown();
}

static int coroutine_fn co_dirty_stays(void *opaque)
{
    co_change(0, 0xd0);
    co_change(1, 0xd1);
    g_assert_cmpuint(qcow2_cache_dirty_bytes(cache), ==, 2 * SLICE);
    for (uint64_t i = 2; i < 100; i++) {
        co_touch(i);
    }
    g_assert_true(cached(0) && cached(1));
    g_assert_cmpuint(count_cached(), <=, 8);
    g_assert_cmpint(last_mem->writes, ==, 0);
    return 0;
}

static void test_dirty_stays(void)
{
    setup(8, false);
    co_run_sync(co_dirty_stays, NULL);
    teardown();
}

/* More are held than the budget has room for: it is exceeded, and kept again later. */
static int coroutine_fn co_held(void *opaque)
{
    MetaSlice *s[40];

    for (uint64_t i = 0; i < 40; i++) {
        s[i] = co_hold(i);
    }
    g_assert_cmpuint(count_cached(), ==, 40);
    for (uint64_t i = 0; i < 40; i++) {
        g_assert_cmpint(s[i]->data[0], ==, i + 1);
        qcow2_cache_put(cache, s[i]);
    }
    for (uint64_t i = 100; i < 180; i++) {
        co_touch(i);
    }
    g_assert_cmpuint(count_cached(), <=, 8);
    return 0;
}

static void test_held(void)
{
    setup(8, false);
    co_run_sync(co_held, NULL);
    teardown();
}

static int coroutine_fn co_clean(void *opaque)
{
    MetaSlice *s = co_hold(1);

    co_touch(2);
    co_change(3, 9);
    co_touch(4);
    qcow2_cache_clean(cache);
    g_assert_cmpuint(count_cached(), ==, 4); /* used since it was made; and now, by the count */
    qcow2_cache_clean(cache);
    co_touch(4);
    qcow2_cache_clean(cache);
    g_assert_true(cached(1) && !cached(2) && cached(3)); /* held, idle, dirty */
    g_assert_true(cached(4));                            /* used since the call before */
    qcow2_cache_put(cache, s);
    qcow2_cache_clean(cache);
    qcow2_cache_clean(cache); /* the look at them was a use */
    g_assert_cmpuint(count_cached(), ==, 1);
    return 0;
}

static void test_clean(void)
{
    setup(8, false);
    co_run_sync(co_clean, NULL);
    teardown();
}

/* ---- Seal and write back ---- */

static int coroutine_fn co_seal(void *opaque)
{
    SealedSet set;

    for (uint64_t i = 10; i > 4; i--) { /* dirtied from the end, written from the start */
        co_change(i, 0xa0 + (int)i);
    }
    co_change(20, 0xaa);
    g_assert_cmpint(qcow2_cache_seal(cache, &set), ==, 0);
    g_assert_cmpuint(set.count, ==, 7);
    g_assert_cmpuint(qcow2_cache_dirty_bytes(cache), ==, 0);
    co_change(5, 0xee); /* after the seal: not part of it */
    for (uint64_t i = 100; i < 150; i++) {
        co_touch(i);
    }
    g_assert_true(cached(10)); /* being written: a reload would bring the old bytes */
    g_assert_cmpint(last_mem->writes, ==, 0);
    g_assert_cmpint(qcow2_cache_co_write_sealed(cache, &set, BLKDBG_NONE), ==, 0);
    qcow2_cache_sealed_clear(&set);
    g_assert_cmpint(last_mem->writes, ==, 2); /* neighbours go together */
    g_assert_cmpint(last_mem->data[5 * SLICE], ==, 0xa5);
    g_assert_cmpint(last_mem->data[10 * SLICE + SLICE - 1], ==, 0xaa);
    g_assert_cmpint(last_mem->data[11 * SLICE], ==, 12);
    g_assert_cmpuint(qcow2_cache_dirty_bytes(cache), ==, SLICE);
    g_assert_cmpint(qcow2_cache_seal(cache, &set), ==, 0);
    g_assert_cmpint(qcow2_cache_co_write_sealed(cache, &set, BLKDBG_NONE), ==, 0);
    qcow2_cache_sealed_clear(&set);
    g_assert_cmpint(last_mem->data[5 * SLICE], ==, 0xee);
    g_assert_cmpint(qcow2_cache_seal(cache, &set), ==, 0); /* nothing */
    g_assert_cmpuint(set.count, ==, 0);
    g_assert_cmpint(qcow2_cache_co_write_sealed(cache, &set, BLKDBG_NONE), ==, 0);
    qcow2_cache_sealed_clear(&set);
    return 0;
}

static void test_seal(void)
{
    setup(8, false);
    co_run_sync(co_seal, NULL);
    teardown();
}

static int coroutine_fn co_write_fails(void *opaque)
{
    SealedSet set;

    co_change(1, 0xb1);
    co_change(7, 0xb7);
    g_assert_cmpint(qcow2_cache_seal(cache, &set), ==, 0);
    last_mem->fail_writes = 1;
    g_assert_cmpint(qcow2_cache_co_write_sealed(cache, &set, BLKDBG_NONE), ==, -EIO);
    qcow2_cache_sealed_clear(&set);
    g_assert_cmpuint(qcow2_cache_dirty_bytes(cache), ==, 2 * SLICE);
    last_mem->fail_writes = 0;
    g_assert_cmpint(qcow2_cache_seal(cache, &set), ==, 0);
    qcow2_cache_unseal(cache, &set); /* an earlier step failed */
    qcow2_cache_sealed_clear(&set);
    g_assert_cmpuint(qcow2_cache_dirty_bytes(cache), ==, 2 * SLICE);
    g_assert_cmpint(qcow2_cache_seal(cache, &set), ==, 0);
    g_assert_cmpint(qcow2_cache_co_write_sealed(cache, &set, BLKDBG_NONE), ==, 0);
    qcow2_cache_sealed_clear(&set);
    g_assert_cmpint(last_mem->data[7 * SLICE], ==, 0xb7);

    /* Of several writes the first one fails: all slices are dirty again. */
    co_change(1, 0xc1);
    co_change(7, 0xc7);
    g_assert_cmpint(qcow2_cache_seal(cache, &set), ==, 0);
    last_mem->bad_start = SLICE;
    last_mem->bad_end = 2 * SLICE;
    g_assert_cmpint(qcow2_cache_co_write_sealed(cache, &set, BLKDBG_NONE), ==, -EIO);
    qcow2_cache_sealed_clear(&set);
    last_mem->bad_end = 0;
    g_assert_cmpuint(qcow2_cache_dirty_bytes(cache), ==, 2 * SLICE);
    g_assert_cmpint(qcow2_cache_seal(cache, &set), ==, 0);
    g_assert_cmpint(qcow2_cache_co_write_sealed(cache, &set, BLKDBG_NONE), ==, 0);
    qcow2_cache_sealed_clear(&set);
    g_assert_cmpint(last_mem->data[1 * SLICE], ==, 0xc1);
    g_assert_cmpint(last_mem->data[7 * SLICE], ==, 0xc7);
    return 0;
}

static void test_write_fails(void)
{
    setup(8, false);
    co_run_sync(co_write_fails, NULL);
    teardown();
}

/* ---- New and dropped tables ---- */

static int coroutine_fn co_new_and_drop(void *opaque)
{
    MetaSlice *old = co_hold(4), *s;
    SealedSet set;

    g_assert_cmpint(qcow2_cache_get_new(cache, 4 * SLICE, &s), ==, 0);
    g_assert_true(s != old);
    g_assert_cmpint(s->data[0], ==, 0);
    g_assert_cmpint(old->data[0], ==, 5); /* still its holder's */
    g_assert_true(co_hold(4) == s);
    qcow2_cache_put(cache, s);
    qcow2_cache_put(cache, s);
    qcow2_cache_put(cache, old);
    g_assert_cmpuint(qcow2_cache_dirty_bytes(cache), ==, 0);

    co_change(4, 0xc4);
    co_change(5, 0xc5);
    co_change(6, 0xc6);
    s = co_hold(5);
    qcow2_cache_drop(cache, 4 * SLICE, 2 * SLICE);
    g_assert_cmpuint(qcow2_cache_dirty_bytes(cache), ==, SLICE);
    qcow2_cache_modify_begin(cache, s); /* too late: it is nobody's any more */
    qcow2_cache_modify_end(cache, s);
    qcow2_cache_put(cache, s);
    g_assert_cmpint(qcow2_cache_seal(cache, &set), ==, 0);
    g_assert_cmpuint(set.count, ==, 1);
    qcow2_cache_drop(cache, 6 * SLICE, SLICE); /* while it is written */
    g_assert_cmpint(qcow2_cache_co_write_sealed(cache, &set, BLKDBG_NONE), ==, 0);
    qcow2_cache_sealed_clear(&set);
    g_assert_cmpuint(count_cached(), ==, 0);
    s = co_hold(4);
    g_assert_cmpint(s->data[0], ==, 5); /* the dropped content never reached the file */
    qcow2_cache_put(cache, s);
    return 0;
}

static void test_new_and_drop(void)
{
    setup(8, false);
    co_run_sync(co_new_and_drop, NULL);
    teardown();
}

/* ---- Loads ---- */

typedef struct Loads {
    int want, left, got_error;
} Loads;

static void coroutine_fn load_entry(void *opaque)
{
    Loads *l = opaque;
    MetaSlice *s;
    int ret = qcow2_cache_co_get(cache, 9 * SLICE, &s);

    if (ret == 0) {
        g_assert_cmpint(s->data[0], ==, 10);
        qcow2_cache_put(cache, s);
    }
    g_assert_cmpint(ret, ==, l->want);
    l->left--;
}

static void run_loads(int want, int reads)
{
    Loads l = { .want = want, .left = 10 };

    last_mem->reads = 0;
    for (int i = 0; i < 10; i++) {
        coroutine_enter(coroutine_create(load_entry, &l));
    }
    g_assert_false(cached(9)); /* what is being loaded is no hit */
    AIO_WAIT_WHILE(aio_current(), l.left > 0);
    g_assert_cmpint(last_mem->reads, ==, reads);
}

/* Ten want it, one loads it; a failure is told to all, and the next try is a new one. */
static void test_loads(void)
{
    setup(8, true);
    last_mem->fail_reads = 1;
    run_loads(-EIO, 1);
    g_assert_false(cached(9));
    last_mem->fail_reads = 0;
    run_loads(0, 1);
    g_assert_true(cached(9));
    qcow2_cache_drop(cache, 9 * SLICE, SLICE);
    g_assert_false(cached(9));
    teardown();
}

/* ---- Threads ---- */

typedef struct Stress {
    CoMutex meta_lock;
    atomic_int left;
} Stress;

static void coroutine_fn reader_entry(void *opaque)
{
    Stress *st = opaque;
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)atomic_load(&st->left));

    for (int i = 0; i < 1500; i++) {
        uint64_t at = (uint64_t)g_rand_int_range(rand, 0, 40);
        MetaSlice *s = qcow2_cache_peek_begin(cache, at * SLICE);

        if (s) {
            g_assert_cmpint(s->data[0], ==, s->data[SLICE - 1]); /* changes are seen whole */
            qcow2_cache_peek_end(cache);
        } else {
            co_touch(at);
        }
    }
    atomic_fetch_sub(&st->left, 1);
}

static void coroutine_fn writer_entry(void *opaque)
{
    Stress *st = opaque;

    for (int i = 0; i < 300; i++) {
        SealedSet set;

        co_mutex_lock(&st->meta_lock);
        co_change((uint64_t)(i * 7 % 40), i);
        if (i % 20) {
            co_mutex_unlock(&st->meta_lock);
            continue;
        }
        g_assert_cmpint(qcow2_cache_seal(cache, &set), ==, 0);
        co_mutex_unlock(&st->meta_lock);
        g_assert_cmpint(qcow2_cache_co_write_sealed(cache, &set, BLKDBG_NONE), ==, 0);
        qcow2_cache_sealed_clear(&set);
    }
    atomic_fetch_sub(&st->left, 1);
}

static void test_threads(void)
{
    Stress st = { .left = 8 };
    IoThread *t[4];

    setup(8, true);
    co_mutex_init(&st.meta_lock);
    for (int i = 0; i < 4; i++) {
        t[i] = io_thread_new("cache", NULL);
    }
    for (int i = 0; i < 8; i++) {
        aio_co_schedule(io_thread_context(t[i % 4]),
                        coroutine_create(i == 7 ? writer_entry : reader_entry, &st));
    }
    while (atomic_load(&st.left) > 0) {
        g_usleep(1000);
    }
    for (int i = 0; i < 4; i++) {
        io_thread_free(t[i]);
    }
    teardown();
}

/* ---- The budget of the process ---- */

/* Nobody takes more than a quarter of what is left. */
static void test_budget(void)
{
    uint64_t a = qcow2_budget_take(200 * MiB, MiB), b = qcow2_budget_take(200 * MiB, MiB);
    uint64_t c = qcow2_budget_take(200 * MiB, 40 * MiB), d, rest = 256 * MiB;
    uint64_t all[40];

    g_assert_cmpuint(a, ==, 64 * MiB);
    g_assert_cmpuint(b, ==, 48 * MiB);
    g_assert_cmpuint(c, ==, 40 * MiB); /* the floor, whatever the others have */
    qcow2_budget_return(a);
    d = qcow2_budget_take(100 * MiB, MiB);
    g_assert_cmpuint(d, ==, 42 * MiB);
    g_assert_cmpuint(qcow2_budget_take(10, MiB), ==, 10); /* never more than wanted */
    qcow2_budget_return(10);
    qcow2_budget_return(b);
    qcow2_budget_return(c);
    qcow2_budget_return(d);
    for (int i = 0; i < 40; i++) { /* all of it came back */
        all[i] = qcow2_budget_take(32 * MiB, MiB);
        g_assert_cmpuint(all[i], ==, MAX(MIN(32 * MiB, rest / 4), MiB));
        rest -= MIN(rest, all[i]);
    }
    g_assert_cmpuint(all[8], >, 8 * MiB);
    for (int i = 0; i < 40; i++) {
        qcow2_budget_return(all[i]);
    }
    g_assert_cmpuint(qcow2_budget_take(UINT64_MAX, 0), ==, 64 * MiB);
    qcow2_budget_return(64 * MiB);
}

int main(int argc, char **argv)
{
    mem_register();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/cache/hit", test_hit);
    g_test_add_func("/qcow2/cache/evict", test_evict);
    g_test_add_func("/qcow2/cache/dirty-stays", test_dirty_stays);
    g_test_add_func("/qcow2/cache/held", test_held);
    g_test_add_func("/qcow2/cache/clean", test_clean);
    g_test_add_func("/qcow2/cache/seal", test_seal);
    g_test_add_func("/qcow2/cache/write-fails", test_write_fails);
    g_test_add_func("/qcow2/cache/new-and-drop", test_new_and_drop);
    g_test_add_func("/qcow2/cache/loads", test_loads);
    g_test_add_func("/qcow2/cache/threads", test_threads);
    g_test_add_func("/qcow2/cache/budget", test_budget);
    return g_test_run();
}
