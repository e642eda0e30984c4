/* SPDX-License-Identifier: MIT */
/* Entries of refcount blocks of each width, against a model that goes bit by bit. */
#include "block/qcow2/refcount-codec.h"

#include <string.h>

#define BLOCK 512

/* The bit of weight @i of entry @index: from the lowest bit up within a byte; wider ones
 * big-endian. */
static unsigned bit_position(unsigned order, uint64_t index, unsigned i)
{
    unsigned width = 1u << order;

    if (width < 8) {
        return (unsigned)index * width + i;
    }
    return (unsigned)index * width + (width - 8 - i / 8 * 8) + i % 8;
}

static uint64_t naive_get(unsigned order, const uint8_t *block, uint64_t index)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 1u << order; i++) {
        unsigned at = bit_position(order, index, i);

        v |= (uint64_t)(block[at / 8] >> at % 8 & 1) << i;
    }
    return v;
}

static void naive_set(unsigned order, uint8_t *block, uint64_t index, uint64_t v)
{
    for (unsigned i = 0; i < 1u << order; i++) {
        unsigned at = bit_position(order, index, i);

        block[at / 8] =
            (uint8_t)((block[at / 8] & ~(1u << at % 8)) | (unsigned)(v >> i & 1) << at % 8);
    }
}

static uint64_t random_value(GRand *rand, unsigned order)
{
    uint64_t v = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
    uint64_t max = order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << order)) - 1;

    switch (g_rand_int_range(rand, 0, 4)) {
    case 0:
        return 0;
    case 1:
        return max;
    case 2:
        return v & 1;
    default:
        return v & max;
    }
}

static void test_width(gconstpointer data)
{
    unsigned order = GPOINTER_TO_UINT(data);
    uint64_t entries = BLOCK * 8 >> order;
    g_autoptr(GRand) rand = g_rand_new_with_seed(order + 1);
    uint8_t block[BLOCK], model[BLOCK];

    for (unsigned i = 0; i < BLOCK; i++) {
        block[i] = model[i] = (uint8_t)g_rand_int(rand);
    }
    for (uint64_t i = 0; i < entries; i++) {
        g_assert_cmpuint(qcow2_refcount_codec_get(order, block, i), ==, naive_get(order, block, i));
    }
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t at = (uint64_t)g_rand_int(rand) % entries, v = random_value(rand, order);

        qcow2_refcount_codec_set(order, block, at, v);
        naive_set(order, model, at, v);
        g_assert_cmpuint(qcow2_refcount_codec_get(order, block, at), ==, v);
        if (i % 64 == 0) {
            g_assert_cmpmem(block, BLOCK, model, BLOCK);
        }
    }
    g_assert_cmpmem(block, BLOCK, model, BLOCK);
}

static void test_zero_run(gconstpointer data)
{
    unsigned order = GPOINTER_TO_UINT(data);
    uint64_t entries = BLOCK * 8 >> order;
    g_autoptr(GRand) rand = g_rand_new_with_seed(order + 77);

    for (unsigned round = 0; round < 300; round++) {
        uint8_t block[BLOCK] = { 0 };
        uint64_t from = (uint64_t)g_rand_int(rand) % entries;
        uint64_t n = (uint64_t)g_rand_int(rand) % (entries - from + 1), naive = 0;

        for (unsigned k = 0; k < round % 4; k++) {
            qcow2_refcount_codec_set(order, block, (uint64_t)g_rand_int(rand) % entries, 1);
        }
        while (naive < n && naive_get(order, block, from + naive) == 0) {
            naive++;
        }
        g_assert_cmpuint(qcow2_refcount_codec_zero_run(order, block, from, n), ==, naive);
    }
}

/* All in use but for a few. */
static void test_used_run(gconstpointer data)
{
    unsigned order = GPOINTER_TO_UINT(data);
    uint64_t entries = BLOCK * 8 >> order;
    g_autoptr(GRand) rand = g_rand_new_with_seed(order + 99);

    for (unsigned round = 0; round < 300; round++) {
        uint8_t block[BLOCK];
        uint64_t from = (uint64_t)g_rand_int(rand) % entries;
        uint64_t n = (uint64_t)g_rand_int(rand) % (entries - from + 1), naive = 0;

        for (uint64_t i = 0; i < entries; i++) {
            uint64_t v = random_value(rand, order);

            qcow2_refcount_codec_set(order, block, i, v ? v : 1);
        }
        for (unsigned k = 0; k < round % 4; k++) {
            qcow2_refcount_codec_set(order, block, (uint64_t)g_rand_int(rand) % entries, 0);
        }
        while (naive < n && naive_get(order, block, from + naive) != 0) {
            naive++;
        }
        g_assert_cmpuint(qcow2_refcount_codec_used_run(order, block, from, n), ==, naive);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned order = 0; order <= 6; order++) {
        g_autofree char *a = g_strdup_printf("/qcow2/refcount-codec/width-%u", 1u << order);
        g_autofree char *b = g_strdup_printf("/qcow2/refcount-codec/zero-run-%u", 1u << order);

        g_autofree char *c = g_strdup_printf("/qcow2/refcount-codec/used-run-%u", 1u << order);

        g_test_add_data_func(c, GUINT_TO_POINTER(order), test_used_run);
        g_test_add_data_func(a, GUINT_TO_POINTER(order), test_width);
        g_test_add_data_func(b, GUINT_TO_POINTER(order), test_zero_run);
    }
    return g_test_run();
}
