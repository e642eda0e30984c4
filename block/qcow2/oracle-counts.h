/* SPDX-License-Identifier: MIT */
/*
 * The oracle of refcounts: a plain list of what each cluster's count was last said to be, beside
 * blocks, caches and the table. What is read must be what was written last. With meta_lock.
 */
#ifndef QCOW2_ORACLE_COUNTS_H
#define QCOW2_ORACLE_COUNTS_H

#include "util/compiler.h"

typedef struct CountOracle CountOracle;

CountOracle *qcow2_oracle_counts_new(void);
void qcow2_oracle_counts_free(CountOracle *o); /* NULL is fine */
/* @cluster's count becomes @count. */
void qcow2_oracle_counts_set(CountOracle *o, uint64_t cluster, uint64_t count);
/* It was found to be that: so it was said, or nothing was. */
void qcow2_oracle_counts_check(CountOracle *o, uint64_t cluster, uint64_t count);
/* The counts on disk were replaced. */
void qcow2_oracle_counts_forget(CountOracle *o);

#endif
