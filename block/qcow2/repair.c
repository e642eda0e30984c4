/* SPDX-License-Identifier: MIT */
/* The mark of a repair, its writes, and counts in place: see repair.h. */
#include "repair.h"

#include "header-layout.h"
#include "refcount-codec.h"
#include "rules.h"

#include "util/bytes.h"

#include <errno.h>

/* ---- The mark ---- */

int coroutine_fn qcow2_repair_co_mark(Qcow2 *q)
{
    int ret = 0;

    if (q->hdr.version < 3 || (q->hdr.incompatible & QCOW2_INCOMPAT_CORRUPT) ||
        RULE_BROKEN(REPAIR_MARKED)) {
        return 0;
    }
    ret = qcow2_header_co_mark_corrupt(&q->header); /* INV-REP-2 */
    if (ret == 0) {
        co_mutex_lock(&q->header.lock);
        q->hdr.incompatible |= QCOW2_INCOMPAT_CORRUPT;
        co_mutex_unlock(&q->header.lock);
    }
    return ret;
}

static int coroutine_fn co_clear_bits_locked(Qcow2 *q) REQUIRES_LOCK(q->header.lock)
{
    uint64_t before = q->hdr.incompatible;
    int ret;

    q->hdr.incompatible &= ~(QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DIRTY);
    if (before == q->hdr.incompatible) {
        return 0;
    }
    ret = qcow2_header_co_write_fields_locked(&q->header, &q->hdr, HEADER_AT(incompatible),
                                              HEADER_AT(compatible));
    ret = ret < 0 ? ret : qcow2_health_co_sync(&q->health, q->file->bs);
    if (ret < 0) {
        q->hdr.incompatible = before;
    }
    return ret;
}

int coroutine_fn qcow2_repair_co_finish(Qcow2 *q, bool sound)
{
    int ret = RULE_BROKEN(REPAIR_CLEARED_LAST) ? 0 : qcow2_health_co_sync(&q->health, q->file->bs);

    if (ret < 0 || !sound) {
        return ret;
    }
    if (q->hdr.version >= 3) {
        co_mutex_lock(&q->header.lock);
        ret = co_clear_bits_locked(q);
        co_mutex_unlock(&q->header.lock);
    }
    if (ret == 0) {
        atomic_store(&q->health.corrupt, false);
    }
    return ret;
}

/* ---- Writes ---- */

int coroutine_fn qcow2_repair_co_write(Qcow2 *q, uint64_t offset, uint64_t bytes, const void *buf)
{
    uint64_t table = geo_cluster_start(&q->geo, offset);
    int ret = bdrv_co_pwrite(q->file, (int64_t)offset, (int64_t)bytes, buf, 0);

    if (ret == 0) {
        co_mutex_lock(&q->alloc.meta_lock);
        qcow2_cache_drop(q->l2_cache, table, q->geo.cluster_size);
        qcow2_cache_drop(q->alloc.ref_cache, table, q->geo.cluster_size);
        q->alloc.free_hint = 0;
        q->alloc.compress_next = 0;
        qcow2_full_map_forget(&q->alloc.full);
        ORACLE(qcow2_oracle_counts_forget(q->alloc.oracle));
        co_mutex_unlock(&q->alloc.meta_lock);
        atomic_fetch_add(&q->compressed_gen, 1);
    }
    return ret;
}

static bool is_l2_place(const Qcow2 *q, uint64_t entry)
{
    uint64_t table = entry & QCOW2_OFFSET_MASK;

    return table && geo_in_cluster(&q->geo, table) == 0;
}

int coroutine_fn qcow2_repair_co_set_l1(Qcow2 *q, uint32_t index, uint64_t entry)
{
    uint64_t old = atomic_load(&q->l1[index]), raw;
    int ret;

    stbe64(&raw, entry);
    ret = bdrv_co_pwrite(q->file, (int64_t)(q->hdr.l1_offset + index * UINT64_C(8)), 8, &raw, 0);
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&q->alloc.meta_lock);
    if (is_l2_place(q, old)) {
        qcow2_metadata_remove(q->metadata, old & QCOW2_OFFSET_MASK, q->geo.cluster_size);
    }
    if (is_l2_place(q, entry)) {
        qcow2_metadata_add(q->metadata, entry & QCOW2_OFFSET_MASK, q->geo.cluster_size,
                           "active L2 table");
    }
    atomic_store(&q->l1[index], entry);
    co_mutex_unlock(&q->alloc.meta_lock);
    return 0;
}

/* ---- Counts in place ---- */

static uint64_t end_of_counted(const Check *c)
{
    uint64_t end = c->map.clusters;
    GHashTableIter it;
    gpointer key;

    g_hash_table_iter_init(&it, c->map.beyond);
    while (g_hash_table_iter_next(&it, &key, NULL)) {
        end = MAX(end, GPOINTER_TO_SIZE(key) + 1);
    }
    return end;
}

/* One count that differs: told; true: it is to be corrected. */
static bool correct(Check *c, uint64_t cluster, uint64_t count, uint64_t refs)
{
    const Geometry *g = &c->q->geo;
    bool leak = count > refs;
    bool fixes = c->fix & (leak ? BLK_FIX_LEAKS | BLK_FIX_ERRORS : BLK_FIX_ERRORS) &&
                 refs <= g->refcount_max && !(leak && c->blind); /* INV-REP-5 */

    qcow2_check_report(c,
                       "%s cluster %" G_GUINT64_FORMAT " refcount=%" G_GUINT64_FORMAT
                       " reference=%" G_GUINT64_FORMAT,
                       fixes  ? "Repairing"
                       : leak ? "Leaked"
                              : "ERROR",
                       cluster, count, refs);
    if (leak) {
        *(fixes ? &c->res->leaks_fixed : &c->res->leaks) += 1;
    } else {
        *(fixes ? &c->res->corruptions_fixed : &c->res->corruptions) += 1;
    }
    return fixes;
}

static int coroutine_fn co_correct_block(Check *c, uint64_t b, uint64_t end, uint8_t *block)
{
    const Geometry *g = &c->q->geo;
    uint64_t at = qcow2_check_counts_block_offset(c, b), first = b << g->refblock_bits;
    uint64_t n = MIN(UINT64_C(1) << g->refblock_bits, end - first);
    bool changed = false;
    int ret = at ? qcow2_check_co_read(c, at, g->cluster_size, block, "refcount block") : -ENOENT;

    for (uint64_t i = 0; i < n && ret == 0; i++) {
        uint64_t count = qcow2_refcount_codec_get(g->refcount_order, block, i);
        uint64_t refs = qcow2_check_refmap_get(&c->map, first + i);

        if (count != refs && correct(c, first + i, count, refs)) {
            qcow2_refcount_codec_set(g->refcount_order, block, i, refs);
            changed = true;
        }
    }
    return changed ? qcow2_repair_co_write(c->q, at, g->cluster_size, block) : 0;
}

int coroutine_fn qcow2_repair_co_counts(Check *c)
{
    const Geometry *g = &c->q->geo;
    g_autofree uint8_t *block = g_try_malloc(g->cluster_size);
    uint64_t end = end_of_counted(c), blocks = c->q->alloc.reftable_entries;
    int ret = block ? qcow2_health_co_sync(&c->q->health, c->q->file->bs) : -ENOMEM;

    for (uint64_t b = 0; b < blocks && b << g->refblock_bits < end && ret == 0; b++) {
        ret = co_correct_block(c, b, end, block);
    }
    return ret < 0 ? ret : qcow2_health_co_sync(&c->q->health, c->q->file->bs);
}
