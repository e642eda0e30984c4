/* SPDX-License-Identifier: MIT */
/* "test-mem": a file in memory, with faults, for unit tests. */
#ifndef TESTS_UNIT_MEM_DRIVER_H
#define TESTS_UNIT_MEM_DRIVER_H

#include "block/driver.h"
#include "tests/lib/memory.h"

#define MEM_CAPACITY (16 * MiB)

typedef struct Mem {
    SpinLock lock; /* of data: neighbours are read while one is written */
    uint8_t *data;
    _Atomic int64_t size;
    uint64_t align, max;
    unsigned perm, shared;
    atomic_int reads, writes, syncs;
    atomic_int fail_reads, fail_writes, fail_syncs; /* not 0: -EIO */
    atomic_int fail_nth_write;                      /* not 0: the nth from here on fails, once */
    int64_t bad_start, bad_end; /* whatever touches this range fails, too, after its sleep */
    bool slow;                  /* yields inside of a request */
    atomic_int busy, most_busy; /* reads and writes under way; ... at a time, so far */
    bool fail_close;            /* -EDQUOT */
} Mem;

extern const MemoryStore mem_store;
extern Mem *last_mem; /* of the latest open */

static inline void mem_register(void)
{
    memory_register(&mem_store);
}

/* What the next open finds in the file, instead of @size bytes of 0xaa; copied then. */
void mem_preload(const void *data, size_t len);

/* No request is under way; counts and the high-water mark begin anew. */
static inline void mem_count_anew(Mem *m)
{
    g_assert_cmpint(m->busy, ==, 0);
    m->reads = m->writes = m->most_busy = 0;
}

#endif
