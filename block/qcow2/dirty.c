/* SPDX-License-Identifier: MIT */
/* The dirty bit: refcounts on disk may be too low or too high, and are rebuilt before a writer
 * starts. */
#include "check.h"
#include "refcount-codec.h"
#include "rules.h"
#include "util/bytes.h"

#include <errno.h>

/* The bit alone, or with the place of the refcount table (rebuilt), in one write within a sector.
 * With feature_lock: whoever marks the image corrupt meanwhile comes before or after, and neither
 * bit is lost. */
static int coroutine_fn co_write_bit(Qcow2 *q, bool on, bool rebuilt)
{
    uint64_t old = q->hdr.incompatible;
    int ret;

    if (atomic_load(&q->corrupt)) {
        return -EIO;
    }
    q->hdr.incompatible = on ? old | QCOW2_INCOMPAT_DIRTY : old & ~QCOW2_INCOMPAT_DIRTY;
    ret = qcow2_co_header_write_fields(q->file, &q->hdr,
                                       rebuilt ? QCOW2_FIELD_REFTABLE : QCOW2_FIELD_INCOMPATIBLE,
                                       QCOW2_FIELD_COMPATIBLE);
    ret = ret < 0 ? ret : qcow2_co_sync_file(q);
    if (ret < 0) { /* on disk it may be set: then the next open rebuilds counts that are right */
        q->hdr.incompatible = old;
    }
    return ret;
}

static int coroutine_fn co_set_bit(Qcow2 *q, bool on, bool rebuilt)
{
    int ret;

    /* What the bit speaks of is on disk first. */
    ret = RULE_BROKEN(REBUILT_BEFORE_SWITCH) ? 0 : qcow2_co_sync_file(q);
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&q->feature_lock);
    ret = co_write_bit(q, on, rebuilt);
    co_mutex_unlock(&q->feature_lock);
    return ret;
}

int coroutine_fn qcow2_co_mark_dirty(Qcow2 *q)
{
    return RULE_BROKEN(DIRTY_BEFORE_LAZY) ? 0 : co_set_bit(q, true, false);
}

int coroutine_fn qcow2_co_mark_clean(Qcow2 *q)
{
    return co_set_bit(q, false, false);
}

/* ---- Rebuild ---- */

typedef struct NewCounts {
    uint64_t clusters; /* covered */
    uint64_t blocks, table_clusters;
    uint64_t blocks_at, table_at; /* host offsets */
    uint8_t *data;                /* blocks */
    uint64_t *table;              /* on-disk order */
} NewCounts;

/* New blocks and a new table lie behind everything that is there. */
static void place(const Geometry *g, uint64_t end, NewCounts *n)
{
    n->blocks = n->table_clusters = 1;
    for (;;) {
        uint64_t blocks, tables;

        n->clusters = end + n->blocks + n->table_clusters;
        blocks = DIV_ROUND_UP(n->clusters, UINT64_C(1) << g->refblock_bits);
        tables = geo_clusters(g, blocks * 8);
        if (blocks <= n->blocks && tables <= n->table_clusters) {
            break;
        }
        n->blocks = MAX(n->blocks, blocks);
        n->table_clusters = MAX(n->table_clusters, tables);
    }
    n->blocks_at = end << g->cluster_bits;
    n->table_at = (end + n->blocks) << g->cluster_bits;
}

static int fill(Qcow2 *q, const RefMap *m, uint64_t end, NewCounts *n, GError **errp)
{
    const Geometry *g = &q->geo;

    n->data = g_try_malloc0(n->blocks << g->cluster_bits);
    n->table = g_try_malloc0(n->table_clusters << g->cluster_bits);
    if (!n->data || !n->table) {
        return error_set_errno(errp, ENOMEM, "Could not rebuild the refcounts");
    }
    for (uint64_t i = 0; i < n->clusters; i++) {
        uint64_t v = i < end ? refmap_get(m, i) : 1;

        if (v > g->refcount_max) {
            return error_set(errp, EINVAL,
                             "Could not rebuild the refcounts: cluster %" G_GUINT64_FORMAT
                             " has %" G_GUINT64_FORMAT " references, more than %u bits hold",
                             i, v, g->refcount_bits);
        }
        refcount_entry_set(g->refcount_order, n->data, i, v);
    }
    for (uint64_t i = 0; i < n->blocks; i++) {
        stbe64(&n->table[i], n->blocks_at + (i << g->cluster_bits));
    }
    return 0;
}

/* Whole and synced before the header points there; the old ones are not touched. */
static int coroutine_fn co_write_and_switch(Qcow2 *q, NewCounts *n)
{
    const Geometry *g = &q->geo;
    int ret;

    ret = bdrv_co_pwrite(q->file, (int64_t)n->blocks_at, (int64_t)(n->blocks << g->cluster_bits),
                         n->data, 0);
    ret = ret < 0 ? ret
                  : bdrv_co_pwrite(q->file, (int64_t)n->table_at,
                                   (int64_t)(n->table_clusters << g->cluster_bits), n->table, 0);
    if (ret < 0) {
        return ret;
    }
    q->hdr.reftable_offset = n->table_at;
    q->hdr.reftable_clusters = (uint32_t)n->table_clusters;
    return co_set_bit(q, false, true);
}

static int coroutine_fn co_rebuild(Qcow2 *q, Check *c, GError **errp)
{
    NewCounts n = { 0 };
    uint64_t old_table = q->hdr.reftable_offset, old_bytes = q->reftable_entries * 8;
    uint64_t end = c->map.clusters;
    int ret;

    if (c->res->corruptions || c->res->check_errors || g_hash_table_size(c->map.beyond)) {
        return error_set(errp, EIO,
                         "The image was not closed properly and its tables are damaged: it "
                         "can be opened read-only; check and repair it first");
    }
    place(&q->geo, end, &n);
    ret = fill(q, &c->map, end, &n, errp);
    if (ret == 0) {
        ret = co_write_and_switch(q, &n);
        if (ret < 0) {
            error_set_errno(errp, ret, "Could not rebuild the refcounts");
        }
    }
    if (ret == 0) {
        for (uint64_t i = 0; i < q->reftable_entries; i++) {
            if (q->reftable[i]) {
                qcow2_metadata_remove(q, q->reftable[i], q->geo.cluster_size);
            }
        }
        qcow2_metadata_remove(q, old_table, old_bytes);
        ret = qcow2_refcount_co_load_table(q, errp);
    }
    g_free(n.data);
    g_free(n.table);
    return ret;
}

int coroutine_fn qcow2_co_rebuild_refcounts(Qcow2 *q, GError **errp)
{
    BlockCheckResult res = { 0 };
    Check c = { .q = q, .res = &res };
    int64_t length = bdrv_co_getlength(q->file->bs);
    int ret;

    if (length < 0) {
        return error_set_errno(errp, (int)length, "Could not rebuild the refcounts");
    }
    c.without_refcounts = true;
    ret = refmap_init(&c.map, q, length);
    ret = ret < 0 ? ret : check_co_count_references(&c);
    ret = ret < 0 ? error_set_errno(errp, ret, "Could not rebuild the refcounts")
                  : co_rebuild(q, &c, errp);
    refmap_clear(&c.map);
    return ret;
}
