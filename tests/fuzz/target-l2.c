/* SPDX-License-Identifier: MIT */
/*
 * The L2 codec. An input: 4 bytes of geometry, then entries of 16 bytes. Sound entries have a kind
 * in each subcluster, in runs that add up; what the constructors make is sound and says what was
 * asked for.
 */
#include "fuzz.h"

#include "qcow2/l2.h"
#include "util/bytes.h"

#include <string.h>

const char fuzz_name[] = "l2";

static void check_runs(const Geometry *g, L2Entry e, uint64_t guest)
{
    bool sound = qcow2_l2_defect(g, e, guest) == L2_SOUND;
    bool readable = sound && (g->version >= 3 || !(e.desc & L2E_ZERO));

    for (unsigned sc = 0, n; sc < g->subclusters; sc += n) {
        ScKind kind = qcow2_l2_run(g, e, sc, guest, &n);

        FUZZ_CHECK(n > 0 && sc + n <= g->subclusters, "run of %u from %u", n, sc);
        FUZZ_CHECK(!readable || kind != SC_INVALID, "a sound entry is invalid at %u", sc);
        for (unsigned i = sc; i < sc + n; i++) {
            FUZZ_CHECK(qcow2_l2_kind(g, e, i, guest) == kind, "kinds differ within a run");
        }
    }
}

static void check_changes(const Geometry *g, L2Entry e, uint64_t guest, unsigned first, unsigned n)
{
    L2Entry zero = qcow2_l2_set_zero(g, e, first, n),
            none = qcow2_l2_set_unallocated(g, e, first, n);

    if (!g->extended_l2 && g->version < 3) {
        zero = e; /* no such flag */
    }
    FUZZ_CHECK(!qcow2_l2_defect(g, zero, guest) && !qcow2_l2_defect(g, none, guest),
               "a change makes a sound entry unsound");
    for (unsigned i = 0; i < g->subclusters; i++) {
        bool in = i >= first && i < first + n;
        ScKind was = qcow2_l2_kind(g, e, i, guest), z = qcow2_l2_kind(g, zero, i, guest),
               u = qcow2_l2_kind(g, none, i, guest);

        FUZZ_CHECK(in || (z == was && u == was), "a change reaches beyond its range");
        FUZZ_CHECK(!in || z == was || z == SC_ZERO_ALLOC || z == SC_ZERO_PLAIN, "not zero");
        FUZZ_CHECK(!in || u == SC_UNALLOCATED_ALLOC || u == SC_UNALLOCATED_PLAIN,
                   "not unallocated");
    }
    if (qcow2_l2_has_host(g, e)) {
        L2Entry a = qcow2_l2_set_allocated(g, e, first, n);

        FUZZ_CHECK(!qcow2_l2_defect(g, a, guest) && qcow2_l2_kind(g, a, first, guest) == SC_NORMAL,
                   "not allocated");
    }
}

static void check_compressed(const Geometry *g, L2Entry e)
{
    uint64_t host, bytes, host2, bytes2;
    L2Entry made;

    qcow2_l2_compressed_range(g, e, &host, &bytes);
    FUZZ_CHECK(bytes > 0 && bytes <= 2 * g->cluster_size && host <= g->coffset_mask,
               "compressed range");
    made = qcow2_l2_make_compressed(g, host, bytes);
    qcow2_l2_compressed_range(g, made, &host2, &bytes2);
    FUZZ_CHECK(host2 == host && bytes2 == bytes, "the compressed range is not the same again");
}

static void one_entry(const Geometry *g, const uint8_t *p, uint8_t range)
{
    uint64_t guest = (uint64_t)p[15] << g->cluster_bits;
    unsigned first = range % g->subclusters, n = 1 + (range >> 5) % (g->subclusters - first);
    L2Entry e = qcow2_l2_load(g, p, 0);
    uint8_t again[16];

    qcow2_l2_store(g, again, 0, e);
    FUZZ_CHECK(!memcmp(again, p, g->l2_entry_size), "stored, an entry is not the same");
    check_runs(g, e, guest);
    if (e.desc & L2E_COMPRESSED) {
        check_compressed(g, e);
    } else if (!qcow2_l2_defect(g, e, guest)) {
        check_changes(g, e, guest, first, n);
    }
}

void fuzz_one(const uint8_t *data, size_t size)
{
    Geometry g;
    bool extended;
    unsigned bits;

    if (size < 4) {
        return;
    }
    extended = data[1] & 1;
    bits = extended ? 14 + data[0] % 8 : 9 + data[0] % 13;
    qcow2_geometry_init(&g, data[1] & 2 && !extended ? 2 : 3, bits, 4, extended, data[1] & 4,
                        false);
    for (size_t at = 4; at + 16 <= size; at += 16) {
        one_entry(&g, data + at, data[2]);
    }
}

size_t fuzz_mutate(uint8_t *data, size_t size, size_t max, uint32_t seed)
{
    size_t n = fuzz_mutate_bytes(data, size, max);

    if (seed % 3 == 0 && n >= 20) { /* an offset that is aligned, bits that do not contradict */
        size_t at = 4 + seed / 3 % ((n - 4) / 16) * 16;
        uint64_t d = ldbe64(data + at), bits = ldbe64(data + at + 8);

        stbe64(data + at, (d & ~UINT64_C(0x1fffff)) | (seed & 64 ? 1 : 0));
        stbe64(data + at + 8, bits & ~(bits << 32));
    }
    return n;
}
