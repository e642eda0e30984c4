/* SPDX-License-Identifier: MIT */
/*
 * "fake:NAME": files in memory that outlive their nodes, with faults and delays, for tests.
 *
 * Files are found by name until fake_forget_all(). Faults are of the process (not of a file): each
 * request that a node of this driver gets is one operation.
 */
#ifndef TESTS_LIB_FAKE_FILE_H
#define TESTS_LIB_FAKE_FILE_H

#include "tests/lib/memory.h"

typedef MemoryOp FakeOp;
#define FAKE_READ MEMORY_READ
#define FAKE_WRITE MEMORY_WRITE
#define FAKE_ZERO MEMORY_ZERO
#define FAKE_DISCARD MEMORY_DISCARD
#define FAKE_FLUSH MEMORY_FLUSH
#define FAKE_TRUNCATE MEMORY_TRUNCATE
#define FAKE_ALL ((1u << 6) - 1)
#define FAKE_SPACE (FAKE_WRITE | FAKE_ZERO | FAKE_TRUNCATE) /* what meets ENOSPC */

/* Which operations fail. */
typedef struct FakeFault {
    unsigned ops;       /* kinds that count (FakeOp) */
    int64_t nth;        /* the nth of them from now on, from 1; 0: none */
    bool forever;       /* ... and all after it */
    unsigned per_mille; /* or each with this chance */
    int error;          /* positive; 0: per_mille ones take EIO or ENOSPC */
    bool torn; /* a failing write writes its first part, in whole sectors, before it fails */
} FakeFault;

/* Set before requests run, or between them. */
typedef struct FakeSetup {
    unsigned yields; /* up to so many iterations of the loop pass in a request */
    unsigned align;  /* request_alignment of nodes opened from now on */
    unsigned max_transfer;
    bool no_zero;    /* no zero writes by call */
    bool sync_drops; /* what was written since the last sync is lost when one fails */
} FakeSetup;

void fake_init(void); /* once */
void fake_setup(const FakeSetup *s);
void fake_arm(const FakeFault *f); /* NULL: none */
void fake_hold(bool on);           /* while on, operations neither count nor fail */
bool fake_fault_met(void);         /* a fault was delivered since fake_arm() */
unsigned fake_fault_ops(void);     /* ... to these (FakeOp) */
void fake_seed(uint64_t seed);     /* of chances and yields */
/* Operations of these kinds (FakeOp) wait before they do anything, until they may go on. */
void fake_block(unsigned ops);
unsigned fake_blocked(void); /* so many wait */

typedef struct FakeContent {
    uint8_t *data;
    int64_t size;
} FakeContent;
/* What is in a file; copies. size -1: no such file. */
FakeContent fake_save(const char *name);
void fake_restore(const char *name, const FakeContent *c);
void fake_content_clear(FakeContent *c);
void fake_forget_all(void);

#endif
