/* SPDX-License-Identifier: MIT */
/* Slabs: buffers that do not overlap, aligned, given back in any order, at every size of a
 * slice. */
/* Shows INV-SLAB-1. */
#include "mem-driver.h"

#include "block/backend.h"
#include "block/qcow2/slab.h"

#include <string.h>

#define N 300

static BdrvChild *file;

static int coroutine_fn co_open_file(void *opaque)
{
    Options *o = opts_new();

    opts_set(o, "driver", "test-mem");
    file = bdrv_co_open_root(NULL, o, 0, NULL);
    return 0;
}

static int coroutine_fn co_close_file(void *opaque)
{
    bdrv_co_close_child(file);
    return 0;
}

static void check(uint8_t *const *buf, size_t size, uint8_t first)
{
    for (int i = 0; i < N; i++) {
        for (size_t at = 0; buf[i] && at < size; at += 64) {
            g_assert_cmpint(buf[i][at], ==, (uint8_t)(first + i));
        }
    }
}

static void run(size_t size)
{
    SlabPool *p = qcow2_slab_pool_new(file->bs, size);
    uint8_t *buf[N];
    Slab *slab[N];
    uint32_t seed = 1;

    for (int i = 0; i < N; i++) {
        buf[i] = qcow2_slab_get(p, &slab[i]);
        g_assert_nonnull(buf[i]);
        g_assert_true(IS_ALIGNED((uintptr_t)buf[i], MIN(size, (uintptr_t)64)));
        memset(buf[i], i, size);
    }
    check(buf, size, 0);
    for (int turn = 0; turn < 3 * N; turn++) { /* back and new ones, in no order */
        int i;

        seed = seed * 1664525 + 1013904223;
        i = (int)(seed >> 16) % N;
        if (buf[i]) {
            qcow2_slab_put(slab[i], buf[i]);
            buf[i] = NULL;
        } else {
            buf[i] = qcow2_slab_get(p, &slab[i]);
            g_assert_nonnull(buf[i]);
            memset(buf[i], i, size);
        }
    }
    check(buf, size, 0);
    for (int i = 0; i < N; i++) {
        if (buf[i]) {
            qcow2_slab_put(slab[i], buf[i]);
        }
    }
    qcow2_slab_pool_free(p); /* asserts that nothing is left */
}

static void test_sizes(void)
{
    for (size_t size = 512; size <= 64 * KiB; size *= 2) {
        run(size);
    }
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    mem_register();
    co_run_sync(co_open_file, NULL);
    g_test_add_func("/qcow2/slab/sizes", test_sizes);
    ret = g_test_run();
    co_run_sync(co_close_file, NULL);
    return ret;
}
