/* SPDX-License-Identifier: MIT */
/* I/O vectors against flat buffers; zero detection at every length and offset. */
#include "util/iov.h"

#include <string.h>

static void test_slices(void)
{
    uint8_t src[1000], dst[1000];
    IOVector v, s;
    GRand *r = g_rand_new_with_seed(1);

    for (unsigned i = 0; i < sizeof(src); i++) {
        src[i] = (uint8_t)g_rand_int(r);
    }
    for (int round = 0; round < 200; round++) {
        size_t at = 0, off, len;

        iov_init(&v);
        while (at < sizeof(src)) {
            size_t n = (size_t)g_rand_int_range(r, 1, 200);

            n = MIN(n, sizeof(src) - at);
            g_assert_cmpint(iov_add(&v, src + at, n), ==, 0);
            at += n;
        }
        g_assert_cmpuint(v.size, ==, sizeof(src));
        off = (size_t)g_rand_int_range(r, 0, 1000);
        len = (size_t)g_rand_int_range(r, 0, 1001 - (int)off);
        g_assert_cmpint(iov_init_slice(&s, &v, off, len), ==, 0);
        g_assert_cmpuint(s.size, ==, len);
        g_assert_cmpuint(iov_to_buf(&s, 0, dst, len), ==, len);
        g_assert_cmpmem(dst, len, src + off, len);
        g_assert_cmpuint(iov_to_buf(&v, off, dst, len), ==, len);
        g_assert_cmpmem(dst, len, src + off, len);
        iov_clear(&s);
        iov_clear(&v);
    }
    g_rand_free(r);
}

static void test_fill(void)
{
    uint8_t buf[300], model[300];
    struct iovec iov[3] = { { buf, 100 }, { buf + 100, 1 }, { buf + 101, 199 } };
    IOVector v;

    memset(buf, 1, sizeof(buf));
    memset(model, 1, sizeof(model));
    iov_init_external(&v, iov, 3);
    g_assert_cmpuint(iov_memset(&v, 50, 0, 100), ==, 100);
    memset(model + 50, 0, 100);
    g_assert_cmpmem(buf, 300, model, 300);
    g_assert_true(iov_is_zero(&v, 50, 100));
    g_assert_false(iov_is_zero(&v, 49, 100));
    g_assert_false(iov_is_zero(&v, 50, 101));
    g_assert_cmpuint(iov_from_buf(&v, 290, "abcdefghijk", 11), ==, 10);
    g_assert_cmpint(buf[299], ==, 'j');
}

static void test_zero(void)
{
    uint8_t *buf = g_malloc0(5000);

    for (size_t off = 0; off < 40; off++) {
        for (size_t len = 0; len < 1200; len += 1 + len / 50) {
            g_assert_true(buffer_is_zero(buf + off, len));
            if (len > 0) {
                size_t at = off + (off * 31 + len * 7) % len;

                buf[at] = 1;
                g_assert_false(buffer_is_zero(buf + off, len));
                buf[at] = 0;
                buf[off + len] = 1; /* just behind */
                g_assert_true(buffer_is_zero(buf + off, len));
                buf[off + len] = 0;
            }
        }
    }
    g_free(buf);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/iov/slices", test_slices);
    g_test_add_func("/iov/fill", test_fill);
    g_test_add_func("/iov/zero", test_zero);
    return g_test_run();
}
