/* SPDX-License-Identifier: MIT */
/*
 * Pins and quarantine on a real (small) image: a freed cluster keeps its refcount until the
 * requests that were in flight have ended AND the change is on stable storage, whichever comes
 * last; later requests do not hold it back for ever; compressed ranges, punching, errors; and
 * readers of several threads against a writer that frees.
 */
/* Shows INV-PIN-2, INV-PIN-3. */
#include "mem-driver.h"
#include "mem-image.h"

#include "block/qcow2/alloc.h"
#include "block/qcow2/reap.h"
#include "block/qcow2/refcount.h"
#include "tests/lib/with-co-lock.h"

#include <string.h>

static MemImage im;
static BlockBackend *blk;
static Qcow2 *q;

static void setup(void)
{
    im =
        (MemImage){ .cluster_bits = 16, .refcount_order = 4, .extended_l2 = true, .size = 8 * MiB };
    mem_image_init(&im);
    blk = mem_image_open(&im, NULL);
    q = mem_image_qcow2(blk);
}

static void teardown(void)
{
    BlockCheckResult res = { 0 };

    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(blk_check(blk, &res, 0, NULL, NULL), ==, 0);
    g_assert_cmpint(res.corruptions, ==, 0);
    blk_close(blk);
    mem_image_clear(&im);
}

static uint64_t coroutine_fn co_alloc(uint64_t n)
{
    uint64_t offset;

    WITH_CO_LOCK(&q->alloc.meta_lock)
    {
        g_assert_cmpint(qcow2_alloc_co_clusters(&q->alloc, n, &offset), ==, 0);
    }
    return offset;
}

static uint64_t coroutine_fn co_count(uint64_t offset)
{
    uint64_t count;

    WITH_CO_LOCK(&q->alloc.meta_lock)
    {
        g_assert_cmpint(qcow2_refcount_co_get(&q->alloc, offset >> q->geo.cluster_bits, &count), ==,
                        0);
    }
    return count;
}

/* Let go of. */
static void coroutine_fn co_free(uint64_t offset, uint64_t bytes)
{
    WITH_CO_LOCK(&q->alloc.meta_lock)
    {
        qcow2_quarantine_add(q->quarantine, offset, bytes, true);
    }
}

/* As one that has data in the file: past the file's end nothing is punched. */
static void coroutine_fn co_fill(uint64_t offset, uint64_t n, uint8_t byte)
{
    g_autofree uint8_t *buf = g_malloc(n * q->geo.cluster_size);

    memset(buf, byte, n * q->geo.cluster_size);
    g_assert_cmpint(bdrv_co_pwrite(q->file, offset, n * q->geo.cluster_size, buf, 0), ==, 0);
}

/* As a flush begins: the generation is closed. */
static QuarantineMark coroutine_fn co_mark(void)
{
    QuarantineMark m = { 0 };

    WITH_CO_LOCK(&q->alloc.meta_lock)
    {
        m = qcow2_quarantine_mark(q->quarantine);
    }
    return m;
}

/* As a flush: all of it is on disk. */
static void coroutine_fn co_sync(void)
{
    qcow2_quarantine_synced(q->quarantine, co_mark());
}

static void coroutine_fn co_reap(void)
{
    for (int i = 0; i < 3; i++) { /* the epoch moves once in a round */
        g_assert_cmpint(qcow2_reap_co_ready(q), ==, 0);
    }
}

static int coroutine_fn co_both_needed(void *opaque)
{
    uint64_t cs = q->geo.cluster_size, a = co_alloc(1), b = co_alloc(1);
    QuarantineMark older;
    unsigned token = qcow2_pin_enter(q->pin);

    /* The sync comes first. */
    co_free(a, cs);
    g_assert_cmpuint(qcow2_quarantine_bytes(q->quarantine), ==, cs);
    co_reap();
    g_assert_cmpuint(co_count(a), ==, 1);
    co_sync();
    co_reap();
    g_assert_cmpuint(co_count(a), ==, 1);
    qcow2_pin_leave(q->pin, token);
    co_reap();
    g_assert_cmpuint(co_count(a), ==, 0);
    g_assert_cmpuint(qcow2_quarantine_bytes(q->quarantine), ==, 0);

    /* The request ends first. */
    token = qcow2_pin_enter(q->pin);
    older = co_mark();
    co_free(b, cs);
    qcow2_pin_leave(q->pin, token);
    co_reap();
    g_assert_cmpuint(co_count(b), ==, 1);
    qcow2_quarantine_synced(q->quarantine, older);
    co_reap();
    g_assert_cmpuint(co_count(b), ==, 1);
    co_sync();
    co_reap();
    g_assert_cmpuint(co_count(b), ==, 0);
    return 0;
}

static void test_both_needed(void)
{
    setup();
    co_run_sync(co_both_needed, NULL);
    teardown();
}

/* No allocation finds it meanwhile; afterwards one does. */
static int coroutine_fn co_no_reuse(void *opaque)
{
    uint64_t cs = q->geo.cluster_size, a = co_alloc(1);
    unsigned token = qcow2_pin_enter(q->pin);

    co_free(a, cs);
    co_sync();
    for (int i = 0; i < 20; i++) {
        uint64_t other;

        co_reap();
        other = co_alloc(1);
        g_assert_cmpuint(other, !=, a);
        co_free(other, cs);
        co_sync();
    }
    qcow2_pin_leave(q->pin, token);
    co_reap();
    g_assert_cmpuint(co_count(a), ==, 0);
    g_assert_cmpuint(co_alloc(1), ==, a); /* the lowest free one */
    co_free(a, cs);
    co_sync();
    return 0;
}

static void test_no_reuse(void)
{
    setup();
    co_run_sync(co_no_reuse, NULL);
    teardown();
}

/* There is always a request in flight, and a busy image frees all the same: two turns of requests
 * later. */
static int coroutine_fn co_busy(void *opaque)
{
    uint64_t cs = q->geo.cluster_size;
    unsigned before = qcow2_pin_enter(q->pin);
    uint64_t earlier = co_alloc(1);

    co_free(earlier, cs);
    co_sync();
    for (int i = 0; i < 20; i++) {
        uint64_t a = co_alloc(1);
        unsigned after;

        co_free(a, cs);
        co_sync();
        co_reap();
        after = qcow2_pin_enter(q->pin);
        qcow2_pin_leave(q->pin, before);
        co_reap();
        g_assert_cmpuint(co_count(earlier), ==, 0);
        earlier = a;
        before = after;
    }
    qcow2_pin_leave(q->pin, before);
    return 0;
}

static void test_busy(void)
{
    setup();
    co_run_sync(co_busy, NULL);
    teardown();
}

/* In order, run by run; neighbours of one generation are one entry. */
static int coroutine_fn co_order(void *opaque)
{
    uint64_t cs = q->geo.cluster_size, run = co_alloc(4), later = co_alloc(1);
    unsigned token = qcow2_pin_enter(q->pin);

    for (int i = 0; i < 4; i++) {
        co_free(run + (uint64_t)i * cs, cs);
    }
    g_assert_cmpuint(qcow2_quarantine_bytes(q->quarantine), ==, 4 * cs);
    co_sync();
    co_free(later, cs); /* not synced */
    qcow2_pin_leave(q->pin, token);
    co_reap();
    for (int i = 0; i < 4; i++) {
        g_assert_cmpuint(co_count(run + (uint64_t)i * cs), ==, 0);
    }
    g_assert_cmpuint(co_count(later), ==, 1);
    co_sync();
    co_reap();
    g_assert_cmpuint(co_count(later), ==, 0);
    return 0;
}

static void test_order(void)
{
    setup();
    co_run_sync(co_order, NULL);
    teardown();
}

/* Two users of one cluster (a snapshot, compressed neighbours): each release takes one count. */
static int coroutine_fn co_shared(void *opaque)
{
    uint64_t cs = q->geo.cluster_size, a = co_alloc(2);

    WITH_CO_LOCK(&q->alloc.meta_lock)
    {
        g_assert_cmpint(qcow2_alloc_co_add_refs(&q->alloc, a >> q->geo.cluster_bits, 1), ==, 0);
    }
    co_fill(a, 2, 0x77);
    co_free(a + 100, cs);
    co_sync(); /* a compressed range over both clusters */
    co_reap();
    g_assert_cmpuint(co_count(a), ==, 1);
    g_assert_cmpint(last_mem->data[a], ==, 0x77); /* not punched: someone is left */
    g_assert_cmpuint(co_count(a + cs), ==, 0);
    g_assert_cmpint(last_mem->data[a + cs], !=, 0x77); /* nobody was: it is */
    co_free(a, cs);
    co_sync();
    co_reap();
    g_assert_cmpuint(co_count(a), ==, 0);
    g_assert_cmpint(last_mem->data[a], !=, 0x77);
    return 0;
}

static void test_shared(void)
{
    setup();
    co_run_sync(co_shared, NULL);
    teardown();
}

/* After a failed sync nothing is given free any more: what the disk says is not known. */
static int coroutine_fn co_broken(void *opaque)
{
    uint64_t a = co_alloc(1);

    co_free(a, q->geo.cluster_size);
    co_sync();
    atomic_store(&q->health.write_error, -EIO);
    g_assert_cmpint(qcow2_reap_co_ready(q), ==, 0);
    g_assert_cmpuint(co_count(a), ==, 1);
    return 0;
}

static void test_broken(void)
{
    setup();
    co_run_sync(co_broken, NULL);
    blk_close(blk);
    mem_image_clear(&im);
}

/* A whole flush is what syncs: an overwrite by zeroes gives the clusters back after it, not
 * before. */
static void test_flush(void)
{
    g_autofree uint8_t *buf = g_malloc(MiB);
    uint64_t cs;

    setup();
    cs = q->geo.cluster_size;
    memset(buf, 1, MiB);
    g_assert_cmpint(blk_pwrite(blk, 0, MiB, buf, 0), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(blk_pdiscard(blk, 0, MiB), ==, 0);
    g_assert_cmpuint(qcow2_quarantine_bytes(q->quarantine), ==, MiB / cs * cs);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpuint(qcow2_quarantine_bytes(q->quarantine), ==, 0);
    teardown();
}

/* ---- Epochs ---- */

/* As many reaps as the epoch needs to move twice, were nobody in its way. */
static void coroutine_fn co_reap_much(void)
{
    for (int i = 0; i < 5; i++) {
        co_reap();
    }
}

/*
 * Neighbours let go of in different epochs leave each in its turn: the request that came between
 * the two can have found the second one only, and holds that back alone.
 */
static int coroutine_fn co_epochs_apart(void *opaque)
{
    uint64_t cs = q->geo.cluster_size, a = co_alloc(2), b = a + cs;
    unsigned before = qcow2_pin_enter(q->pin), between;

    co_free(a, cs);
    g_assert_cmpint(qcow2_reap_co_ready(q), ==,
                    0); /* the epoch moves: nobody is left of the last */
    between = qcow2_pin_enter(q->pin);
    g_assert_cmpuint(between, !=, before); /* it did move */
    co_free(b, cs);
    co_sync();
    co_reap_much();
    g_assert_cmpuint(co_count(a), ==, 1);
    qcow2_pin_leave(q->pin, before);
    co_reap_much();
    g_assert_cmpuint(co_count(a), ==, 0);
    g_assert_cmpuint(co_count(b), ==, 1); /* it may be read until the one between has ended */
    qcow2_pin_leave(q->pin, between);
    co_reap_much();
    g_assert_cmpuint(co_count(b), ==, 0);
    return 0;
}

static void test_epochs_apart(void)
{
    setup();
    co_run_sync(co_epochs_apart, NULL);
    teardown();
}

/* The epoch does not move on past a request: two moves later its parity would be another's. */
static int coroutine_fn co_epoch_waits(void *opaque)
{
    uint64_t cs = q->geo.cluster_size, a = co_alloc(1);
    unsigned first = qcow2_pin_enter(q->pin), second, third;

    co_free(co_alloc(1), cs);
    co_sync(); /* something to reap, or no epoch is looked at */
    co_reap_much();
    second = qcow2_pin_enter(q->pin);
    g_assert_cmpuint(second, !=, first);
    co_reap_much();
    third = qcow2_pin_enter(q->pin);
    g_assert_cmpuint(third, ==, second); /* the first one is in the way */
    co_free(a, cs);
    co_sync();
    qcow2_pin_leave(q->pin, first);
    co_reap_much();
    g_assert_cmpuint(co_count(a), ==, 1);
    qcow2_pin_leave(q->pin, second);
    co_reap_much();
    g_assert_cmpuint(co_count(a), ==, 1);
    qcow2_pin_leave(q->pin, third);
    co_reap_much();
    g_assert_cmpuint(co_count(a), ==, 0);
    return 0;
}

static void test_epoch_waits(void)
{
    setup();
    co_run_sync(co_epoch_waits, NULL);
    teardown();
}

/* Neighbours of two generations: the one that is on stable storage goes alone. */
static int coroutine_fn co_generations_apart(void *opaque)
{
    uint64_t cs = q->geo.cluster_size, a = co_alloc(2);
    QuarantineMark first;

    co_free(a, cs);
    first = co_mark(); /* a flush has sealed what there was */
    co_free(a + cs, cs);
    qcow2_quarantine_synced(q->quarantine, first);
    co_reap_much();
    g_assert_cmpuint(co_count(a), ==, 0);
    g_assert_cmpuint(co_count(a + cs), ==, 1);
    co_sync();
    co_reap_much();
    g_assert_cmpuint(co_count(a + cs), ==, 0);
    return 0;
}

static void test_generations_apart(void)
{
    setup();
    co_run_sync(co_generations_apart, NULL);
    teardown();
}

/* ---- Threads ---- */

#define MAX_CLUSTERS 64

typedef struct Stress {
    _Atomic uint64_t current;             /* the mapping: use * MAX_CLUSTERS + cluster */
    _Atomic uint64_t owner[MAX_CLUSTERS]; /* use of each cluster, 0: free */
    atomic_bool stop;
    atomic_int readers;
} Stress;

static void assert_mine(Stress *st, uint64_t mapping)
{
    g_assert_cmpuint(atomic_load(&st->owner[mapping % MAX_CLUSTERS]), ==, mapping / MAX_CLUSTERS);
}

static void coroutine_fn reader_entry(void *opaque)
{
    Stress *st = opaque;

    for (int i = 0; !atomic_load(&st->stop); i++) {
        unsigned token = qcow2_pin_enter(q->pin);
        uint64_t mapping = atomic_load_explicit(&st->current, memory_order_acquire);

        for (int k = i % 3 ? 1 : 50; k > 0; k--) {
            co_reschedule_self(); /* the I/O */
            assert_mine(st, mapping);
        }
        qcow2_pin_leave(q->pin, token);
    }
    atomic_fetch_sub(&st->readers, 1);
}

/* Gives the cluster its next use and maps it. */
static void coroutine_fn co_map_fresh(Stress *st, uint64_t use)
{
    uint64_t c = co_alloc(1) / q->geo.cluster_size;

    g_assert_cmpuint(c, <, MAX_CLUSTERS); /* the quarantine is emptied all along */
    g_assert_cmpuint(atomic_load(&st->owner[c]), ==, 0);
    atomic_store(&st->owner[c], use);
    atomic_store_explicit(&st->current, use * MAX_CLUSTERS + c, memory_order_release);
}

static int coroutine_fn first_cluster(void *opaque)
{
    co_map_fresh(opaque, 1);
    return 0;
}

static int coroutine_fn writer_run(void *opaque)
{
    Stress *st = opaque;
    uint64_t cs = q->geo.cluster_size;

    for (uint64_t use = 2; use < 400; use++) {
        uint64_t old = atomic_load(&st->current) % MAX_CLUSTERS;

        co_map_fresh(st, use);
        co_free(old * cs, cs);
        co_sync();
        do {
            g_assert_cmpint(qcow2_reap_co_ready(q), ==, 0);
            co_reschedule_self();
        } while (qcow2_quarantine_bytes(q->quarantine) > 30 * cs);
        for (uint64_t c = 0; c < MAX_CLUSTERS; c++) { /* see which ones are free now */
            if (atomic_load(&st->owner[c]) && co_count(c * cs) == 0) {
                atomic_store(&st->owner[c], 0);
            }
        }
    }
    co_free(atomic_load(&st->current) % MAX_CLUSTERS * cs, cs);
    co_sync();
    return 0;
}

static void test_threads(void)
{
    Stress *st = g_new0(Stress, 1);
    IoThread *t[3];

    setup();
    co_run_sync(first_cluster, st);
    atomic_store(&st->readers, 6);
    atomic_store(&st->stop, false);
    for (int i = 0; i < 3; i++) {
        t[i] = io_thread_new("pin", NULL);
    }
    for (int i = 0; i < 6; i++) {
        aio_co_schedule(io_thread_context(t[i % 3]), coroutine_create(reader_entry, st));
    }
    co_run_sync(writer_run, st);
    atomic_store(&st->stop, true);
    while (atomic_load(&st->readers) > 0) {
        g_usleep(1000);
    }
    for (int i = 0; i < 3; i++) {
        io_thread_free(t[i]);
    }
    teardown();
    g_free(st);
}

int main(int argc, char **argv)
{
    mem_register();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/pin/both-needed", test_both_needed);
    g_test_add_func("/qcow2/pin/no-reuse", test_no_reuse);
    g_test_add_func("/qcow2/pin/busy", test_busy);
    g_test_add_func("/qcow2/pin/order", test_order);
    g_test_add_func("/qcow2/pin/shared", test_shared);
    g_test_add_func("/qcow2/pin/broken", test_broken);
    g_test_add_func("/qcow2/pin/flush", test_flush);
    g_test_add_func("/qcow2/pin/epochs-apart", test_epochs_apart);
    g_test_add_func("/qcow2/pin/epoch-waits", test_epoch_waits);
    g_test_add_func("/qcow2/pin/generations-apart", test_generations_apart);
    g_test_add_func("/qcow2/pin/threads", test_threads);
    return g_test_run();
}
