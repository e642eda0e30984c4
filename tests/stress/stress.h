/* SPDX-License-Identifier: MIT */
/* One round of stress: an image, its model, phases of many requests in flight. */
#ifndef TESTS_STRESS_H
#define TESTS_STRESS_H

#include "model.h"
#include "tests/lib/fake-file.h"
#include "tests/lib/image.h"

#define MAX_THREADS 4
#define ROUND_SNAPSHOTS 3

typedef struct Round {
    uint64_t seed, rand;
    ImageSpec spec;
    FakeSetup setup;
    unsigned threads, depth; /* event loops; coroutines in each */
    bool resizes, faulty;
    int64_t smallest; /* the disk never gets smaller */
    GArray *sizes;    /* of int64_t: what it may become, whole sectors, each the edge of a grain */
    atomic_uchar *plain; /* a cluster each: it may be one that is written in place */
    Model m;
    unsigned snapshots;     /* that are there, as bits; changes between and in phases, one thread */
    uint8_t *held[ROUND_SNAPSHOTS]; /* what each held when it had been made */
    int64_t held_bytes[ROUND_SNAPSHOTS];
    uint64_t snapshot_rand; /* their own: how many changes there are is a matter of time */
    BlockBackend *blk;
    atomic_bool failed;
    /* of a phase: */
    atomic_int left, running;
    bool faults;      /* are injected */
    bool sync_failed; /* since the image was opened: the node takes no more writes */
    bool had_faults;  /* were, since the image was made: leaks are no surprise */
    atomic_uint next_op;
    atomic_uint_fast64_t
        flushed; /* model time at which the last flush that ended well began; 0: none */
} Round;

/* Everything of @r that the seed decides. */
void round_plan(Round *r, uint64_t seed);
void round_cuts(Round *r, GArray *cuts); /* fills r->sizes, too */
void round_describe(const Round *r, char *buf, size_t len);

/* snapshots.c: does the round make some, by its plan? */
bool round_takes_snapshots(const Round *r);
/* One is made or deleted, beside requests. */
void round_change_snapshots(Round *r);

/* Say it once and mark the round failed. */
void round_fail(Round *r, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* One worker: requests until none are left. */
typedef struct Worker {
    Round *r;
    uint64_t rand;
    uint8_t *buf;
} Worker;
void coroutine_fn worker_co_run(void *opaque); /* of a Worker */
extern atomic_ullong stress_requests;

#endif
