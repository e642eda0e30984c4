/* SPDX-License-Identifier: MIT */
/*
 * What a disk may hold while requests overlap, byte by byte.
 *
 * The disk is cut into grains at arbitrary bytes; a request covers whole grains. Of each grain all
 * writes since the last quiescent point are kept, with the times when they began and ended. A read
 * may see
 *
 *   the value of a write that began before the read ended, unless another write that began after it
 * ended had itself ended well before the read began;
 *
 * and so it goes for each byte on its own: requests are not atomic. A failed write (or one that is
 * but a hint) may have happened or not: its value is possible until a later one ends well, and it
 * rules out nothing.
 */
#ifndef TESTS_STRESS_MODEL_H
#define TESTS_STRESS_MODEL_H

#include "util/compiler.h"
#include "util/spinlock.h"

typedef struct Grain Grain;

typedef struct Model {
    SpinLock lock; /* of clock, and of the grains' records */
    uint64_t clock;
    unsigned ngrains;
    Grain *grains;
    int64_t size;  /* of all grains */
    uint8_t *base; /* what stood there at the last quiescent point */
} Model;

/* [first, first + n) grains */
typedef struct GrainRange {
    unsigned first, n;
} GrainRange;

typedef struct ModelError {
    int64_t offset;
    uint8_t found;
    char allowed[400];
} ModelError;

/* @cuts: ascending, from 0 to the size of the disk; @n of them. */
void model_init(Model *m, const int64_t *cuts, unsigned n);
void model_clear(Model *m);
int64_t model_start(const Model *m, GrainRange r);
int64_t model_bytes(const Model *m, GrainRange r);
/* First grain that begins at or after @offset. */
unsigned model_grain_at(const Model *m, int64_t offset);

/* The bytes that write @op puts at disk offset @offset; of odd ones they compress, some have
 * holes. */
void model_fill(uint32_t op, int64_t offset, int64_t bytes, uint8_t *buf);

/* @op: unique, not 0. @zero: it writes zeroes. */
void model_write_begin(Model *m, GrainRange r, uint32_t op, bool zero);
/* Of @r the grains [@sure.first, + @sure.n) were written for certain, the others maybe. */
void model_write_end(Model *m, GrainRange r, uint32_t op, GrainRange sure);
uint64_t model_now(Model *m);
/* Was @buf allowed for a read of @r that began at @begin and ends now? */
bool model_check(Model *m, GrainRange r, uint64_t begin, const uint8_t *buf, ModelError *e);
/* May it all read zero? */
bool model_may_be_zero(Model *m, GrainRange r, uint64_t begin, ModelError *e);
/* Nothing is in flight: what is there is @buf (@bytes; behind them zeroes), and that alone. */
void model_settle(Model *m, const uint8_t *buf, int64_t bytes);

#endif
