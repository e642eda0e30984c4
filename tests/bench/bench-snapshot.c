/* SPDX-License-Identifier: MIT */
/*
 * How long a guest waits while an internal snapshot of its disk is made, and deleted: random
 * requests of 4 KiB, half of them writes, in a loop of their own.
 *
 * Usage: bench-snapshot [-d DEPTH] [-t SECONDS] IMAGE
 * -d: requests in flight (1). -t: without a snapshot before, and between making and deleting it
 * (1). Prints for each phase: its name, seconds, requests a second, the longest wait in ms.
 */
#include "block/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum Phase { IDLE, CREATE, BETWEEN, DELETE, NPHASES } Phase;
static const char *const names[] = { "idle", "create", "between", "delete" };

typedef struct Guest {
    BlockBackend *blk;
    int64_t blocks;
    atomic_int phase, in_flight, ret;
    atomic_int_fast64_t longest[NPHASES], requests[NPHASES]; /* ns */
    atomic_bool stop;
    uint64_t seed;
} Guest;

/* xorshift64*; in the guest's loop. */
static uint64_t next(Guest *g)
{
    g->seed ^= g->seed >> 12;
    g->seed ^= g->seed << 25;
    g->seed ^= g->seed >> 27;
    return g->seed * UINT64_C(2685821657736338717) >> 11;
}

static void note(Guest *g, int phase, int64_t ns)
{
    if (ns > atomic_load(&g->longest[phase])) {
        atomic_store(&g->longest[phase], ns);
    }
}

static void coroutine_fn worker(void *opaque)
{
    Guest *g = opaque;
    void *buf = mem_align_try(4096, 4096);

    memset(buf, 0x5a, 4096);
    while (!atomic_load(&g->stop) && !atomic_load(&g->ret)) {
        int64_t offset = (int64_t)(next(g) % (uint64_t)g->blocks) * 4096;
        int64_t start = aio_clock_ns(), took;
        int before = atomic_load(&g->phase), after, ret;
        IOVector v;

        iov_init_buf(&v, buf, 4096);
        ret = next(g) % 2 ? blk_co_pwritev(g->blk, offset, &v, 0)
                          : blk_co_preadv(g->blk, offset, &v, 0);
        if (ret < 0) {
            atomic_store(&g->ret, ret);
        }
        took = aio_clock_ns() - start;
        after = atomic_load(&g->phase);
        note(g, before, took);
        note(g, after, took);
        atomic_fetch_add(&g->requests[after], 1);
        co_reschedule_self(); /* the others of this loop: one that waits for nothing never ends */
    }
    mem_align_free(buf);
    atomic_fetch_sub(&g->in_flight, 1);
}

static void start_worker(void *opaque)
{
    coroutine_enter(coroutine_create(worker, opaque));
}

static int change(BlockBackend *blk, Phase phase, double seconds, GError **err)
{
    const BlockSnapshotInfo info = { .name = "bench" };

    switch (phase) {
    case CREATE:
        return blk_snapshot_create(blk, &info, err);
    case DELETE:
        return blk_snapshot_delete(blk, NULL, "bench", err);
    case IDLE:
    case BETWEEN:
    case NPHASES:
        break;
    }
    g_usleep((gulong)(seconds * 1e6));
    return 0;
}

static int run(Guest *g, double seconds)
{
    for (int p = IDLE; p < NPHASES; p++) {
        int64_t start = aio_clock_ns();
        g_autoptr(GError) err = NULL;
        double took;

        atomic_store(&g->phase, p);
        if (change(g->blk, (Phase)p, seconds, &err) < 0) {
            fprintf(stderr, "bench-snapshot: %s\n", err->message);
            return 1;
        }
        took = (double)(aio_clock_ns() - start) / 1e9;
        printf("%s seconds=%.3f iops=%.0f longest_ms=%.2f\n", names[p], took,
               (double)atomic_load(&g->requests[p]) / took,
               (double)atomic_load(&g->longest[p]) / 1e6);
    }
    if (atomic_load(&g->ret)) {
        fprintf(stderr, "bench-snapshot: a request failed: %s\n",
                g_strerror(-atomic_load(&g->ret)));
    }
    return atomic_load(&g->ret) != 0;
}

int main(int argc, char **argv)
{
    static Guest g = { .seed = 88172645463325252u };
    Options *o = opts_new();
    g_autoptr(GError) err = NULL;
    double seconds = 1;
    int depth = 1, c, ret;
    IoThread *thread;

    while ((c = getopt(argc, argv, "d:t:")) != -1) {
        depth = c == 'd' ? atoi(optarg) : depth;
        seconds = c == 't' ? g_ascii_strtod(optarg, NULL) : seconds;
    }
    if (optind >= argc || depth <= 0) {
        fprintf(stderr, "bench-snapshot: an image is needed\n");
        return 2;
    }
    opts_set(o, "driver", "qcow2");
    g.blk = blk_open(argv[optind], o, BLK_O_RDWR, &err);
    if (!g.blk) {
        fprintf(stderr, "bench-snapshot: %s: %s\n", argv[optind], err->message);
        return 1;
    }
    g.blocks = blk_getlength(g.blk) / 4096;
    thread = io_thread_new("guest", NULL);
    atomic_store(&g.in_flight, depth);
    for (int i = 0; i < depth; i++) {
        aio_bh_schedule_oneshot(io_thread_context(thread), start_worker, &g);
    }
    ret = run(&g, seconds);
    atomic_store(&g.stop, true);
    while (atomic_load(&g.in_flight)) {
        aio_poll(aio_current(), false);
        g_usleep(1000);
    }
    io_thread_free(thread);
    return blk_close(g.blk) < 0 ? 1 : ret;
}
