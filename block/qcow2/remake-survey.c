/* SPDX-License-Identifier: MIT */
/*
 * What an image that is going to be remade refers to, found as a check does; one with errors is not
 * touched.  And the same of the new tables, before they become the image's.
 */
#include "remake-int.h"

#include "check.h"
#include "refcount.h"

#include <errno.h>

static int coroutine_fn co_count(Check *c, Qcow2 *q)
{
    int64_t length = bdrv_co_getlength(q->file->bs);
    int ret = length < 0 ? (int)length : qcow2_check_refmap_init(&c->map, q, length);

    c->q = q;
    ret = ret < 0 ? ret : qcow2_check_tables_co_count(c);
    return ret == 0 && c->map.out_of_memory ? -ENOMEM : ret;
}

static bool is_sound(const Check *c)
{
    return !c->res->corruptions && !c->res->check_errors && !g_hash_table_size(c->map.beyond);
}

/* ---- As it is ---- */

/* Counts of the refcount structures are not wanted: those are made anew. */
static void forget_structures(Check *c)
{
    const Qcow2 *q = c->q;
    uint64_t first = q->hdr.reftable_offset >> q->geo.cluster_bits;
    RefMap *m = &c->map;

    for (uint64_t i = 0; i < q->hdr.reftable_clusters; i++) {
        qcow2_check_refmap_set(m, first + i, qcow2_check_refmap_get(m, first + i) - 1);
    }
    for (uint64_t i = 0; i < q->alloc.reftable_entries; i++) {
        uint64_t at = q->alloc.reftable[i] >> q->geo.cluster_bits;

        if (at) {
            qcow2_check_refmap_set(m, at, qcow2_check_refmap_get(m, at) - 1);
        }
    }
}

/* All other counts stay. */
static int take_counts(Remake *r, Check *c)
{
    const Geometry *g = &r->rules.from;
    int ret = 0;

    forget_structures(c);
    for (uint64_t i = 0; i < c->map.clusters && ret == 0; i++) {
        uint64_t refs = qcow2_check_refmap_get(&c->map, i);

        if (refs) {
            ret =
                qcow2_remake_space_add_refs(&r->space, i << g->cluster_bits, g->cluster_size, refs);
            ret = ret == -ERANGE ? qcow2_remake_out_overflow(r, i << g->cluster_bits, refs) : ret;
        }
    }
    return ret;
}

/* Where a count is not what refers to the cluster (a leak), flags that fit the count would not fit
 * the new one: the tables are made anew, too. */
static int coroutine_fn co_compare_counts(Remake *r, const Check *c)
    REQUIRES_LOCK(r->q->alloc.meta_lock)
{
    int ret = 0;

    for (uint64_t i = 0; i < c->map.clusters && ret == 0 && r->tables_stay; i++) {
        uint64_t refs = qcow2_check_refmap_get(&c->map, i), count = refs;

        ret = refs ? qcow2_refcount_co_get(&r->q->alloc, i, &count) : 0;
        r->tables_stay = count == refs;
    }
    return ret;
}

static int coroutine_fn co_choose(Remake *r, const Check *c)
{
    int ret;

    co_mutex_lock(&r->q->alloc.meta_lock);
    ret = co_compare_counts(r, c);
    co_mutex_unlock(&r->q->alloc.meta_lock);
    return ret;
}

/* (The header is among what is marked, so nothing new gets into its new cluster.) */
static int take_places(Remake *r, Check *c)
{
    const Geometry *g = &r->rules.from;
    int ret;

    r->old_length = c->map.length;
    ret = qcow2_remake_space_init(&r->space, &r->rules.to,
                                  geo_clusters(&r->rules.to, c->map.clusters << g->cluster_bits));
    for (uint64_t i = 0; i < c->map.clusters && ret == 0; i++) {
        if (qcow2_check_refmap_get(&c->map, i)) {
            qcow2_remake_space_mark(&r->space, i << g->cluster_bits, g->cluster_size);
        }
    }
    return ret < 0 || !r->tables_stay ? ret : take_counts(r, c);
}

int coroutine_fn qcow2_remake_survey_co_old(Remake *r)
{
    BlockCheckResult res = { 0 };
    Check c = { .res = &res };
    int ret = co_count(&c, r->q);

    if (ret == 0 && !is_sound(&c)) {
        ret = qcow2_remake_out_refuse(
            r, EIO, "The image's tables are damaged: check and repair it before it is changed");
    }
    ret = ret < 0 ? ret : co_choose(r, &c);
    ret = ret < 0 ? ret : take_places(r, &c);
    qcow2_check_refmap_clear(&c.map);
    return qcow2_remake_out_error(r, ret, "Could not read the image's tables");
}

/* ---- As it is going to be ---- */

/* Each cluster has the count that was written for it. */
static bool counts_fit(const Remake *r, const Check *c)
{
    uint64_t end = MAX(c->map.clusters, r->space.end);

    for (uint64_t i = 0; i < end; i++) {
        if (qcow2_check_refmap_get(&c->map, i) != qcow2_remake_space_count(&r->space, i)) {
            return false;
        }
    }
    return true;
}

int coroutine_fn qcow2_remake_survey_co_new(Remake *r, Qcow2 *made)
{
    BlockCheckResult res = { 0 };
    Check c = { .res = &res };
    int ret = co_count(&c, made);

    if (ret == 0 && !(is_sound(&c) && counts_fit(r, &c))) {
        ret = qcow2_remake_out_refuse(r, EIO,
                                      "The new tables are not sound: the image is left as it was");
    }
    qcow2_check_refmap_clear(&c.map);
    return qcow2_remake_out_error(r, ret, "Could not read the image's new tables");
}
