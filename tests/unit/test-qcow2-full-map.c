/* SPDX-License-Identifier: MIT */
/* Marks of stretches without a free cluster, against a plain array. Shows INV-FULL-1. */
#include "block/qcow2/full-map.h"

#include "tests/lib/rand.h"

#define N 1000

static uint64_t naive_next(const bool *marked, uint64_t i)
{
    while (i < N && marked[i]) {
        i++;
    }
    return i;
}

static void test_random(void)
{
    bool marked[N] = { false };
    uint64_t r = 1;
    FullMap m = { 0 };

    for (unsigned step = 0; step < 20000; step++) {
        uint64_t i = rand_below(&r, N), n = rand_below(&r, 100);

        for (uint64_t k = i; k < MIN(i + n, N - 1); k++) { /* (the last one is never marked) */
            marked[k] = true;
            qcow2_full_map_set(&m, k);
        }
        i = rand_below(&r, N);
        marked[i] = false;
        qcow2_full_map_clear(&m, i);
        i = rand_below(&r, N);
        g_assert_cmpuint(qcow2_full_map_next(&m, i), ==, naive_next(marked, i));
    }
    qcow2_full_map_forget(&m);
    g_assert_cmpuint(qcow2_full_map_next(&m, 7), ==, 7);
    qcow2_full_map_clear(&m, 1 << 20); /* never marked */
    g_assert_cmpuint(m.nwords, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/full-map/random", test_random);
    return g_test_run();
}
