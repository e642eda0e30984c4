/* SPDX-License-Identifier: MIT */
/* Sets of dirty bits against an array of bytes, one for each bit. Shows INV-DB-1. */
#include "util/dirty-bits.h"

#include <glib.h>
#include <string.h>

static void check_same(const DirtyBits *b, const uint8_t *model)
{
    uint64_t count = 0, set = b->n, clear = b->n;

    for (uint64_t i = b->n; i-- > 0;) {
        count += model[i];
        set = model[i] ? i : set;
        clear = model[i] ? clear : i;
        g_assert_cmpint(dirty_bits_test(b, i), ==, model[i]);
        g_assert_cmpuint(dirty_bits_next(b, i), ==, set);
        g_assert_cmpuint(dirty_bits_next_clear(b, i), ==, clear);
    }
    g_assert_cmpuint(dirty_bits_count(b), ==, count);
    g_assert_cmpuint(dirty_bits_next(b, b->n), ==, b->n);
}

static void change(DirtyBits *b, uint8_t *model, unsigned times)
{
    while (times-- && b->n) {
        uint64_t first = (uint64_t)g_test_rand_int_range(0, (gint32)b->n);
        uint64_t n = (uint64_t)g_test_rand_int_range(1, 200);
        bool clear = g_test_rand_int_range(0, 3) == 0;

        n = MIN(n, b->n - first);
        clear ? dirty_bits_clear(b, first, n) : dirty_bits_set(b, first, n);
        memset(model + first, !clear, n);
    }
}

static const uint64_t sizes[] = { 0, 1, 63, 64, 65, 4095, 4096, 4097, 9000 };

static void test_model(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        DirtyBits *b = dirty_bits_new(sizes[i]);
        g_autofree uint8_t *model = g_malloc0(sizes[i] + 1);

        for (unsigned round = 0; round < 10; round++) {
            check_same(b, model);
            change(b, model, 3);
        }
        dirty_bits_unref(b);
    }
}

/* Bytes and back; what lies past the end is ignored (INV-DB-2). */
static void test_bytes(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        DirtyBits *b = dirty_bits_new(sizes[i]), *c = dirty_bits_new(sizes[i]);
        g_autofree uint8_t *model = g_malloc0(sizes[i] + 1);
        uint8_t buf[2048];

        change(b, model, 20);
        dirty_bits_store(b, 0, buf, sizeof(buf));
        for (uint64_t k = 0; k < sizeof(buf) * 8; k++) {
            g_assert_cmpint(buf[k / 8] >> k % 8 & 1, ==, k < sizes[i] && model[k]);
        }
        for (uint64_t k = sizes[i]; k < sizeof(buf) * 8; k++) {
            buf[k / 8] |= (uint8_t)(1 << k % 8);
        }
        dirty_bits_load(c, 0, buf, 512);
        dirty_bits_load(c, 4096, buf + 512, sizeof(buf) - 512);
        check_same(c, model);
        dirty_bits_unref(b);
        dirty_bits_unref(c);
    }
}

static void test_merge(void)
{
    for (unsigned k = 0; k < 300; k++) {
        uint64_t units = (uint64_t)g_test_rand_int_range(1, 3000);
        unsigned from = (unsigned)g_test_rand_int_range(0, 5),
                 to = (unsigned)g_test_rand_int_range(0, 5);
        DirtyBits *src = dirty_bits_new(((units - 1) >> from) + 1),
                  *dst = dirty_bits_new(((units - 1) >> to) + 1);
        g_autofree uint8_t *a = g_malloc0(src->n + 1), *z = g_malloc0(dst->n + 1);

        change(src, a, 3);
        change(dst, z, 3);
        dirty_bits_merge(dst, to, src, from);
        for (uint64_t u = 0; u < units; u++) {
            z[u >> to] |= a[u >> from];
        }
        check_same(dst, z);
        dirty_bits_unref(src);
        dirty_bits_unref(dst);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-bits/model", test_model);
    g_test_add_func("/dirty-bits/bytes", test_bytes);
    g_test_add_func("/dirty-bits/merge", test_merge);
    return g_test_run();
}
