/* SPDX-License-Identifier: MIT */
/*
 * The L2 codec.  Bits of an entry: 63 COPIED, 62 compressed, 9-55 host offset, 0 zero (standard
 * entries of version 3).  Bitmap of an extended entry: 0-31 allocated, 32-63 reads zero.
 */
#include "l2.h"

#include "util/bytes.h"

static inline uint32_t alloc_bits(L2Entry e)
{
    return (uint32_t)e.bitmap;
}

static inline uint32_t zero_bits(L2Entry e)
{
    return (uint32_t)(e.bitmap >> 32);
}

/* Bits [first, first + n) of a 32-bit mask. */
static inline uint32_t range_bits(unsigned first, unsigned n)
{
    uint32_t ones = n >= 32 ? UINT32_MAX : (UINT32_C(1) << n) - 1;

    return ones << first;
}

L2Entry qcow2_l2_load(const Geometry *g, const void *slice, unsigned index)
{
    const uint8_t *p = (const uint8_t *)slice + (size_t)index * g->l2_entry_size;

    return (L2Entry){ .desc = ldbe64(p), .bitmap = g->extended_l2 ? ldbe64(p + 8) : 0 };
}

void qcow2_l2_store(const Geometry *g, void *slice, unsigned index, L2Entry e)
{
    uint8_t *p = (uint8_t *)slice + (size_t)index * g->l2_entry_size;

    stbe64(p, e.desc);
    if (g->extended_l2) {
        stbe64(p + 8, e.bitmap);
    }
}

/* Offset 0 is a host cluster with an external data file only: guest offset 0 lives there, and
 * COPIED, which every allocated cluster has there, tells it from an unallocated one. */
static bool has_host(const Geometry *g, L2Entry e, uint64_t offset)
{
    return offset != 0 || (g->external_data && (e.desc & L2E_COPIED));
}

bool qcow2_l2_has_host(const Geometry *g, L2Entry e)
{
    return !(e.desc & L2E_COMPRESSED) && has_host(g, e, e.desc & QCOW2_OFFSET_MASK);
}

uint64_t qcow2_l2_host(const Geometry *g, L2Entry e)
{
    return e.desc & QCOW2_OFFSET_MASK;
}

static ScKind kind_std(const Geometry *g, L2Entry e)
{
    bool host = qcow2_l2_has_host(g, e);

    if (e.desc & L2E_ZERO) {
        if (g->version < 3) {
            return SC_INVALID;
        }
        return host ? SC_ZERO_ALLOC : SC_ZERO_PLAIN;
    }
    return host ? SC_NORMAL : SC_UNALLOCATED_PLAIN;
}

static ScKind kind_ext(const Geometry *g, L2Entry e, unsigned sc)
{
    bool host = qcow2_l2_has_host(g, e);
    bool alloc = alloc_bits(e) >> sc & 1, zero = zero_bits(e) >> sc & 1;

    if (alloc && (zero || !host)) {
        return SC_INVALID;
    }
    if (alloc) {
        return SC_NORMAL;
    }
    if (zero) {
        return host ? SC_ZERO_ALLOC : SC_ZERO_PLAIN;
    }
    return host ? SC_UNALLOCATED_ALLOC : SC_UNALLOCATED_PLAIN;
}

ScKind qcow2_l2_kind(const Geometry *g, L2Entry e, unsigned sc, uint64_t guest)
{
    if (e.desc & L2E_COMPRESSED) {
        return SC_COMPRESSED;
    }
    return g->extended_l2 ? kind_ext(g, e, sc) : kind_std(g, e);
}

uint32_t qcow2_l2_normal_mask(const Geometry *g, L2Entry e)
{
    if (!qcow2_l2_has_host(g, e)) {
        return 0;
    }
    return g->extended_l2 ? alloc_bits(e) & ~zero_bits(e) : kind_std(g, e) == SC_NORMAL;
}

/* Subclusters from @sc on for which both of their bits are the same as @sc's. */
static unsigned same_bits(L2Entry e, unsigned sc)
{
    uint32_t a = alloc_bits(e) >> sc, z = zero_bits(e) >> sc;
    uint32_t differ = (a ^ (a & 1 ? UINT32_MAX : 0)) | (z ^ (z & 1 ? UINT32_MAX : 0));
    unsigned n = differ ? (unsigned)__builtin_ctz(differ) : 32;

    return MIN(n, QCOW2_SUBCLUSTERS - sc);
}

ScKind qcow2_l2_run(const Geometry *g, L2Entry e, unsigned sc, uint64_t guest, unsigned *nsc)
{
    ScKind kind = qcow2_l2_kind(g, e, sc, guest);

    if (!g->extended_l2 || kind == SC_COMPRESSED) {
        *nsc = g->subclusters - sc;
    } else {
        *nsc = same_bits(e, sc);
    }
    return kind;
}

L2Defect qcow2_l2_defect(const Geometry *g, L2Entry e, uint64_t guest)
{
    uint64_t host = e.desc & QCOW2_OFFSET_MASK;

    if (e.desc & L2E_COMPRESSED) {
        /* COPIED there is wrong, and check says so; it changes nothing: no compressed cluster is
         * written in place. */
        return g->external_data ? L2_PACKED : L2_SOUND;
    }
    if (host & (g->cluster_size - 1)) {
        return L2_UNALIGNED;
    }
    if (g->external_data && qcow2_l2_has_host(g, e) && host != geo_cluster_start(g, guest)) {
        return L2_MISPLACED;
    }
    if (g->extended_l2 &&
        ((alloc_bits(e) & zero_bits(e)) || (alloc_bits(e) && !qcow2_l2_has_host(g, e)))) {
        return L2_BITMAP;
    }
    return L2_SOUND;
}

void qcow2_l2_compressed_range(const Geometry *g, L2Entry e, uint64_t *host, uint64_t *bytes)
{
    uint64_t sectors = ((e.desc >> g->csize_shift) & g->csize_mask) + 1;

    g_assert(e.desc & L2E_COMPRESSED);
    *host = e.desc & g->coffset_mask;
    *bytes = sectors * 512 - (*host & 511);
}

L2Entry qcow2_l2_make_compressed(const Geometry *g, uint64_t host, uint64_t bytes)
{
    uint64_t sectors = ((host + bytes - 1) >> 9) - (host >> 9);

    g_assert(host <= g->coffset_mask && sectors <= g->csize_mask);
    return (L2Entry){ .desc = L2E_COMPRESSED | sectors << g->csize_shift | host };
}

L2Entry qcow2_l2_make_normal(const Geometry *g, uint64_t host)
{
    g_assert(geo_in_cluster(g, host) == 0);
    return (L2Entry){ .desc = host | L2E_COPIED, .bitmap = g->extended_l2 ? UINT32_MAX : 0 };
}

L2Entry qcow2_l2_make_host_only(const Geometry *g, uint64_t host)
{
    g_assert(g->extended_l2 && geo_in_cluster(g, host) == 0);
    return (L2Entry){ .desc = host | L2E_COPIED };
}

L2Entry qcow2_l2_set_allocated(const Geometry *g, L2Entry e, unsigned first, unsigned n)
{
    uint64_t bits = range_bits(first, n);

    g_assert(n > 0 && first + n <= g->subclusters);
    if (g->extended_l2) {
        e.bitmap = (e.bitmap | bits) & ~(bits << 32);
    } else {
        e.desc &= ~L2E_ZERO;
    }
    return e;
}

L2Entry qcow2_l2_set_zero(const Geometry *g, L2Entry e, unsigned first, unsigned n)
{
    uint64_t bits = range_bits(first, n);

    g_assert(n > 0 && first + n <= g->subclusters);
    if (g->extended_l2) {
        e.bitmap = (e.bitmap | bits << 32) & ~bits;
    } else {
        e.desc |= L2E_ZERO;
    }
    return e;
}

L2Entry qcow2_l2_set_unallocated(const Geometry *g, L2Entry e, unsigned first, unsigned n)
{
    uint64_t bits = range_bits(first, n);

    g_assert(n > 0 && first + n <= g->subclusters);
    if (g->extended_l2) {
        e.bitmap &= ~(bits | bits << 32);
    } else {
        e.desc = 0;
    }
    return e;
}
