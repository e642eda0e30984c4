/* SPDX-License-Identifier: MIT */
/* What workloads are put together from: numbers, image options, and operations. */
#ifndef CRASH_PIECES_H
#define CRASH_PIECES_H

#include "program.h"

uint32_t upto(GRand *r, uint32_t n); /* [0, n) */
bool chance(GRand *r, uint32_t one_in);

/* Options of a small image: version, clusters, refcounts, caches. */
void common(Program *p, GRand *r);
/* Clusters of any size there is, now and then: large ones are few, as each state costs more. The
 * disk ends at any sector. */
void any_cluster_size(Program *p, GRand *r);
void with_backing(Program *p, GRand *r);

/* A range of up to @max bytes, now and then aligned to clusters. */
Op *some(Program *p, GRand *r, OpType type, uint64_t size, uint64_t max);
void flush(Program *p);
/* Some that run together; a flush among them now and then. */
void batch(Program *p, GRand *r, const OpType *types, size_t ntypes, uint64_t max);
/* Batches, one after the other. */
void mixed(Program *p, GRand *r, const OpType *types, size_t ntypes, unsigned batches);
/* Writes of @step bytes over [@from, @to); @setup: not recorded. */
void fill(Program *p, uint64_t from, uint64_t to, uint64_t step, bool setup);

#endif
