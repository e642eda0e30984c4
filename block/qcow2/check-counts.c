/* SPDX-License-Identifier: MIT */
/*
 * The refcounts as they are on disk, for check.
 *
 * All blocks are read once, in order, before the tables are walked; what the walk asks for (does
 * exactly one refer to this cluster?) is kept as a bit for each cluster. The blocks themselves are
 * kept as far as they fit into a budget; those that do not are read once more by the comparison,
 * which goes through them in order, too.
 */
#include "check.h"

#include "refcount-codec.h"
#include "util/bytes.h"

#include <errno.h>

#define FOUR_SINGLES UINT64_C(0x0001000100010001) /* counts of 16 bits */
#define KEPT_BYTES (UINT64_C(4) * MiB)

uint64_t qcow2_check_counts_block_offset(const Check *c, uint64_t b)
{
    const Qcow2 *q = c->q;
    uint64_t e = b < q->alloc.reftable_entries ? q->alloc.reftable[b] & ~UINT64_C(511) : 0;

    return !geo_in_cluster(&q->geo, e) && e >> q->geo.cluster_bits < c->map.clusters ? e : 0;
}

int qcow2_check_counts_init(CheckCounts *n, Check *c)
{
    const Qcow2 *q = c->q;

    *n = (CheckCounts){ .c = c, .loaded = UINT64_MAX };
    n->entries = q->alloc.reftable_entries;
    n->scratch = g_try_malloc(q->geo.cluster_size);
    n->kept = g_try_new0(uint8_t *, MAX(q->alloc.reftable_entries, 1));
    n->bad = g_try_malloc0(q->alloc.reftable_entries / 8 + 1);
    return n->scratch && n->kept && n->bad ? 0 : -ENOMEM;
}

void qcow2_check_counts_clear(CheckCounts *n)
{
    for (uint64_t b = 0; n->kept && b < n->entries; b++) {
        g_free(n->kept[b]);
    }
    g_clear_pointer(&n->kept, g_free);
    g_clear_pointer(&n->scratch, g_free);
    g_clear_pointer(&n->bad, g_free);
}

static bool bit_of(const uint8_t *bits, uint64_t i)
{
    return bits[i / 8] >> i % 8 & 1;
}

/* Block @b, which is at @offset. A block that cannot be read is reported once. */
static int coroutine_fn co_block(CheckCounts *n, uint64_t b, uint64_t offset, const uint8_t **ret)
{
    uint64_t size = n->c->q->geo.cluster_size;
    int r;

    if (n->kept[b] || n->loaded == b) {
        *ret = n->kept[b] ? n->kept[b] : n->scratch;
        return 0;
    }
    if (bit_of(n->bad, b)) {
        return -EIO;
    }
    n->loaded = UINT64_MAX;
    r = qcow2_check_co_read(n->c, offset, size, n->scratch, "refcount block");
    if (r < 0) {
        n->bad[b / 8] |= (uint8_t)(1u << b % 8);
        return r;
    }
    n->loaded = b;
    *ret = n->scratch;
    if (n->kept_bytes + size <= KEPT_BYTES) {
        n->kept[b] = g_try_malloc(size);
        if (n->kept[b]) {
            memcpy(n->kept[b], n->scratch, size);
            n->kept_bytes += size;
        }
    }
    return 0;
}

int coroutine_fn qcow2_check_counts_co_get(CheckCounts *n, uint64_t cluster, uint64_t *ret)
{
    const Geometry *g = &n->c->q->geo;
    uint64_t b = cluster >> g->refblock_bits, offset = qcow2_check_counts_block_offset(n->c, b);
    const uint8_t *block;
    int r;

    *ret = 0;
    if (!offset) {
        return 0;
    }
    r = co_block(n, b, offset, &block);
    if (r == 0) {
        *ret = qcow2_refcount_codec_get(g->refcount_order, block,
                                        cluster & ((UINT64_C(1) << g->refblock_bits) - 1));
    }
    return r;
}

/* The bits of the clusters that @block counts. */
static void note_singles(CheckCounts *n, uint64_t b, const uint8_t *block)
{
    const Geometry *g = &n->c->q->geo;
    uint64_t first = b << g->refblock_bits;
    uint64_t end = MIN(first + (UINT64_C(1) << g->refblock_bits), n->c->map.clusters);

    g_assert(b << g->refblock_bits >> g->refblock_bits == b);
    for (uint64_t i = first; i < end; i++) {
        if (g->refcount_order == 4 && i % 4 == 0 && end - i >= 4 &&
            ldbe64(block + (i - first) * 2) == FOUR_SINGLES) {
            n->c->map.bits[i / 4] |= REFMAP_SINGLE * REFMAP_FOUR;
            i += 3;
            continue;
        }
        if (qcow2_refcount_codec_get(g->refcount_order, block, i - first) == 1) {
            qcow2_check_refmap_mark(&n->c->map, i, REFMAP_SINGLE);
        }
    }
}

void coroutine_fn qcow2_check_counts_co_load(CheckCounts *n)
{
    uint64_t covered =
        n->c->map.clusters ? (n->c->map.clusters - 1) >> n->c->q->geo.refblock_bits : 0;

    for (uint64_t b = 0; b < n->c->q->alloc.reftable_entries && b <= covered; b++) {
        uint64_t offset = qcow2_check_counts_block_offset(n->c, b);
        const uint8_t *block;

        if (offset && co_block(n, b, offset, &block) == 0) { /* else reported, and no bit is set */
            note_singles(n, b, block);
        }
    }
}

bool qcow2_check_counts_copied_is_suspect(const CheckCounts *n, L2Entry e)
{
    const Geometry *g = &n->c->q->geo;

    return !(e.desc & L2E_COMPRESSED) && qcow2_l2_has_host(g, e) && !g->external_data &&
           qcow2_check_counts_is_suspect(n, qcow2_l2_host(g, e), qcow2_l2_copied(e));
}
