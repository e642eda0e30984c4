/* SPDX-License-Identifier: MIT */
/* Races by hand: requests stopped at events of the driver, in one event loop or in two. */
#ifndef TESTS_RACE_H
#define TESTS_RACE_H

#include "tests/lib/fake-file.h"
#include "tests/lib/image.h"

#define ANY 0x100 /* Env.want: anything goes */

typedef enum ReqKind {
    REQ_READ,
    REQ_WRITE,
    REQ_ZERO,
    REQ_UNMAP,
    REQ_DISCARD,
    REQ_COMPRESSED,
    REQ_FLUSH,
    REQ_STATE, /* of a machine, saved from byte "offset" of it on */
    REQ_RESIZE /* to "offset" bytes; "bytes": BlockPrealloc */
} ReqKind;

typedef struct Env {
    const char *name; /* of the case */
    ImageSpec spec;
    bool two_loops;
    int64_t c; /* cluster size */
    BlockBackend *blk;
    IoThread *thread; /* NULL with one loop */
    uint16_t *want;   /* what reads in the end, by byte */
    bool leaks_ok;
} Env;

typedef struct Req Req;

/* A request that goes its own way: in the thread where there is one. */
Req *start(Env *e, ReqKind kind, int64_t offset, int64_t bytes, uint8_t fill);
bool is_done(Req *r);
void let_run(Env *e);           /* what can go on, goes on */
void finish(Env *e, Req *r);    /* ends well; freed */
const uint8_t *data_of(Req *r); /* what a read found */
void wait_done(Env *e, Req *r);
int result(Env *e, Req *r); /* of one that may fail; freed */
void req_free(Req *r);
/* The same at once, in this thread. */
void now(Env *e, ReqKind kind, int64_t offset, int64_t bytes, uint8_t fill);

void stop_at(Env *e, const char *event); /* the next request that gets there */
void wait_stopped(Env *e);
void go_on(Env *e);
void go_on_later(Env *e); /* once this thread polls */

/* What must read in the end: @fill or ANY. */
void want(Env *e, int64_t offset, int64_t bytes, unsigned fill);
void want_backing(Env *e, int64_t offset, int64_t bytes);
/* Each byte reads @a or @b now. */
void expect(Env *e, int64_t offset, int64_t bytes, unsigned a, unsigned b);
void reopen(Env *e);
/* Open and check a copy of the file as it is now, as after a loss of power; @writable: with what a
 * writer does first. */
void check_copy(Env *e, bool writable);

typedef struct RaceCase {
    const char *name;
    void (*run)(Env *e);
    const char *options;                  /* more, to open with; NULL */
    unsigned cluster_size, refcount_bits; /* 0: as usual */
    uint64_t size;
    bool lazy, short_backing, no_extended;
} RaceCase;
extern const RaceCase race_cases[];
extern const unsigned nrace_cases;
extern const RaceCase free_cases[];
extern const unsigned nfree_cases;
extern const RaceCase resize_cases[];
extern const unsigned nresize_cases;

#endif
