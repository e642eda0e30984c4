/* SPDX-License-Identifier: MIT */
/*
 * Model-checked stress: requests of every kind in flight from several event loops, on purpose over
 * each other, with faults in some rounds; all that is read must be what the model (model.h) allows;
 * between phases nothing is in flight and everything is exact; then flush, sometimes close and open
 * again; in the end our check and, where it is installed, the reference's check and its reading of
 * the content.
 *
 * Usage: stress [--seed N] [--rounds N] [--seconds N] [-v]
 */
#include "stress.h"

#include "tests/lib/rand.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HANG_SECONDS 120

static SpinLock say_lock;
static char now_running[800];
static bool verbose;

void round_fail(Round *r, const char *fmt, ...)
{
    va_list ap;

    spin_lock(&say_lock);
    if (!atomic_exchange(&r->failed, true)) {
        printf("# seed %" G_GUINT64_FORMAT ": ", r->seed);
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        printf("\n# %s\n", now_running);
    }
    spin_unlock(&say_lock);
}

static void on_alarm(int sig)
{
    static const char text[] = "# a request hangs\n# ";

    if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0 ||
        write(STDOUT_FILENO, now_running, strlen(now_running)) < 0 ||
        write(STDOUT_FILENO, "\n", 1) < 0) {
        _exit(2);
    }
    abort();
}

/* ---- A phase ---- */

static void start_workers(void *opaque)
{
    Worker *w = opaque;
    Coroutine *co = coroutine_create(worker_co_run, w);

    g_assert_nonnull(co);
    coroutine_enter(co);
}

static void arm_faults(Round *r)
{
    static const unsigned kinds[] = { FAKE_ALL, FAKE_SPACE, FAKE_READ, FAKE_WRITE | FAKE_FLUSH };

    fake_arm(&(FakeFault){ .ops = kinds[rand_below(&r->rand, G_N_ELEMENTS(kinds))],
                           .per_mille = rand_range(&r->rand, 1, 30),
                           .torn = rand_below(&r->rand, 2) });
}

static void run_requests(Round *r, IoThread **threads)
{
    unsigned n = r->threads * r->depth;

    if (r->faults) {
        arm_faults(r);
        r->had_faults = true;
    }
    atomic_store(&r->left, (int)rand_range(&r->rand, 200, 1500));
    atomic_store(&r->running, (int)n);
    alarm(HANG_SECONDS);
    for (unsigned i = 0; i < n; i++) {
        Worker *w = g_new0(Worker, 1);

        w->r = r;
        w->rand = rand_next(&r->rand);
        w->buf = g_malloc(r->m.size);
        aio_bh_schedule_oneshot(io_thread_context(threads[i % r->threads]), start_workers, w);
    }
    while (atomic_load(&r->running) > 0) {
        aio_poll(aio_current(), false);
        if (round_takes_snapshots(r) && !atomic_load(&r->failed)) {
            round_change_snapshots(r);
        }
        g_usleep(200);
    }
    alarm(0);
    r->sync_failed |= (fake_fault_ops() & FAKE_FLUSH) != 0;
    fake_arm(NULL);
}

/* ---- Between phases ---- */

/* All of the disk; what it is, or NULL. */
static uint8_t *read_disk(Round *r, uint64_t since, const char *when)
{
    g_autofree uint8_t *buf = g_malloc0(r->m.size);
    GrainRange g = { 0, model_grain_at(&r->m, blk_getlength(r->blk)) };
    ModelError e;
    int ret = blk_pread(r->blk, 0, blk_getlength(r->blk), buf, 0);

    if (ret < 0) {
        round_fail(r, "%s: reading fails: %s", when, g_strerror(-ret));
        return NULL;
    }
    if (!model_check(&r->m, g, since, buf, &e)) {
        round_fail(r, "%s: finds 0x%02x at %" G_GINT64_FORMAT ": %s", when, e.found, e.offset,
                   e.allowed);
        return NULL;
    }
    return g_steal_pointer(&buf);
}

static bool reopen(Round *r)
{
    g_autoptr(GError) err = NULL;

    blk_close(r->blk);
    r->sync_failed = false;
    r->blk = image_open(&r->spec, BLK_O_RDWR | BLK_O_RESIZE, &err);
    if (!r->blk) {
        round_fail(r, "does not open again: %s", err->message);
    }
    return r->blk != NULL;
}

static void print_line(const char *line, void *opaque)
{
    if (verbose) {
        printf("# check: %s\n", line);
    }
}

static void check_image(Round *r)
{
    BlockCheckResult res;
    int ret = image_check(&r->spec, &res, print_line, NULL);

    if (ret < 0 || res.corruptions || res.check_errors || (res.leaks && !r->had_faults)) {
        round_fail(r, "check says %d, %d errors, %d leaks, %d not checked", ret,
                   (int)res.corruptions, (int)res.leaks, (int)res.check_errors);
    }
}

/* Nothing is in flight. */
static void settle(Round *r)
{
    g_autofree uint8_t *seen = read_disk(r, model_now(&r->m), "quiescent");
    int ret;

    if (!seen) {
        return;
    }
    ret = blk_flush(r->blk);
    if (ret < 0 && !r->sync_failed) {
        round_fail(r, "flush fails, and no sync has failed: %s", g_strerror(-ret));
    }
    if (ret < 0) { /* after a failed sync: newer than the last flush is all that is promised */
        g_free(g_steal_pointer(&seen));
        if (reopen(r)) {
            seen = read_disk(r, atomic_load(&r->flushed), "opened again after a failed flush");
        }
        ret = seen ? blk_flush(r->blk) : 0;
        if (ret < 0) {
            round_fail(r, "flush fails after opening again: %s", g_strerror(-ret));
        }
    }
    if (seen) {
        model_settle(&r->m, seen, blk_getlength(r->blk));
    }
    atomic_store(&r->flushed, 0);
}

static void run_phases(Round *r)
{
    IoThread *threads[MAX_THREADS] = { NULL };
    unsigned phases = rand_range(&r->rand, 2, 4);

    for (unsigned i = 0; i < r->threads; i++) {
        threads[i] = io_thread_new("stress", NULL);
        g_assert_nonnull(threads[i]);
    }
    for (unsigned i = 0; i < phases && !atomic_load(&r->failed); i++) {
        r->faults = r->faulty && rand_below(&r->rand, 3);
        run_requests(r, threads);
        if (!atomic_load(&r->failed)) {
            settle(r);
        }
        r->faults = false;
        if (rand_below(&r->rand, 2) && !atomic_load(&r->failed)) {
            reopen(r);
        }
    }
    for (unsigned i = 0; i < r->threads; i++) {
        io_thread_free(threads[i]);
    }
}

/* ---- A round ---- */

static bool set_up(Round *r)
{
    g_autoptr(GArray) cuts = g_array_new(FALSE, FALSE, sizeof(int64_t));
    g_autoptr(GError) err = NULL;

    fake_setup(&r->setup);
    fake_seed(r->seed);
    fake_arm(NULL);
    round_cuts(r, cuts);
    model_init(&r->m, (int64_t *)(void *)cuts->data, cuts->len);
    r->plain = (atomic_uchar *)g_malloc0(r->m.size / r->spec.cluster_size + 2);
    for (int64_t i = 0; i < MIN(r->spec.backing, (int64_t)r->spec.size); i++) {
        r->m.base[i] = image_backing_fill(i);
    }
    if (image_create(&r->spec, &err) == 0) {
        r->blk = image_open(&r->spec, BLK_O_RDWR | BLK_O_RESIZE, &err);
    }
    if (!r->blk) {
        round_fail(r, "cannot be made: %s", err->message);
    }
    return r->blk != NULL;
}

/* A raw data file is the disk. */
static void check_data_file(Round *r, int64_t size)
{
    FakeContent c = fake_save(IMAGE_DATA);

    if (c.size < size || memcmp(c.data, r->m.base, size)) {
        round_fail(r, "the raw data file is not what the disk is");
    }
    fake_content_clear(&c);
}

static void tear_down(Round *r)
{
    g_autofree char *bad = NULL;
    int64_t size = 0;

    if (r->blk) {
        size = blk_getlength(r->blk);
        blk_close(r->blk);
    }
    if (!atomic_load(&r->failed)) {
        check_image(r);
        /* (Where entries of others could not be written, the file may know more.) */
        if (r->spec.data_raw && !(r->spec.raw_by_others && r->had_faults)) {
            check_data_file(r, size);
        }
        bad = image_ask_reference(&r->spec, r->m.base, size);
        if (bad) {
            round_fail(r, "%s", bad);
        }
    }
    model_clear(&r->m);
    g_array_unref(r->sizes);
    g_free((void *)r->plain);
    for (unsigned i = 0; i < ROUND_SNAPSHOTS; i++) {
        g_free(r->held[i]);
    }
    fake_forget_all();
}

static bool one_round(uint64_t seed)
{
    Round *r = g_new0(Round, 1);
    char what[700];
    bool ok;

    round_plan(r, seed);
    round_describe(r, what, sizeof(what));
    g_snprintf(now_running, sizeof(now_running),
               "stress --seed %" G_GUINT64_FORMAT " --rounds 1: %s", seed, what);
    if (verbose) {
        printf("# %s\n", now_running);
    }
    if (set_up(r)) {
        run_phases(r);
    }
    tear_down(r);
    ok = !atomic_load(&r->failed);
    g_free(r);
    return ok;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, rounds = UINT64_MAX, done = 0, bad = 0;
    int64_t seconds = 20, end;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-v")) {
            verbose = true;
        } else if (i + 1 < argc && !strcmp(argv[i], "--seed")) {
            seed = strtoull(argv[++i], NULL, 0);
        } else if (i + 1 < argc && !strcmp(argv[i], "--rounds")) {
            rounds = strtoull(argv[++i], NULL, 0);
        } else if (i + 1 < argc && !strcmp(argv[i], "--seconds")) {
            seconds = (int64_t)strtoull(argv[++i], NULL, 0);
        } else {
            fprintf(stderr, "Usage: stress [--seed N] [--rounds N] [--seconds N] [-v]\n");
            return 2;
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGALRM, on_alarm);
    fake_init();
    end = aio_clock_ns() + seconds * INT64_C(1000000000);
    while (done < rounds && bad < 5 && (rounds != UINT64_MAX || aio_clock_ns() < end)) {
        bad += !one_round(seed + done);
        done++;
    }
    printf("%sok 1 - stress: %" G_GUINT64_FORMAT " rounds from seed %" G_GUINT64_FORMAT
           ", %llu requests%s\n1..1\n",
           bad ? "not " : "", done, seed, atomic_load(&stress_requests),
           image_has_reference() ? ""
                                 : "; nothing was seen by the reference, which is not installed");
    return bad ? 1 : 0;
}
