/* SPDX-License-Identifier: MIT */
/*
 * Refcounts made anew from what refers to clusters: the first writable open of an image that was
 * left dirty.
 *
 * New blocks and a new table are written into clusters that nothing refers to, inside the file as
 * far as there are any, and synced; then the header names the new table and loses the dirty bit in
 * one write within its first sector.  Until then it names the old table, which is not touched, and
 * says dirty: power may fail at any point, and the next open begins again.
 *
 * Where there is no room for that (a full device), the old table and blocks are written over:
 * nobody relies on what they count while the bit is set.  A block that the old table names keeps
 * its place in it, and others get clusters that it does not name; so whatever part of the table is
 * written, no cluster is in it twice.
 *
 * The first step is a sync: a process that died may have left writes that the kernel holds and the
 * disk does not. What they free is free only when they are on the disk.
 *
 * COPIED flags are put right before that, too: whoever made or deleted a snapshot may have left
 * some that do not fit.
 *
 * INV-RE-1  What is taken has no reference; it is counted from then on, as if it had one.
 * INV-RE-2  Only blocks that count something are made: a reference far past the end of the file
 *           costs one block, not all up to it.
 */
#include "rebuild.h"

#include "check.h"
#include "dirty.h"
#include "flush.h"
#include "refcount.h"
#include "refcount-codec.h"
#include "room.h"
#include "rules.h"
#include "share.h"
#include "util/bytes.h"

#include <errno.h>

#define WANTED UINT64_C(1) /* in Rebuild.table: a block is needed and has no place yet */

typedef struct Rebuild {
    Qcow2 *q;
    RefMap *map;
    GHashTable *keep; /* clusters of the old table and blocks: not free */
    bool in_place;    /* the old ones are written over */
    bool repairs;     /* the image is being repaired, and may be marked as corrupt */
    GArray *taken;    /* clusters (uint64_t), counted in map */
    uint64_t cursor;  /* no free cluster below */
    uint64_t *table;  /* host offsets of blocks, 0: none, WANTED */
    uint64_t entries; /* of table: whole clusters */
    uint64_t table_at, table_clusters;
} Rebuild;

/* ---- Clusters for the new ones ---- */

static bool is_free(const Rebuild *r, uint64_t cluster)
{
    return qcow2_check_refmap_get(r->map, cluster) == 0 &&
           !g_hash_table_contains(r->keep, GSIZE_TO_POINTER(cluster));
}

/* -ERANGE: the table is too small to count @cluster. */
static int want_block(Rebuild *r, uint64_t cluster)
{
    uint64_t k = cluster >> r->q->geo.refblock_bits;

    if (k >= r->entries) {
        return -ERANGE;
    }
    if (!r->table[k]) {
        r->table[k] = WANTED;
    }
    return 0;
}

static int take(Rebuild *r, uint64_t cluster)
{
    g_assert(cluster > 0);
    qcow2_check_refmap_set(r->map, cluster, 1); /* INV-RE-1 */
    g_array_append_val(r->taken, cluster);
    return want_block(r, cluster);
}

static void untake_all(Rebuild *r)
{
    for (guint i = 0; i < r->taken->len; i++) {
        qcow2_check_refmap_set(r->map, g_array_index(r->taken, uint64_t, i), 0);
    }
    g_array_set_size(r->taken, 0);
    r->cursor = 1;
    g_clear_pointer(&r->table, g_free);
}

static int take_table(Rebuild *r)
{
    uint64_t old = r->q->hdr.reftable_offset >> r->q->geo.cluster_bits;
    uint64_t first = r->in_place ? old : 1, run = r->in_place ? r->table_clusters : 0;
    int ret = 0;

    g_assert(r->table_clusters > 0);
    for (uint64_t c = 1; run < r->table_clusters; c++) {
        if (!is_free(r, c)) {
            run = 0;
            first = c + 1;
        } else {
            run++;
        }
    }
    r->table_at = first << r->q->geo.cluster_bits;
    for (uint64_t i = 0; i < run && ret == 0; i++) {
        /* (Not free: the old one, in place, and it is something else's too.) */
        ret = qcow2_check_refmap_get(r->map, first + i) ? -EIO : take(r, first + i);
    }
    return ret;
}

/* The old block for entry @k, or 0: there is none that can be written over. */
static uint64_t old_block(const Rebuild *r, uint64_t k)
{
    uint64_t at = r->in_place && k < r->q->alloc.reftable_entries ? r->q->alloc.reftable[k] : 0;
    uint64_t cluster = at >> r->q->geo.cluster_bits;

    return geo_in_cluster(&r->q->geo, at) || cluster >= r->map->clusters ||
                   qcow2_check_refmap_get(r->map, cluster)
               ? 0
               : cluster;
}

static int take_blocks(Rebuild *r)
{
    bool again = true;
    uint64_t c;
    int ret = 0;

    while (again && ret == 0) { /* a block may want one for itself */
        again = false;
        for (uint64_t k = 0; k < r->entries && ret == 0; k++) {
            if (r->table[k] != WANTED) {
                continue;
            }
            c = old_block(r, k);
            while (!c && !is_free(r, r->cursor)) {
                r->cursor++;
            }
            c = c ? c : r->cursor;
            r->table[k] = c << r->q->geo.cluster_bits;
            ret = take(r, c);
            again = true;
        }
    }
    return ret;
}

/* Each block that counts something is wanted. */
static int want_all(Rebuild *r)
{
    GHashTableIter it;
    gpointer key;
    int ret = 0;

    for (uint64_t i = 0; i < r->map->clusters && ret == 0; i++) {
        ret = qcow2_check_refmap_get(r->map, i) ? want_block(r, i) : 0;
    }
    g_hash_table_iter_init(&it, r->map->beyond);
    while (ret == 0 && g_hash_table_iter_next(&it, &key, NULL)) {
        ret = want_block(r, GPOINTER_TO_SIZE(key));
    }
    return ret;
}

static int place(Rebuild *r)
{
    uint64_t n = r->in_place ? r->q->hdr.reftable_clusters : 1;
    int ret;

    do {
        uint64_t bytes = n << r->q->geo.cluster_bits;

        untake_all(r);
        if (bytes == 0 || bytes > QCOW2_MAX_REFTABLE_BYTES) {
            return -EFBIG;
        }
        r->table_clusters = n;
        r->entries = bytes / 8;
        r->table = g_try_malloc0(bytes);
        ret = r->table ? want_all(r) : -ENOMEM;
        ret = ret < 0 ? ret : take_table(r);
        ret = ret < 0 ? ret : take_blocks(r);
        n *= 2;
    } while (ret == -ERANGE && !r->in_place);
    return ret == -ERANGE ? -ENOSPC : ret;
}

/* ---- On the disk ---- */

static int fill_block(const Rebuild *r, uint64_t k, void *buf, GError **errp)
{
    const Geometry *g = &r->q->geo;
    uint64_t n = UINT64_C(1) << g->refblock_bits;

    g_assert(k < r->entries);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = qcow2_check_refmap_get(r->map, k * n + i);

        if (v > g->refcount_max) {
            return error_set(errp, EINVAL,
                             "Could not rebuild the refcounts: cluster %" G_GUINT64_FORMAT
                             " has %" G_GUINT64_FORMAT " references, more than %u bits hold",
                             k * n + i, v, g->refcount_bits);
        }
        qcow2_refcount_codec_set(g->refcount_order, buf, i, v);
    }
    return 0;
}

static int coroutine_fn co_write(Rebuild *r, GError **errp)
{
    uint64_t size = r->q->geo.cluster_size;
    g_autofree uint8_t *buf = g_try_malloc0(size);
    g_autofree uint64_t *table = g_try_malloc(r->entries * 8);
    int ret = buf && table ? 0 : error_set_errno(errp, ENOMEM, "Could not rebuild the refcounts");

    for (uint64_t k = 0; k < r->entries && ret == 0; k++) {
        stbe64(&table[k], r->table[k]);
        if (r->table[k]) {
            ret = fill_block(r, k, buf, errp);
            if (ret == 0) {
                ret = bdrv_co_pwrite(r->q->file, (int64_t)r->table[k], (int64_t)size, buf, 0);
                ret = ret < 0 ? error_set_errno(errp, ret, "Could not rebuild the refcounts") : 0;
            }
        }
    }
    if (ret == 0) {
        ret = bdrv_co_pwrite(r->q->file, (int64_t)r->table_at, (int64_t)r->entries * 8, table, 0);
        ret = ret < 0 ? error_set_errno(errp, ret, "Could not rebuild the refcounts") : 0;
    }
    return ret;
}

static void keep_range(Rebuild *r, uint64_t offset, uint64_t clusters)
{
    for (uint64_t i = 0; i < clusters; i++) {
        g_hash_table_add(r->keep, GSIZE_TO_POINTER((offset >> r->q->geo.cluster_bits) + i));
    }
}

static int coroutine_fn co_place_and_write(Rebuild *r, bool in_place, GError **errp)
{
    Qcow2 *q = r->q;
    int ret;

    keep_range(r, q->hdr.reftable_offset, q->hdr.reftable_clusters);
    for (uint64_t i = 0; i < q->alloc.reftable_entries; i++) {
        if (q->alloc.reftable[i]) {
            keep_range(r, q->alloc.reftable[i], 1);
        }
    }
    r->in_place = in_place;
    ret = place(r);
    return ret < 0 ? error_set_errno(errp, ret, "Could not rebuild the refcounts")
                   : co_write(r, errp);
}

/* The header names the new table; memory too. */
static int coroutine_fn co_switch_locked(Rebuild *r, GError **errp)
    REQUIRES_LOCK(r->q->alloc.meta_lock)
{
    Qcow2 *q = r->q;
    int ret;

    qcow2_metadata_remove(q->metadata, q->hdr.reftable_offset, q->alloc.reftable_entries * 8);
    for (uint64_t i = 0; i < q->alloc.reftable_entries; i++) {
        uint64_t e = q->alloc.reftable[i];

        if (e && geo_in_cluster(&q->geo, e) == 0) { /* as they were added */
            qcow2_metadata_remove(q->metadata, e, q->geo.cluster_size);
        }
    }
    for (uint64_t i = 0; i < r->entries; i++) {
        if (r->table
                [i]) { /* what stood there before, or was a block in another place of the table */
            qcow2_cache_drop(q->alloc.ref_cache, r->table[i], q->geo.cluster_size);
        }
    }
    q->hdr.reftable_offset = r->table_at;
    q->hdr.reftable_clusters = (uint32_t)r->table_clusters;
    ret = r->repairs ? qcow2_dirty_co_switch_repaired(q) : qcow2_dirty_co_switch_rebuilt(q);
    return ret < 0 ? error_set_errno(errp, ret, "Could not rebuild the refcounts")
                   : qcow2_refcount_co_load_table(&r->q->alloc, errp);
}

static int coroutine_fn co_switch(Rebuild *r, GError **errp)
{
    int ret;

    co_mutex_lock(&r->q->alloc.meta_lock);
    ret = co_switch_locked(r, errp);
    co_mutex_unlock(&r->q->alloc.meta_lock);
    return ret;
}

/* ---- COPIED ---- */

static int coroutine_fn co_count_found(Qcow2 *q, uint64_t cluster, uint64_t *count, void *map)
{
    *count = qcow2_check_refmap_get(map, cluster);
    return 0;
}

/* A snapshot that was being made or deleted leaves flags that do not fit. They are right on disk
 * before the counts are, and before the dirty bit goes. */
static int coroutine_fn co_mend_flags(Check *c, GError **errp)
{
    Qcow2 *q = c->q;
    bool changed = false;
    int ret = 0;

    if (q->geo.external_data || RULE_BROKEN(FLAGS_REBUILT)) {
        return 0;
    }
    for (uint32_t i = 0; i < q->l1_size && ret >= 0; i++) {
        co_mutex_lock(&q->alloc.meta_lock);
        ret = qcow2_share_co_mend_by(q, i, co_count_found, &c->map);
        co_mutex_unlock(&q->alloc.meta_lock);
        changed |= ret > 0;
        if (ret >= 0 && qcow2_flush_is_crowded(q->l2_cache, UINT64_MAX)) {
            ret = qcow2_flush_co_metadata(q, true);
        }
    }
    if (ret >= 0 && changed) {
        ret = qcow2_flush_co_metadata(q, true);
    }
    return ret < 0 ? error_set_errno(errp, ret, "Could not mend the flags of entries") : 0;
}

static int coroutine_fn co_rebuild(Qcow2 *q, Check *c, GError **errp)
{
    g_autoptr(GHashTable) keep = g_hash_table_new(NULL, NULL);
    g_autoptr(GArray) taken = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    Rebuild r = { .q = q, .map = &c->map, .keep = keep, .taken = taken };
    g_autoptr(GError) full = NULL;
    int ret;

    if (c->res->corruptions || c->res->check_errors) {
        return error_set(errp, EIO,
                         "The image was not closed properly and its tables are damaged: it "
                         "can be opened read-only; check and repair it first");
    }
    ret = co_mend_flags(c, errp);
    if (ret < 0) {
        return ret;
    }
    ret = co_place_and_write(&r, false, &full);
    if (qcow2_room_is_out(ret) && q->geo.version >= 3) { /* (no bit says so in version 2) */
        CASE_MET(REBUILT_IN_PLACE);
        ret = co_place_and_write(&r, true, errp);
    } else if (ret < 0) {
        g_propagate_error(errp, g_steal_pointer(&full));
    }
    ret = ret < 0 ? ret : co_switch(&r, errp);
    g_free(r.table);
    return ret;
}

int coroutine_fn qcow2_rebuild_co_repaired(Qcow2 *q, RefMap *map, GError **errp)
{
    g_autoptr(GHashTable) keep = g_hash_table_new(NULL, NULL);
    g_autoptr(GArray) taken = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    Rebuild r = { .q = q, .map = map, .keep = keep, .taken = taken, .repairs = true };
    int ret = qcow2_health_co_sync(&q->health, q->file->bs);

    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not rebuild the refcounts");
    }
    ret = co_place_and_write(&r, false, errp);
    ret = ret < 0 ? ret : co_switch(&r, errp);
    g_free(r.table);
    return ret;
}

int coroutine_fn qcow2_rebuild_co_refcounts(Qcow2 *q, GError **errp)
{
    BlockCheckResult res = { 0 };
    Check c = { .q = q, .res = &res };
    int64_t length = bdrv_co_getlength(q->file->bs);
    int ret;

    ret = length < 0 ? (int)length : 0;
    if (ret == 0 && !RULE_BROKEN(FOUND_BEFORE_REBUILT)) {
        ret = qcow2_health_co_sync(&q->health, q->file->bs);
    }
    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not rebuild the refcounts");
    }
    c.without_refcounts = true;
    ret = qcow2_check_refmap_init(&c.map, q, length);
    ret = ret < 0 ? ret : qcow2_check_tables_co_count(&c);
    ret = ret < 0 ? error_set_errno(errp, ret, "Could not rebuild the refcounts")
                  : co_rebuild(q, &c, errp);
    qcow2_check_refmap_clear(&c.map);
    return ret;
}
