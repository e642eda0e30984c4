/* SPDX-License-Identifier: MIT */
/*
 * The header and its extensions: round trips, header lengths, versions, features by name, what is
 * refused and how, cut off at every byte, and random damage (which must be refused or survive a
 * second round trip).
 */
#include "block/qcow2/header.h"
#include "util/bytes.h"

#include <string.h>

#define CLUSTER 65536
#define FILE_LENGTH INT64_C(0x1000000)

static void header_base(Qcow2Header *h, uint32_t version)
{
    *h = (Qcow2Header){
        .version = version,
        .cluster_bits = 16,
        .size = 10 * GiB,
        .l1_size = 20,
        .l1_offset = 3 * CLUSTER,
        .reftable_offset = CLUSTER,
        .reftable_clusters = 1,
        .refcount_order = 4,
        .header_length = 112,
        .unknown_exts = g_array_new(FALSE, FALSE, sizeof(HeaderExt)),
    };
}

static void expect(uint8_t *b, size_t len, int flags, int ret, const char *message)
{
    GError *err = NULL;
    Qcow2Header h;
    uint8_t *exact = g_malloc(len); /* so that ASan sees its end */

    memcpy(exact, b, len);
    g_assert_cmpint(qcow2_header_parse(&h, exact, len, FILE_LENGTH, flags, &err), ==, ret);
    if (ret < 0) {
        g_assert_cmpstr(err->message, ==, message);
        g_assert_error(err, COWLET_ERROR, -ret);
        g_clear_error(&err);
    } else {
        g_assert_no_error(err);
        qcow2_header_clear(&h);
    }
    g_free(exact);
}

static void assert_same(const Qcow2Header *a, const Qcow2Header *b)
{
#define SAME(f) g_assert_cmpuint(a->f, ==, b->f)
    SAME(version);
    SAME(cluster_bits);
    SAME(size);
    SAME(crypt_method);
    SAME(l1_size);
    SAME(l1_offset);
    SAME(reftable_offset);
    SAME(reftable_clusters);
    SAME(nb_snapshots);
    SAME(snapshots_offset);
    SAME(incompatible);
    SAME(compatible);
    SAME(autoclear);
    SAME(refcount_order);
    SAME(compression_type);
    SAME(compression_level);
    SAME(has_bitmaps);
    SAME(nb_bitmaps);
    SAME(bitmap_dir_size);
    SAME(bitmap_dir_offset);
#undef SAME
    g_assert_cmpmem(a->unknown_fields, a->unknown_fields_len, b->unknown_fields,
                    b->unknown_fields_len);
    g_assert_cmpstr(a->backing_file, ==, b->backing_file);
    g_assert_cmpstr(a->backing_format, ==, b->backing_format);
    g_assert_cmpstr(a->data_file, ==, b->data_file);
    g_assert_cmpmem(a->padding, sizeof(a->padding), b->padding, sizeof(b->padding));
    g_assert_cmpmem(a->other_names, a->other_names_len, b->other_names, b->other_names_len);
    g_assert_cmpuint(a->unknown_exts->len, ==, b->unknown_exts->len);
    for (guint i = 0; i < a->unknown_exts->len; i++) {
        const HeaderExt *x = &g_array_index(a->unknown_exts, HeaderExt, i);
        const HeaderExt *y = &g_array_index(b->unknown_exts, HeaderExt, i);

        g_assert_cmpuint(x->type, ==, y->type);
        g_assert_cmpmem(x->data, x->len, y->data, y->len);
        g_assert_cmpmem(x->padding, sizeof(x->padding), y->padding, sizeof(y->padding));
    }
}

/* h -> bytes -> h again; the bytes of both are equal. */
static void round_trip(const Qcow2Header *h, uint8_t *bytes)
{
    g_autofree uint8_t *again = g_malloc(CLUSTER);
    GError *err = NULL;
    Qcow2Header back;

    g_assert_cmpint(qcow2_header_serialise(h, bytes, CLUSTER, &err), ==, 0);
    g_assert_no_error(err);
    g_assert_cmpint(qcow2_header_parse(&back, bytes, CLUSTER, FILE_LENGTH, BLK_O_RDWR, &err), ==,
                    0);
    g_assert_no_error(err);
    assert_same(h, &back);
    g_assert_cmpint(qcow2_header_serialise(&back, again, CLUSTER, NULL), ==, 0);
    g_assert_cmpmem(bytes, CLUSTER, again, CLUSTER);
    qcow2_header_clear(&back);
}

static void test_v3(void)
{
    g_autofree uint8_t *b = g_malloc(CLUSTER);
    Qcow2Header h;

    header_base(&h, 3);
    round_trip(&h, b);
    /* The fields where the format has them. */
    g_assert_cmpmem(b, 4, "QFI\xfb", 4);
    g_assert_cmpuint(ldbe32(b + 4), ==, 3);
    g_assert_cmpuint(ldbe32(b + 20), ==, 16);
    g_assert_cmpuint(ldbe64(b + 24), ==, 10 * GiB);
    g_assert_cmpuint(ldbe32(b + 36), ==, 20);
    g_assert_cmpuint(ldbe64(b + 40), ==, 3 * CLUSTER);
    g_assert_cmpuint(ldbe64(b + 48), ==, CLUSTER);
    g_assert_cmpuint(ldbe32(b + 56), ==, 1);
    g_assert_cmpuint(ldbe32(b + 96), ==, 4);
    g_assert_cmpuint(ldbe32(b + 100), ==, 112);
    g_assert_cmpuint(ldbe32(b + 112), ==, 0x6803f857); /* the table of feature names */

    h.incompatible = QCOW2_INCOMPAT_EXTL2 | QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_COMPRESSION;
    h.compatible = QCOW2_COMPAT_LAZY_REFCOUNTS | UINT64_C(1) << 60; /* unknown ones are kept */
    h.compression_type = QCOW2_COMPRESSION_ZSTD;
    h.size = 5 * GiB;
    for (h.refcount_order = 0; h.refcount_order <= 6; h.refcount_order++) {
        round_trip(&h, b);
    }
    h.refcount_order = 4;
    g_assert_cmpint(b[104], ==, 1);
    h.compression_level = 19;
    round_trip(&h, b);
    h.compression_level = UINT32_MAX; /* no level, and kept as it is */
    round_trip(&h, b);
    qcow2_header_clear(&h);
}

static void test_extensions(void)
{
    static const uint8_t fields[16] = { 1, 2, 3 };
    g_autofree uint8_t *b = g_malloc(CLUSTER);
    Qcow2Header h;

    header_base(&h, 3);
    h.backing_file = g_strdup("../some/base.img");
    round_trip(&h, b);
    h.backing_format = g_strdup("qcow2");
    h.data_file = g_strdup("x.raw");
    h.incompatible = QCOW2_INCOMPAT_DATA_FILE;
    h.autoclear = QCOW2_AUTOCLEAR_DATA_RAW | QCOW2_AUTOCLEAR_BITMAPS;
    h.has_bitmaps = true;
    h.nb_bitmaps = 2;
    h.bitmap_dir_size = 96;
    h.bitmap_dir_offset = 7 * CLUSTER;
    for (uint32_t i = 0; i < 20; i++) { /* of each length modulo 8 */
        HeaderExt e = { 0x12340000 + i, i, g_malloc0(i + 1) };

        memset(e.data, (int)i + 1, i);
        memset(e.padding, 0x77, ALIGN_UP(i, 8u) - i); /* kept, too */
        g_array_append_val(h.unknown_exts, e);
        round_trip(&h, b);
    }
    memcpy(h.padding, "padding", sizeof(h.padding));
    h.other_names = g_malloc0(2 * 48);
    h.other_names_len = 2 * 48;
    h.other_names[1] = 40; /* an incompatible bit, and a compatible one */
    h.other_names[48] = 1;
    h.other_names[49] = 7;
    memset(h.other_names + 2, 'n', 46);
    memset(h.other_names + 50, 'm', 20);
    round_trip(&h, b);
    h.unknown_fields = g_memdup2(fields, sizeof(fields));
    h.unknown_fields_len = sizeof(fields);
    round_trip(&h, b);
    g_assert_cmpuint(ldbe32(b + 100), ==, 128);
    for (guint i = 0; i < h.unknown_exts->len; i++) {
        g_free(g_array_index(h.unknown_exts, HeaderExt, i).data);
    }
    qcow2_header_clear(&h);
}

static void test_v2(void)
{
    g_autofree uint8_t *b = g_malloc(CLUSTER);
    Qcow2Header h;

    header_base(&h, 2);
    h.backing_file = g_strdup("base");
    h.backing_format = g_strdup("raw");
    round_trip(&h, b);
    g_assert_cmpuint(ldbe32(b + 72), ==,
                     0xe2792aca); /* extensions follow 72 bytes; no table of features */
    g_assert_cmpuint(ldbe32(b + 88), ==, 0);
    g_assert_cmpuint(ldbe64(b + 8), ==, 96);
    g_assert_cmpmem(b + 96, 4, "base", 4);
    qcow2_header_clear(&h);
}

static void test_no_room(void)
{
    g_autofree uint8_t *b = g_malloc(512);
    GError *err = NULL;
    Qcow2Header h;

    header_base(&h, 3);
    h.cluster_bits = 9;
    h.backing_file = g_strnfill(300, 'x'); /* the names of features make room */
    g_assert_cmpint(qcow2_header_serialise(&h, b, 512, NULL), ==, 0);
    g_assert_cmpuint(ldbe64(b + 8), ==, 120);
    g_free(h.backing_file);
    h.backing_file = g_strnfill(512 - 120, 'x');
    g_assert_cmpint(qcow2_header_serialise(&h, b, 512, NULL), ==, 0);
    g_free(h.backing_file);
    h.backing_file = g_strnfill(512 - 119, 'x');
    g_assert_cmpint(qcow2_header_serialise(&h, b, 512, &err), ==, -ENOSPC);
    g_assert_error(err, COWLET_ERROR, ENOSPC);
    g_clear_error(&err);
    qcow2_header_clear(&h);
}

/* ---- What is refused ---- */

typedef struct Damage {
    unsigned at, size;
    uint64_t value;
    int ret;
    const char *message;
} Damage;

static void test_refused(void)
{
    static const Damage t[] = {
        { 0, 4, 0x514649fa, -EINVAL, "Image is not in qcow2 format" },
        { 4, 4, 1, -ENOTSUP, "Unsupported qcow2 version 1" },
        { 4, 4, 4, -ENOTSUP, "Unsupported qcow2 version 4" },
        { 8, 8, CLUSTER + 1, -EINVAL, "Invalid backing file offset" },
        { 20, 4, 8, -EINVAL, "Unsupported cluster size: 2^8" },
        { 20, 4, 22, -EINVAL, "Unsupported cluster size: 2^22" },
        { 20, 4, 0xffffffff, -EINVAL, "Unsupported cluster size: 2^4294967295" },
        { 24, 8, UINT64_C(1) << 63, -EFBIG,
          "Could not refresh total sector count: File too large" },
        { 24, 8, INT64_MAX, -EFBIG, "Image is too big" },
        { 24, 8, 11 * GiB, -EINVAL, "L1 table is too small" },
        { 32, 4, 3, -EINVAL, "Unsupported encryption method 3" },
        { 36, 4, 0, -EINVAL, "L1 table is too small" },
        { 36, 4, 0x400001, -EFBIG, "Active L1 table too large" },
        { 36, 4, 0xffffffff, -EFBIG, "Active L1 table too large" },
        { 40, 8, 3 * CLUSTER + 512, -EINVAL, "Active L1 table offset invalid" },
        { 40, 8, UINT64_C(0xffffffffffff0000), -EINVAL, "Active L1 table offset invalid" },
        { 40, 8, FILE_LENGTH, -EIO, "Could not read L1 table: Input/output error" },
        { 48, 8, CLUSTER + 1, -EINVAL, "Reference count table offset invalid" },
        { 48, 8, FILE_LENGTH, -EIO, "Could not initialize refcount handling: Input/output error" },
        { 56, 4, 0, -EINVAL, "Image does not contain a reference count table" },
        { 56, 4, 129, -EINVAL, "Reference count table too large" },
        { 60, 4, 65537, -EFBIG, "Snapshot table too large" },
        { 64, 8, 5, -EINVAL, "Snapshot table offset invalid" },
        { 96, 4, 7, -EINVAL, "Reference count entry width too large; may not exceed 64 bits" },
        { 100, 4, 103, -EINVAL, "qcow2 header too short" },
        { 100, 4, CLUSTER + 8, -EINVAL, "qcow2 header exceeds cluster size" },
        { 104, 1, 1, -EINVAL, "qcow2: Compression type incompatible feature bit must be set" },
        { 104, 1, 2, -ENOTSUP, "qcow2: unknown compression type: 2" },
        { 72, 8, QCOW2_INCOMPAT_COMPRESSION, -EINVAL,
          "qcow2: Compression type incompatible feature bit must not be set" },
        { 72, 8, QCOW2_INCOMPAT_CORRUPT, -EACCES,
          "qcow2: Image is corrupt; cannot be opened read/write" },
        { 116, 4, CLUSTER, -EINVAL, "Header extension too large" },
    };
    g_autofree uint8_t *good = g_malloc(CLUSTER), *b = g_malloc(CLUSTER);
    Qcow2Header h;

    header_base(&h, 3);
    round_trip(&h, good);
    for (unsigned i = 0; i < G_N_ELEMENTS(t); i++) {
        memcpy(b, good, CLUSTER);
        if (t[i].size == 8) {
            stbe64(b + t[i].at, t[i].value);
        } else if (t[i].size == 4) {
            stbe32(b + t[i].at, (uint32_t)t[i].value);
        } else {
            b[t[i].at] = (uint8_t)t[i].value;
        }
        expect(b, CLUSTER, BLK_O_RDWR, t[i].ret, t[i].message);
    }
    /* A corrupt image may be read, and checked. */
    memcpy(b, good, CLUSTER);
    stbe64(b + 72, QCOW2_INCOMPAT_CORRUPT);
    expect(b, CLUSTER, 0, 0, NULL);
    expect(b, CLUSTER, BLK_O_RDWR | BLK_O_CHECK, 0, NULL);
    qcow2_header_clear(&h);
}

static void test_ext_refused(void)
{
    g_autofree uint8_t *b = g_malloc(CLUSTER);
    Qcow2Header h;

    header_base(&h, 3);
    h.cluster_bits = 13;
    h.incompatible = QCOW2_INCOMPAT_EXTL2;
    g_assert_cmpint(qcow2_header_serialise(&h, b, 8192, NULL), ==, 0);
    expect(b, 8192, 0, -EINVAL,
           "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes");
    qcow2_header_clear(&h);
}

/* Unknown bits by the image's own names; those without a name as a number. */
static void test_feature_names(void)
{
    g_autofree uint8_t *b = g_malloc0(CLUSTER);
    Qcow2Header h;

    header_base(&h, 3);
    g_assert_cmpint(qcow2_header_serialise(&h, b, CLUSTER, NULL), ==, 0);
    stbe64(b + 72, UINT64_C(1) << 40);
    expect(b, CLUSTER, 0, -ENOTSUP,
           "Unsupported qcow2 feature(s): Unknown incompatible feature: 10000000000");

    memset(b + 112, 0, CLUSTER - 112);
    stbe32(b + 112, 0x6803f857);
    stbe32(b + 116, 3 * 48);
    b[120] = 0, b[121] = 40, strcpy((char *)b + 122, "Test feature");
    b[168] = 1, b[169] = 41, strcpy((char *)b + 170, "of another type");
    b[216] = 0, b[217] = 63, memset(b + 218, 'n', 46); /* not terminated */
    expect(b, CLUSTER, 0, -ENOTSUP, "Unsupported qcow2 feature(s): Test feature");
    stbe64(b + 72, UINT64_C(3) << 40 | UINT64_C(1) << 63);
    expect(b, CLUSTER, 0, -ENOTSUP,
           "Unsupported qcow2 feature(s): Test feature, "
           "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn, "
           "Unknown incompatible feature: 20000000000");
    qcow2_header_clear(&h);
}

/* Lengths: 104 has no compression type; more than ours is kept. */
static void test_lengths(void)
{
    g_autofree uint8_t *b = g_malloc0(CLUSTER);
    Qcow2Header h, back;

    header_base(&h, 3);
    g_assert_cmpint(qcow2_header_serialise(&h, b, CLUSTER, NULL), ==, 0);
    for (uint32_t len = 104; len <= 200; len++) {
        memset(b + 104, 0, CLUSTER - 104);
        stbe32(b + 100, len);
        memset(b + 112, 0xee, 88);
        stbe64(b + len, 0);
        g_assert_cmpint(qcow2_header_parse(&back, b, CLUSTER, FILE_LENGTH, 0, NULL), ==, 0);
        g_assert_cmpuint(back.header_length, ==, len);
        g_assert_cmpuint(back.unknown_fields_len, ==, len > 112 ? len - 112 : 0);
        g_assert_cmpuint(back.unknown_exts->len, ==, 0);
        qcow2_header_clear(&back);
    }
    qcow2_header_clear(&h);
}

/* ---- Damage ---- */

static void test_cut(void)
{
    g_autofree uint8_t *b = g_malloc(CLUSTER);
    Qcow2Header h;

    for (uint32_t version = 2; version <= 3; version++) {
        header_base(&h, version);
        h.backing_file = g_strdup("backing.img");
        h.backing_format = g_strdup("raw");
        round_trip(&h, b);
        for (size_t len = 0; len < 1024; len++) {
            uint8_t *exact = g_memdup2(b, len ? len : 1);
            GError *err = NULL;
            Qcow2Header back;
            int ret = qcow2_header_parse(&back, exact, len, (int64_t)len, 0, &err);

            g_assert_cmpint(ret, <, 0); /* the tables lie far behind */
            g_assert_nonnull(err);
            g_error_free(err);
            g_free(exact);
        }
        qcow2_header_clear(&h);
    }
}

static void damage(GRand *rand, uint8_t *b)
{
    for (int n = g_rand_int_range(rand, 1, 5); n > 0; n--) {
        uint32_t at = (uint32_t)g_rand_int_range(rand, 4, 700);

        switch (g_rand_int_range(rand, 0, 4)) {
        case 0:
            b[at] ^= (uint8_t)(1u << g_rand_int_range(rand, 0, 8));
            break;
        case 1:
            b[at] = (uint8_t)g_rand_int(rand);
            break;
        case 2:
            stbe32(b + ALIGN_DOWN(at, 4u), g_rand_int(rand) % 300);
            break;
        default:
            stbe64(b + ALIGN_DOWN(at, 8u), (uint64_t)g_rand_int(rand)
                                               << g_rand_int_range(rand, 0, 33));
        }
    }
}

static void test_random(void)
{
    g_autofree uint8_t *good = g_malloc(CLUSTER), *b = g_malloc(1024), *out = g_malloc(CLUSTER);
    g_autoptr(GRand) rand = g_rand_new_with_seed(4711);
    unsigned passed = 0;
    Qcow2Header h;

    header_base(&h, 3);
    h.backing_file = g_strdup("backing.img");
    h.backing_format = g_strdup("raw");
    h.data_file = g_strdup("data");
    round_trip(&h, good);
    for (int i = 0; i < 30000; i++) {
        GError *err = NULL;
        Qcow2Header back;

        memcpy(b, good, 1024);
        damage(rand, b);
        if (qcow2_header_parse(&back, b, 1024, FILE_LENGTH, 0, &err) == 0) {
            back.incompatible &= ~QCOW2_INCOMPAT_CORRUPT; /* else it is not opened for writing */
            if (back.cluster_bits == 16 && (!back.backing_file || back.backing_file[0])) {
                passed++;
                round_trip(&back, out);
            }
            qcow2_header_clear(&back);
        } else {
            g_assert_nonnull(err);
            g_clear_error(&err);
        }
    }
    g_assert_cmpuint(passed, >, 100);
    qcow2_header_clear(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/header/v3", test_v3);
    g_test_add_func("/qcow2/header/extensions", test_extensions);
    g_test_add_func("/qcow2/header/v2", test_v2);
    g_test_add_func("/qcow2/header/no-room", test_no_room);
    g_test_add_func("/qcow2/header/refused", test_refused);
    g_test_add_func("/qcow2/header/extended-l2-refused", test_ext_refused);
    g_test_add_func("/qcow2/header/feature-names", test_feature_names);
    g_test_add_func("/qcow2/header/lengths", test_lengths);
    g_test_add_func("/qcow2/header/cut", test_cut);
    g_test_add_func("/qcow2/header/random", test_random);
    return g_test_run();
}
