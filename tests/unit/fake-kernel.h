/* SPDX-License-Identifier: MIT */
/*
 * System calls that do less than they are asked for: the wrappers are defined in the test program,
 * so that the library calls these. All of it is a test's that links it; reset before each use.
 */
#ifndef TESTS_FAKE_KERNEL_H
#define TESTS_FAKE_KERNEL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct FakeKernel {
    size_t most;             /* bytes that one transfer moves; 0: all */
    unsigned interrupt;      /* each so manieth call fails with EINTR; 0: none */
    int64_t full_at;         /* no write goes past this; 0: all do */
    atomic_int failed_syncs; /* so many syncs fail from now on */
    atomic_int fail_in;      /* the so manieth call from now on fails, once; 0: none */
    int fail_errno;
    atomic_uint calls, syncs, shortened, interrupted, failed;
    const char *failed_call; /* the last that failed with fail_errno */
} FakeKernel;
extern FakeKernel kernel;

void kernel_reset(void);

#endif
