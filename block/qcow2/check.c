/* SPDX-License-Identifier: MIT */
/*
 * Check: the refcounts against the references that the tables hold; the COPIED flags against the
 * refcounts.  Reads the file, so what is cached is flushed first.  A repair (repair.h) goes the
 * same way, and counts again after each part that it changes.
 *
 * Each refcount block is read once and in order, then each L2 table once; what does not fit into
 * memory, or is found damaged, is read a second time.
 */
#include "repair.h"

#include "callbacks.h"
#include "change.h"
#include "flush.h"
#include "inactive-l2.h"
#include "rebuild.h"

#include <errno.h>

/* ---- Counts and references ---- */

static int coroutine_fn co_compare_one(CheckCounts *n, uint64_t cluster, uint64_t *ret_count)
{
    Check *c = n->c;
    uint64_t count, refs = qcow2_check_refmap_get(&c->map, cluster);
    int ret = qcow2_check_counts_co_get(n, cluster, &count);

    *ret_count = count;
    if (ret < 0 || count == refs) {
        return ret;
    }
    if (c->miscounted) {
        g_hash_table_insert(c->miscounted, GSIZE_TO_POINTER(cluster), GSIZE_TO_POINTER(count));
    }
    qcow2_check_report(c,
                       "%s cluster %" G_GUINT64_FORMAT " refcount=%" G_GUINT64_FORMAT
                       " reference=%" G_GUINT64_FORMAT,
                       count > refs ? "Leaked" : "ERROR", cluster, count, refs);
    if (count > refs) {
        c->res->leaks++;
    } else {
        c->res->corruptions++;
        c->rebuild = c->rebuild || count == 0;
    }
    return 0;
}

/* Four clusters from @i on have one reference each, and are counted as often. */
static bool are_single(const RefMap *m, uint64_t i)
{
    return m->clusters - i >= 4 && m->bits[i / 4] == (REFMAP_SEEN | REFMAP_SINGLE) * REFMAP_FOUR &&
           !m->pages[i / REFMAP_PAGE];
}

static int coroutine_fn co_compare(CheckCounts *n)
{
    Check *c = n->c;
    g_autoptr(GList) beyond =
        g_list_sort(g_hash_table_get_keys(c->map.beyond), qcow2_check_compare_keys);
    uint64_t end = 0, count;

    for (uint64_t i = 0; i < c->map.clusters; i++) {
        if (i % 4 == 0 && are_single(&c->map, i)) {
            i += 3;
            end = i + 1;
            continue;
        }
        if (co_compare_one(n, i, &count) == 0 &&
            (count || qcow2_check_refmap_has(&c->map, i, REFMAP_SEEN))) {
            end = i + 1;
        }
    }
    for (GList *l = beyond; l; l = l->next) {
        co_compare_one(n, GPOINTER_TO_SIZE(l->data), &count);
        end = MAX(end, GPOINTER_TO_SIZE(l->data) + 1);
    }
    c->res->image_end_offset = (int64_t)(end << c->q->geo.cluster_bits);
    return 0;
}

/* ---- The parts ---- */

/* The map and the counts anew, and all that the tables refer to. */
static int coroutine_fn co_count(Check *c)
{
    int64_t length = bdrv_co_getlength(c->q->file->bs);
    int ret;

    qcow2_check_counts_clear(c->counts);
    qcow2_check_refmap_clear(&c->map);
    g_hash_table_remove_all(c->suspects);
    g_hash_table_remove_all(c->defects);
    c->l1_defects = c->rebuild = c->blind = false;
    c->structure_errors = 0;
    c->next_contiguous = 0;
    ret = length < 0 ? (int)length : qcow2_check_refmap_init(&c->map, c->q, length);
    ret = ret < 0 ? ret : qcow2_check_counts_init(c->counts, c);
    if (ret < 0) {
        return ret;
    }
    qcow2_check_counts_co_load(c->counts);
    return qcow2_check_tables_co_count(c);
}

/* The same over what is told already. */
static int coroutine_fn co_count_silently(Check *c)
{
    BlockCheckResult *res = c->res, scratch = { 0 };
    const BlockCheckWatch *watch = c->watch;
    int ret;

    c->res = &scratch;
    c->watch = NULL;
    ret = co_count(c);
    c->res = res;
    c->watch = watch;
    return ret < 0 ? ret : scratch.check_errors ? -EIO : 0;
}

/* ---- Check ---- */

static int coroutine_fn co_check_all(Check *c)
{
    int64_t found;
    int ret = qcow2_repair_tell_snapshots(c, &found);

    qcow2_metadata_clear_inactive_l2(c->q->metadata); /* what they name is in doubt */
    ret = ret < 0 ? ret : co_count(c);
    ret = ret < 0 ? ret : co_compare(c->counts);
    ret = ret < 0 ? ret : qcow2_check_findings_co_counts(c);
    c->res->corruptions += c->structure_errors + found;
    return ret < 0 ? ret : qcow2_check_copied_co_run(c, false);
}

/* ---- Repair ---- */

/* What a repair of tables laid open is looked at, too: until nothing is found. */
#define MAX_ROUNDS 4

static int coroutine_fn co_repair_tables(Check *c)
{
    BlockCheckResult fresh = { .total_clusters = c->res->total_clusters };
    int ret = 0;
    bool again = true;

    for (unsigned i = 0; i < MAX_ROUNDS && again && ret == 0; i++) {
        fresh.corruptions_fixed = c->res->corruptions_fixed;
        *c->res = fresh; /* all else is counted again */
        ret = co_count(c);
        again = c->l1_defects || g_hash_table_size(c->defects);
        if (ret == 0 && again) {
            ret = qcow2_repair_co_tables(c);
        }
    }
    return ret == 0 && again ? co_count_silently(c) : ret;
}

/* The clusters of the old refcount structures, each once, as keys; what refers to each as
 * values. */
static GHashTable *old_structures(const Check *c)
{
    const Qcow2 *q = c->q;
    GHashTable *old = g_hash_table_new(NULL, NULL);
    uint64_t first = q->hdr.reftable_offset >> q->geo.cluster_bits;

    for (uint64_t i = 0; i < q->hdr.reftable_clusters + q->alloc.reftable_entries; i++) {
        uint64_t e = i < q->hdr.reftable_clusters ? (first + i) << q->geo.cluster_bits
                                                  : q->alloc.reftable[i - q->hdr.reftable_clusters];
        uint64_t cluster = e >> q->geo.cluster_bits;

        if (cluster && geo_in_cluster(&q->geo, e) == 0 && cluster < c->map.clusters) {
            g_hash_table_insert(old, GSIZE_TO_POINTER(cluster),
                                GSIZE_TO_POINTER(qcow2_check_refmap_get(&c->map, cluster)));
        }
    }
    return old;
}

/* They are given back with the switch to the new ones. */
static void tell_given_back(Check *c, GHashTable *old)
{
    g_autoptr(GList) keys = g_list_sort(g_hash_table_get_keys(old), qcow2_check_compare_keys);

    for (GList *l = keys; l; l = l->next) {
        qcow2_check_report(c,
                           "Repairing cluster %" G_GUINT64_FORMAT " refcount=%" G_GUINT64_FORMAT
                           " reference=%" G_GUINT64_FORMAT,
                           (uint64_t)GPOINTER_TO_SIZE(l->data),
                           (uint64_t)GPOINTER_TO_SIZE(g_hash_table_lookup(old, l->data)),
                           qcow2_check_refmap_get(&c->map, GPOINTER_TO_SIZE(l->data)));
    }
}

static int coroutine_fn co_rebuild(Check *c, BlockCheckResult *found)
{
    g_autoptr(GHashTable) old = old_structures(c);
    g_autoptr(GError) err = NULL;
    int ret;

    qcow2_check_report(c, "Rebuilding refcount structure");
    qcow2_check_found(c, "refcount structures", 0, 0, "made anew");
    c->without_refcounts = true;
    ret = qcow2_repair_co_mark(c->q);
    ret = ret < 0 ? ret : co_count_silently(c);
    c->without_refcounts = false;
    ret = ret < 0 ? ret : qcow2_rebuild_co_repaired(c->q, &c->map, &err);
    if (err) {
        qcow2_check_report(c, "ERROR %s", err->message);
    }
    if (ret == 0) {
        tell_given_back(c, old);
        c->res->leaks_fixed += found->leaks;
        c->res->corruptions_fixed += found->corruptions;
    }
    return ret;
}

static int coroutine_fn co_repair_counts(Check *c)
{
    BlockCheckResult *res = c->res, found = { 0 };
    int64_t structure_errors = c->structure_errors;
    int ret;

    c->res = &found;
    ret = co_compare(c->counts);
    c->res = res;
    res->check_errors += found.check_errors;
    res->image_end_offset = found.image_end_offset;
    if (ret < 0 || (!c->rebuild && !found.leaks && !found.corruptions)) {
        return ret;
    }
    if (c->rebuild && !(c->fix & BLK_FIX_ERRORS)) {
        qcow2_check_report(c, "ERROR need to rebuild refcount structures");
        return -EIO;
    }
    if (c->rebuild && c->blind) { /* INV-REP-5 */
        qcow2_check_report(c,
                           "ERROR refcount structures are not made anew: the clusters of bitmaps "
                           "or snapshots are not known");
        return -EIO;
    }
    if (c->rebuild) {
        found.corruptions += structure_errors;
        ret = co_rebuild(c, &found);
    } else {
        ret = c->fix & BLK_FIX_ERRORS ? qcow2_repair_co_mark(c->q) : 0;
        ret = ret < 0 ? ret : qcow2_repair_co_counts(c);
    }
    ret = ret < 0 ? ret : co_count_silently(c);
    return ret < 0 ? ret : qcow2_check_findings_co_counts(c);
}

/* Flags are corrected if nothing worse is there, or all of it is to be corrected. */
static int coroutine_fn co_repair_flags(Check *c)
{
    const BlockCheckResult *r = c->res;
    bool repair = (c->fix & BLK_FIX_ERRORS) || (!r->corruptions && !r->leaks && !r->check_errors);

    return qcow2_check_copied_co_run(c, repair);
}

static int coroutine_fn co_announce(Qcow2 *q)
{
    if (q->hdr.autoclear == qcow2_change_autoclear_kept(q)) {
        return 0;
    }
    atomic_fetch_or(&q->unmarked, QCOW2_CHANGE_IMAGE);
    return qcow2_change_co_mark(q, QCOW2_CHANGE_IMAGE);
}

/* The snapshot table needs clusters: it is written only where all else is right. */
static int coroutine_fn co_repair_snapshots(Check *c, int64_t found)
{
    BlockCheckResult *r = c->res;
    int ret;

    if (!found) {
        return 0;
    }
    if (!(c->fix & BLK_FIX_ERRORS) || r->corruptions || r->leaks || r->check_errors) {
        r->corruptions += found;
        return 0;
    }
    ret = qcow2_repair_co_snapshots(c);
    *(ret < 0 ? &r->corruptions : &r->corruptions_fixed) += found;
    return ret;
}

static int coroutine_fn co_repair_all(Check *c)
{
    const BlockCheckResult *r = c->res;
    int64_t found;
    int ret = qcow2_repair_tell_snapshots(c, &found);

    ret = ret < 0 ? ret : co_announce(c->q);
    ret = ret < 0 ? ret : co_repair_tables(c);
    ret = ret < 0 ? ret : co_repair_counts(c);
    ret = ret < 0 ? ret : co_repair_flags(c);
    ret = ret < 0 ? ret : qcow2_repair_co_finish(c->q, !r->corruptions && !r->check_errors);
    ret = ret < 0 ? ret : co_repair_snapshots(c, found);
    return ret < 0 ? ret : qcow2_inactive_l2_co_reload(c->q);
}

/* ---- */

/* Active L1 entries, and as many again for each snapshot: a measure, no more. */
static uint64_t all_steps(const Qcow2 *q)
{
    return q->hdr.l1_size * (UINT64_C(1) + q->hdr.nb_snapshots);
}

int coroutine_fn qcow2_co_check(BlockDriverState *bs, BlockCheckResult *res, unsigned fix,
                                const BlockCheckWatch *watch)
{
    Qcow2 *q = bs->opaque;
    CheckCounts n = { 0 };
    Check c = { .q = q, .res = res, .watch = watch, .fix = fix, .counts = &n };
    int ret = q->at_snapshot ? -ENOTSUP : bs->read_only ? 0 : qcow2_flush_co_all(q);

    if (ret < 0) {
        return ret;
    }
    res->total_clusters = (int64_t)geo_clusters(&q->geo, q->hdr.size);
    c.suspects = g_hash_table_new(NULL, NULL);
    c.defects = g_hash_table_new(NULL, NULL);
    c.miscounted = watch && watch->found ? g_hash_table_new(NULL, NULL) : NULL;
    c.all_steps = all_steps(q);
    ret = fix ? co_repair_all(&c) : co_check_all(&c);
    qcow2_check_counts_clear(&n);
    qcow2_check_refmap_clear(&c.map);
    g_hash_table_unref(c.suspects);
    g_hash_table_unref(c.defects);
    g_clear_pointer(&c.miscounted, g_hash_table_unref);
    return ret;
}
