/* SPDX-License-Identifier: MIT */
/*
 * The L2 codec, exhaustively, against a table of its own written from the format's rows: every
 * combination of host offset, COPIED, compressed, zero flag, allocation bit and zero bit, with and
 * without extended entries and an external data file, version 2 and 3, each cluster size.
 */
#include "block/qcow2/l2.h"

#include <string.h>

/* ---- The table ---- */

typedef struct Bits {
    uint64_t host;
    bool copied, compressed, zero_flag, alloc, zero;
} Bits;

#define INVALID (-1)

/* Rows: host cluster present, zero bit, alloc bit. */
static const int ext_rows[2][2][2] = {
    [0] = { [0] = { SC_UNALLOCATED_PLAIN, INVALID }, [1] = { SC_ZERO_PLAIN, INVALID } },
    [1] = { [0] = { SC_UNALLOCATED_ALLOC, SC_NORMAL }, [1] = { SC_ZERO_ALLOC, INVALID } },
};
/* Rows: host cluster present, zero flag. */
static const int std_rows[2][2] = {
    [0] = { SC_UNALLOCATED_PLAIN, SC_ZERO_PLAIN },
    [1] = { SC_NORMAL, SC_ZERO_ALLOC },
};

static int expected(const Geometry *g, Bits b, uint64_t guest)
{
    bool present = b.host != 0;

    if (b.compressed) {
        return g->external_data ? INVALID : SC_COMPRESSED;
    }
    if (b.host % g->cluster_size != 0) {
        return INVALID;
    }
    if (g->external_data) {
        /* Offset 0 of the data file is a cluster like any other, that of guest offset 0. */
        present = present || b.copied;
        if (present && b.host != guest) {
            return INVALID;
        }
    }
    if (g->extended_l2) {
        return ext_rows[present][b.zero][b.alloc];
    }
    return b.zero_flag && g->version < 3 ? (int)SC_INVALID : std_rows[present][b.zero_flag];
}

static void check_one(const Geometry *g, Bits b, uint64_t reserved, unsigned sc, uint64_t guest)
{
    L2Entry e = {
        .desc = b.host | reserved | (b.copied ? L2E_COPIED : 0) |
                (b.compressed ? L2E_COMPRESSED : 0) | (b.zero_flag ? L2E_ZERO : 0),
        .bitmap = (uint64_t)b.alloc << sc | (uint64_t)b.zero << (32 + sc),
    };
    int want = expected(g, b, guest);
    bool sound = qcow2_l2_defect(g, e, guest) == L2_SOUND;
    ScKind kind = qcow2_l2_kind(g, e, sc, guest);

    g_assert_cmpint(sound, ==, want != INVALID);
    if (sound) {
        unsigned n;

        g_assert_cmpint(kind, ==, want);
        g_assert_cmpint(qcow2_l2_run(g, e, sc, guest, &n), ==, want);
        g_assert_cmpuint(n, >, 0);
        g_assert_cmpuint(sc + n, <=, g->subclusters);
        g_assert_cmpint(qcow2_l2_has_host(g, e), ==,
                        (want == SC_INVALID && b.host) || want == SC_NORMAL ||
                            want == SC_ZERO_ALLOC || want == SC_UNALLOCATED_ALLOC);
        if (qcow2_l2_has_host(g, e)) {
            g_assert_cmpuint(qcow2_l2_host(g, e), ==, b.host);
        }
        g_assert_cmpint(qcow2_l2_copied(e), ==, b.copied);
        g_assert_cmpint(qcow2_l2_normal_mask(g, e) >> sc & 1, ==, want == SC_NORMAL);
    }
}

static void check_hosts(const Geometry *g, uint64_t guest, unsigned bits, unsigned sc)
{
    const uint64_t cs = g->cluster_size;
    const uint64_t hosts[] = { 0,        cs,  5 * cs,         guest, QCOW2_MAX_OFFSET - cs,
                               cs + 512, 512, cs / 2 + 7 * cs };
    const uint64_t reserved[] = { 0, UINT64_C(0x1fe), UINT64_C(0x3f) << 56, UINT64_C(1) << 61 };

    for (unsigned h = 0; h < G_N_ELEMENTS(hosts); h++) {
        for (unsigned r = 0; r < G_N_ELEMENTS(reserved); r++) {
            Bits b = {
                hosts[h] & QCOW2_OFFSET_MASK, bits & 1, bits & 2, bits & 4, bits & 8, bits & 16
            };

            check_one(g, b, reserved[r], sc, guest);
        }
    }
}

static void check_geometry(const Geometry *g)
{
    const uint64_t guests[] = { 0, g->cluster_size, 5 * g->cluster_size, UINT64_C(1) << 40 };

    for (unsigned i = 0; i < G_N_ELEMENTS(guests); i++) {
        for (unsigned bits = 0; bits < 32; bits++) {
            if (!g->extended_l2 && bits >= 8) {
                break; /* no bitmap */
            }
            for (unsigned sc = 0; sc < g->subclusters; sc++) {
                check_hosts(g, guests[i], bits, sc);
            }
        }
    }
}

static void test_table(void)
{
    for (unsigned cb = QCOW2_MIN_CLUSTER_BITS; cb <= QCOW2_MAX_CLUSTER_BITS; cb++) {
        for (int version = 2; version <= 3; version++) {
            for (int ext = 0; ext < 2; ext++) {
                for (int data = 0; data < 2; data++) {
                    Geometry g;

                    if ((version == 2 && (ext || data)) ||
                        (ext && cb < QCOW2_EXTL2_MIN_CLUSTER_BITS)) {
                        continue;
                    }
                    qcow2_geometry_init(&g, version, cb, 4, ext, data, false);
                    check_geometry(&g);
                }
            }
        }
    }
}

/* Both bits of any subcluster, or an allocated one without a cluster, spoil the whole entry. */
static void test_defects(void)
{
    Geometry g;

    qcow2_geometry_init(&g, 3, 16, 4, true, false, false);
    for (unsigned i = 0; i < 32; i++) {
        L2Entry both = { L2E_COPIED | 65536, UINT64_C(0x100000001) << i };
        L2Entry orphan = { 0, UINT64_C(1) << i };

        g_assert_true(L2_SOUND != qcow2_l2_defect(&g, both, 0));
        g_assert_true(L2_SOUND != qcow2_l2_defect(&g, orphan, 0));
        g_assert_true(L2_SOUND == qcow2_l2_defect(&g, (L2Entry){ 65536, UINT64_C(1) << i }, 0));
        g_assert_true(L2_SOUND == qcow2_l2_defect(&g, (L2Entry){ 0, UINT64_C(1) << (32 + i) }, 0));
    }
}

/* A compressed cluster's bitmap says nothing. */
static void test_compressed_bitmap(void)
{
    Geometry g;
    unsigned n;

    qcow2_geometry_init(&g, 3, 16, 4, true, false, false);
    for (unsigned sc = 0; sc < 32; sc++) {
        L2Entry e = qcow2_l2_make_compressed(&g, 70000, 3000);

        g_assert_cmpuint(e.bitmap, ==, 0);
        e.bitmap = UINT64_C(0x123456789abcdef1);
        g_assert_true(L2_SOUND == qcow2_l2_defect(&g, e, 0));
        g_assert_cmpint(qcow2_l2_run(&g, e, sc, 0, &n), ==, SC_COMPRESSED);
        g_assert_cmpuint(n, ==, 32 - sc);
        g_assert_false(qcow2_l2_has_host(&g, e));
    }
}

/* ---- Runs ---- */

static void check_runs(const Geometry *g, L2Entry e)
{
    for (unsigned sc = 0; sc < g->subclusters; sc++) {
        ScKind kind = qcow2_l2_kind(g, e, sc, 0);
        unsigned n, naive = 1;

        g_assert_cmpint(qcow2_l2_normal_mask(g, e) >> sc & 1, ==, kind == SC_NORMAL);
        while (sc + naive < g->subclusters && qcow2_l2_kind(g, e, sc + naive, 0) == kind) {
            naive++;
        }
        g_assert_cmpint(qcow2_l2_run(g, e, sc, 0, &n), ==, kind);
        if (kind == SC_INVALID) { /* never followed: its end does not matter */
            g_assert_cmpuint(n, >=, 1);
            g_assert_cmpuint(n, <=, naive);
        } else {
            g_assert_cmpuint(n, ==, naive);
        }
    }
}

static L2Entry spread(uint64_t host, unsigned first, unsigned states, unsigned count,
                      uint64_t around)
{
    L2Entry e = { host ? host | L2E_COPIED : 0, around };

    for (unsigned i = 0; i < count; i++, states >>= 2) {
        uint64_t bit = UINT64_C(1) << (first + i);

        e.bitmap &= ~(bit | bit << 32);
        e.bitmap |= (states & 1 ? bit : 0) | (states & 2 ? bit << 32 : 0);
    }
    return e;
}

/* All states of six neighbours, at both ends and in the middle, in each surrounding. */
static void test_runs_exhaustive(void)
{
    static const unsigned firsts[] = { 0, 13, 26 };
    static const uint64_t around[] = { 0, UINT32_MAX, UINT64_C(0xffffffff00000000) };
    Geometry g;

    qcow2_geometry_init(&g, 3, 14, 4, true, false, false);
    for (unsigned host = 0; host < 2; host++) {
        for (unsigned f = 0; f < G_N_ELEMENTS(firsts); f++) {
            for (unsigned a = 0; a < G_N_ELEMENTS(around); a++) {
                for (unsigned states = 0; states < 4096; states++) {
                    check_runs(&g, spread(host << 14, firsts[f], states, 6, around[a]));
                }
            }
        }
    }
}

static void test_runs_random(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20240);
    Geometry g;

    qcow2_geometry_init(&g, 3, 16, 4, true, false, false);
    for (unsigned i = 0; i < 100000; i++) {
        uint32_t alloc = g_rand_int(rand), zero = g_rand_int(rand);

        switch (i % 4) { /* from thick to thin */
        case 0:
            zero &= ~alloc;
            break;
        case 1:
            alloc &= g_rand_int(rand) & g_rand_int(rand);
            zero &= ~alloc & g_rand_int(rand);
            break;
        case 2:
            alloc |= g_rand_int(rand) | g_rand_int(rand);
            zero &= ~alloc;
            break;
        default:
            break; /* invalid ones too */
        }
        check_runs(&g, (L2Entry){ i % 3 ? 65536 | L2E_COPIED : 0, (uint64_t)zero << 32 | alloc });
    }
}

/* ---- Constructors ---- */

static void check_set(const Geometry *g, L2Entry e, unsigned first, unsigned n)
{
    L2Entry a = qcow2_l2_set_allocated(g, e, first, n), z = qcow2_l2_set_zero(g, e, first, n);
    L2Entry u = qcow2_l2_set_unallocated(g, e, first, n);

    for (unsigned i = 0; i < 32; i++) {
        bool in = i >= first && i < first + n;
        ScKind old = qcow2_l2_kind(g, e, i, 0);

        g_assert_cmpint(qcow2_l2_kind(g, a, i, 0), ==, in ? SC_NORMAL : old);
        g_assert_cmpint(qcow2_l2_kind(g, z, i, 0), ==, in ? SC_ZERO_ALLOC : old);
        g_assert_cmpint(qcow2_l2_kind(g, u, i, 0), ==, in ? SC_UNALLOCATED_ALLOC : old);
    }
    g_assert_cmpuint(a.desc, ==, e.desc);
    g_assert_cmpuint(z.desc, ==, e.desc);
    g_assert_cmpuint(u.desc, ==, e.desc);
}

static void test_set_ext(void)
{
    static const uint64_t bitmaps[] = { 0, UINT32_MAX, UINT64_C(0xffffffff00000000),
                                        UINT64_C(0x0f0f0f0f70707070) };
    Geometry g;

    qcow2_geometry_init(&g, 3, 16, 4, true, false, false);
    for (unsigned b = 0; b < G_N_ELEMENTS(bitmaps); b++) {
        for (unsigned first = 0; first < 32; first++) {
            for (unsigned n = 1; first + n <= 32; n++) {
                check_set(&g, (L2Entry){ 65536 | L2E_COPIED, bitmaps[b] }, first, n);
            }
        }
    }
    g_assert_cmpuint(qcow2_l2_make_normal(&g, 65536).bitmap, ==, UINT32_MAX);
    g_assert_cmpuint(qcow2_l2_make_normal(&g, 65536).desc, ==, 65536 | L2E_COPIED);
    g_assert_cmpuint(qcow2_l2_make_host_only(&g, 65536).bitmap, ==, 0);
}

static void test_set_std(void)
{
    Geometry g;
    L2Entry e;

    qcow2_geometry_init(&g, 3, 16, 4, false, false, false);
    e = qcow2_l2_make_normal(&g, 65536);
    g_assert_cmpuint(e.desc, ==, 65536 | L2E_COPIED);
    g_assert_cmpuint(e.bitmap, ==, 0);
    e = qcow2_l2_set_zero(&g, e, 0, 1);
    g_assert_cmpint(qcow2_l2_kind(&g, e, 0, 0), ==, SC_ZERO_ALLOC);
    g_assert_cmpuint(qcow2_l2_host(&g, e), ==, 65536);
    e = qcow2_l2_set_allocated(&g, e, 0, 1);
    g_assert_cmpint(qcow2_l2_kind(&g, e, 0, 0), ==, SC_NORMAL);
    e = qcow2_l2_set_unallocated(&g, e, 0, 1);
    g_assert_cmpint(qcow2_l2_kind(&g, e, 0, 0), ==, SC_UNALLOCATED_PLAIN);
    e = qcow2_l2_set_zero(&g, (L2Entry){ 0 }, 0, 1);
    g_assert_cmpint(qcow2_l2_kind(&g, e, 0, 0), ==, SC_ZERO_PLAIN);
}

/* ---- Bytes ---- */

static void test_bytes(void)
{
    static const uint8_t want[16] = { 0x80, 0x01, 0x02, 0x03, 0x04, 0x05, 0x00, 0x00,
                                      0xf0, 0x00, 0x00, 0x01, 0x0e, 0x00, 0x00, 0x02 };
    const L2Entry e = { UINT64_C(0x8001020304050000), UINT64_C(0xf00000010e000002) };

    for (int ext = 0; ext < 2; ext++) {
        uint8_t slice[64];
        Geometry g;
        L2Entry back;

        qcow2_geometry_init(&g, 3, 16, 4, ext, false, false);
        memset(slice, 0x55, sizeof(slice));
        qcow2_l2_store(&g, slice, 1, e);
        g_assert_cmpmem(slice + (ext ? 16 : 8), ext ? 16 : 8, want, ext ? 16 : 8);
        for (unsigned i = 0; i < sizeof(slice); i++) { /* the neighbours are left alone */
            if (i / (ext ? 16 : 8) != 1) {
                g_assert_cmpint(slice[i], ==, 0x55);
            }
        }
        back = qcow2_l2_load(&g, slice, 1);
        g_assert_cmpuint(back.desc, ==, e.desc);
        g_assert_cmpuint(back.bitmap, ==, ext ? e.bitmap : 0);
    }
}

/* ---- Compressed descriptors ---- */

/* As the format says: bits 0 to x-1 host offset, x to 61 additional sectors, x = 62 - (cluster_bits
 * - 8). */
static void check_compressed(const Geometry *g, uint64_t host, uint64_t bytes)
{
    unsigned x = 62 - (g->cluster_bits - 8);
    L2Entry e = qcow2_l2_make_compressed(g, host, bytes);
    uint64_t more = (e.desc & ((UINT64_C(1) << 62) - 1)) >> x, got_host, got_bytes;

    g_assert_cmpuint(e.desc >> 62, ==, 1); /* compressed, not COPIED */
    g_assert_cmpuint(e.desc & ((UINT64_C(1) << x) - 1), ==, host);
    g_assert_cmpuint(more, ==, (host + bytes - 1) / 512 - host / 512);
    qcow2_l2_compressed_range(g, e, &got_host, &got_bytes);
    g_assert_cmpuint(got_host, ==, host);
    g_assert_cmpuint(got_bytes, >=, bytes);
    g_assert_cmpuint(got_bytes, <, bytes + 512);
    g_assert_cmpuint((got_host + got_bytes) % 512, ==, 0);
    g_assert_cmpint(qcow2_l2_kind(g, e, 0, 0), ==, SC_COMPRESSED);
}

static void test_compressed(void)
{
    for (unsigned cb = QCOW2_MIN_CLUSTER_BITS; cb <= QCOW2_MAX_CLUSTER_BITS; cb++) {
        Geometry g;
        uint64_t cs, top;

        qcow2_geometry_init(&g, 3, cb, 4, false, false, false);
        cs = g.cluster_size;
        top = MIN(g.coffset_mask, QCOW2_MAX_OFFSET - 1);
        for (uint64_t off = 0; off < 1100; off += off < 20 ? 1 : 57) {
            const uint64_t lengths[] = { 1, 2, 511, 512, cs / 2, cs - 512, cs - 1 };

            for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
                uint64_t n = MAX(lengths[i], 1);

                check_compressed(&g, 3 * cs + off, n);
                check_compressed(&g, top - off, n);
            }
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/l2/table", test_table);
    g_test_add_func("/qcow2/l2/defects", test_defects);
    g_test_add_func("/qcow2/l2/compressed-bitmap", test_compressed_bitmap);
    g_test_add_func("/qcow2/l2/runs-exhaustive", test_runs_exhaustive);
    g_test_add_func("/qcow2/l2/runs-random", test_runs_random);
    g_test_add_func("/qcow2/l2/set-extended", test_set_ext);
    g_test_add_func("/qcow2/l2/set-standard", test_set_std);
    g_test_add_func("/qcow2/l2/bytes", test_bytes);
    g_test_add_func("/qcow2/l2/compressed", test_compressed);
    return g_test_run();
}
