/* SPDX-License-Identifier: MIT */
/* Zero detection: every length and alignment around the vector steps, one byte set at each place,
 * nothing read beyond the end. */
#include "util/iov.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_LEN 1100

/* The last byte of what it returns is the last one before a page that may not be touched. */
static uint8_t *guarded(size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert_true(p != MAP_FAILED);
    g_assert_cmpint(mprotect(p + page, page, PROT_NONE), ==, 0);
    return p + page - len;
}

static void test_each_byte(void)
{
    uint8_t *end = guarded(0);

    for (size_t len = 0; len < MAX_LEN; len += len < 300 ? 1 : 37) {
        uint8_t *p = end - len;

        g_assert_true(buffer_is_zero(p, len));
        for (size_t i = 0; i < len; i++) {
            p[i] = i % 2 ? 1 : 0x80;
            g_assert_false(buffer_is_zero(p, len));
            p[i] = 0;
        }
    }
}

/* Neighbours do not count, at any alignment. */
static void test_alignment(void)
{
    uint8_t buf[MAX_LEN + 128];

    for (size_t off = 1; off < 65; off++) {
        for (size_t len = 0; len < MAX_LEN; len += 41) {
            memset(buf, 0xff, sizeof(buf));
            memset(buf + off, 0, len);
            g_assert_true(buffer_is_zero(buf + off, len));
            g_assert_false(buffer_is_zero(buf + off, len + 1));
            g_assert_false(buffer_is_zero(buf + off - 1, len + 1));
        }
    }
}

static void test_large(void)
{
    size_t len = 2 * MiB + 77;
    uint8_t *p = g_malloc0(len);
    g_autoptr(GRand) rand = g_rand_new_with_seed(9);

    g_assert_true(buffer_is_zero(p, len));
    for (int i = 0; i < 200; i++) {
        size_t at = g_rand_int(rand) % len;

        p[at] = 4;
        g_assert_false(buffer_is_zero(p, len));
        p[at] = 0;
    }
    g_free(p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/buffer-zero/each-byte", test_each_byte);
    g_test_add_func("/buffer-zero/alignment", test_alignment);
    g_test_add_func("/buffer-zero/large", test_large);
    return g_test_run();
}
