/* SPDX-License-Identifier: MIT */
/*
 * From one header to another: of all pairs of a set, in clusters of each size, each step's sectors
 * past the first are put down one by one, which must leave what the header says as it is; the first
 * sector then makes it the new one.
 */
/* Shows INV-HDR-2. */
#include "block/qcow2/header-layout.h"
#include "block/qcow2/header-plan.h"
#include "util/bytes.h"

#include <string.h>

#define FILE_LENGTH INT64_C(0x1000000)

typedef struct Shape {
    uint32_t version;
    unsigned name, data_name, unknown; /* lengths; 0: none */
    const char *format;
    bool bitmaps, others; /* others: in the order of extensions that other programs write */
} Shape;

static const Shape shapes[] = {
    { .version = 2 },
    { .version = 3 },
    { .version = 2, .name = 5 },
    { .version = 3, .name = 5, .format = "raw" },
    { .version = 3, .name = 60, .format = "qcow2" },
    { .version = 3, .name = 340, .format = "raw" },
    { .version = 3, .name = 1023, .format = "qcow2" },
    { .version = 3, .name = 1023, .bitmaps = true },
    { .version = 2, .name = 1023, .format = "luks" },
    { .version = 3, .data_name = 12, .bitmaps = true },
    { .version = 3, .data_name = 200, .name = 200 },
    { .version = 3, .data_name = 600 },
    { .version = 3, .unknown = 40, .name = 9, .bitmaps = true, .others = true },
    { .version = 3, .unknown = 700, .name = 9 },
};

static void make(Qcow2Header *h, const Shape *s, unsigned bits)
{
    uint64_t cluster = UINT64_C(1) << bits;

    *h = (Qcow2Header){ .version = s->version,
                        .cluster_bits = bits,
                        .size = 4096,
                        .l1_size = 1,
                        .l1_offset = 3 * cluster,
                        .reftable_offset = cluster,
                        .reftable_clusters = 1,
                        .refcount_order = 4,
                        .backing_file =
                            s->name ? g_strnfill(s->name, (char)('a' + s->name % 26)) : NULL,
                        .backing_format = g_strdup(s->format),
                        .unknown_exts = g_array_new(FALSE, FALSE, sizeof(HeaderExt)) };
    if (s->data_name) {
        h->data_file = g_strnfill(s->data_name, 'D');
        h->incompatible = QCOW2_INCOMPAT_DATA_FILE;
    }
    if (s->bitmaps) {
        h->has_bitmaps = true;
        h->nb_bitmaps = 1;
        h->bitmap_dir_size = 64;
        h->bitmap_dir_offset = 5 * cluster;
        h->autoclear = QCOW2_AUTOCLEAR_BITMAPS;
    }
    if (s->unknown) {
        HeaderExt e = { 0x12345678, s->unknown, (uint8_t *)g_strnfill(s->unknown, 'U') };

        g_array_append_val(h->unknown_exts, e);
    }
}

static void clear(Qcow2Header *h)
{
    Qcow2Header copy;

    qcow2_header_copy(&copy, h); /* whose array frees what is in it */
    qcow2_header_clear(&copy);
    for (guint i = 0; i < h->unknown_exts->len; i++) {
        g_free(g_array_index(h->unknown_exts, HeaderExt, i).data);
    }
    qcow2_header_clear(h);
}

/* What the header in @buf says, in one form. */
static uint8_t *meaning(const uint8_t *buf, size_t len)
{
    uint8_t *plain = g_malloc(len);
    GError *err = NULL;
    Qcow2HeaderPlaces places;
    Qcow2Header h;

    g_assert_cmpint(qcow2_header_parse(&h, buf, len, FILE_LENGTH, 0, &err), ==, 0);
    g_assert_no_error(err);
    g_assert_true(qcow2_header_serialise_form(&h, plain, len, false, false, &places));
    qcow2_header_clear(&h);
    return plain;
}

static void assert_means(const uint8_t *buf, const uint8_t *what, size_t len)
{
    g_autofree uint8_t *m = meaning(buf, len);

    g_assert_cmpmem(m, len, what, len);
}

static bool is_meaning(const uint8_t *buf, const uint8_t *what, size_t len)
{
    g_autofree uint8_t *m = meaning(buf, len);

    return !memcmp(m, what, len);
}

/* Sectors past the first come in any order: one alone, and all of those before it. */
static void try_step(uint8_t *now, const uint8_t *next, size_t len, const uint8_t *was,
                     const uint8_t *will)
{
    g_autofree uint8_t *one = g_malloc(len);

    for (size_t at = HEADER_SECTOR; at < len; at += HEADER_SECTOR) {
        if (memcmp(now + at, next + at, HEADER_SECTOR)) {
            memcpy(one, now, len);
            memcpy(one + at, next + at, HEADER_SECTOR);
            assert_means(one, was, len);
        }
    }
    memcpy(now + HEADER_SECTOR, next + HEADER_SECTOR, len - HEADER_SECTOR);
    assert_means(now, was, len);
    memcpy(now, next, HEADER_SECTOR);
    assert_means(now, will, len);
}

/* Put the table of names before all other extensions, as others do. */
static void reorder(uint8_t *buf, size_t len)
{
    size_t end = qcow2_header_places(buf, len).end, n = 8 + 8 * 48;
    g_autofree uint8_t *names = g_memdup2(buf + end - 8 - n, n);

    g_assert_cmphex(ldbe32(names), ==, 0x6803f857);
    memmove(buf + HEADER_OUR_LENGTH + n, buf + HEADER_OUR_LENGTH, end - 8 - n - HEADER_OUR_LENGTH);
    memcpy(buf + HEADER_OUR_LENGTH, names, n);
}

/* True: it can be done. */
static bool try_pair(const Shape *from, const Shape *to, unsigned bits)
{
    size_t len = (size_t)1 << bits;
    g_autofree uint8_t *now = g_malloc(len), *fresh = g_malloc(len), *was = NULL, *will = NULL;
    GError *err = NULL;
    Qcow2Header a, b;
    Qcow2HeaderPlan plan;
    bool fits, done = false, is_new = false;

    make(&a, from, bits);
    make(&b, to, bits);
    fits = qcow2_header_serialise(&a, now, len, NULL) == 0;
    if (fits && qcow2_header_serialise(&b, fresh, len, NULL) == 0) {
        if (from->others && bits > 9) {
            reorder(now, len);
        }
        was = meaning(now, len);
        will = meaning(fresh, len);
        done = qcow2_header_plan(now, len, &b, &plan, &err) == 0;
        g_assert_true(done == !err);
        for (unsigned i = 0; done && i < plan.n; i++) { /* the last step at the latest is the new */
            bool still_old = is_meaning(plan.steps[i], was, len) && i + 1 < plan.n;

            try_step(now, plan.steps[i], len, is_new ? will : was, still_old ? was : will);
            is_new |= !still_old;
        }
        if (done) { /* at rest it is what a new image has, and nothing else */
            try_step(now, plan.tidy, len, will, will);
            if (bits >= 12 && !to->unknown && to->data_name < 600) {
                g_assert_cmpmem(now, len, fresh, len);
            }
            qcow2_header_plan_clear(&plan);
        }
    }
    if (err) {
        g_assert_error(err, COWLET_ERROR, ENOSPC);
        g_clear_error(&err);
    }
    clear(&a);
    clear(&b);
    return done || !fits;
}

/* Two that do not fit into the first sector even without names cannot replace each other. */
static bool is_long(const Shape *s)
{
    return s->data_name > 350 || s->unknown > 350;
}

static void test_pairs(void)
{
    static const unsigned sizes[] = { 9, 10, 11, 12, 16 };

    for (size_t k = 0; k < G_N_ELEMENTS(sizes); k++) {
        for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++) {
            for (size_t j = 0; j < G_N_ELEMENTS(shapes); j++) {
                const Shape *a = &shapes[i], *b = &shapes[j];
                bool done = try_pair(a, b, sizes[k]);

                g_assert_true(done || sizes[k] < 12 || (is_long(b) && is_long(a)));
                g_assert_true(done || i != j); /* nothing to do is done */
            }
        }
    }
}

/* Fields alone change even where extensions are long. */
static void test_long(void)
{
    size_t len = 65536;
    g_autofree uint8_t *now = g_malloc(len);
    Qcow2HeaderPlan plan;
    Qcow2Header h;

    make(&h, &shapes[11], 16);
    g_assert_cmpint(qcow2_header_serialise(&h, now, len, NULL), ==, 0);
    h.compatible = QCOW2_COMPAT_LAZY_REFCOUNTS;
    g_assert_cmpint(qcow2_header_plan(now, len, &h, &plan, NULL), ==, 0);
    g_assert_cmpuint(plan.n, ==, 1);
    g_assert_cmpmem(now + HEADER_SECTOR, len - HEADER_SECTOR, plan.steps[0] + HEADER_SECTOR,
                    len - HEADER_SECTOR);
    qcow2_header_plan_clear(&plan);
    clear(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/header-plan/pairs", test_pairs);
    g_test_add_func("/qcow2/header-plan/long", test_long);
    return g_test_run();
}
