/* SPDX-License-Identifier: MIT */
/* The two caches of an image: see caches.h. */
#include "caches.h"

#include <errno.h>

#define DEFAULT_L2_CACHE (INT64_C(32) * MiB)
#define MIN_CACHES (UINT64_C(256) * KiB)

/* What the user lets an image take: its tables' sizes, and what is left for caches. */
static int check_caps(Qcow2 *q, uint64_t *left, GError **errp)
{
    const BlockCaps *caps = bdrv_caps(q->bs);
    uint64_t l1 = q->hdr.l1_size * UINT64_C(8);
    uint64_t reftable = q->hdr.reftable_clusters * q->geo.cluster_size;

    if (MAX(l1, reftable) > caps->table_size) {
        return error_set(errp, EFBIG,
                         "The image has a table of %" G_GUINT64_FORMAT " bytes, more than "
                         "limits.table-size=%" G_GUINT64_FORMAT " allows",
                         MAX(l1, reftable), caps->table_size);
    }
    if (l1 + reftable + MIN_CACHES > caps->metadata) {
        return error_set(errp, EFBIG,
                         "The image needs %" G_GUINT64_FORMAT " bytes for its metadata, more than "
                         "limits.metadata=%" G_GUINT64_FORMAT " allows",
                         l1 + reftable + MIN_CACHES, caps->metadata);
    }
    *left = caps->metadata - l1 - reftable;
    return 0;
}

int qcow2_caches_make(Qcow2 *q, const Qcow2Options *opt, Qcow2Caches *c, GError **errp)
{
    const Geometry *g = &q->geo;
    uint64_t slice = opt->l2_slice_bytes;
    uint64_t full = geo_clusters(g, q->hdr.size) * g->l2_entry_size;
    uint64_t l2 = opt->l2_cache_bytes, ref = opt->ref_cache_bytes;
    uint64_t ref_slice = MIN(g->cluster_size, UINT64_C(4096)), left = 0;
    int ret = check_caps(q, &left, errp);

    *c = (Qcow2Caches){ 0 };
    if (ret < 0) {
        return ret;
    }
    if (!l2) {
        l2 = MIN(ALIGN_UP(MAX(full, slice), slice), (uint64_t)DEFAULT_L2_CACHE);
        l2 = MIN(l2, left / 2);
        c->budget_taken = qcow2_budget_take(l2, MIN(l2, (uint64_t)MiB));
        l2 = c->budget_taken;
    }
    if (!ref) {
        ref = MIN(4 * g->cluster_size, left / 4);
    }
    if (l2 + ref > left) {
        qcow2_caches_free(c);
        return error_set(
            errp, EFBIG,
            "Caches of %" G_GUINT64_FORMAT " bytes are more than limits.metadata allows", l2 + ref);
    }
    c->l2 = qcow2_cache_new(q->file, slice, MAX(l2, 2 * slice), BLKDBG_L2_LOAD);
    c->ref = qcow2_cache_new(q->file, ref_slice, MAX(ref, 4 * ref_slice), BLKDBG_REFBLOCK_LOAD);
    if (!c->l2 || !c->ref) {
        qcow2_caches_free(c);
        return error_set(errp, ENOMEM, "Could not allocate metadata caches");
    }
    return 0;
}

void qcow2_caches_free(Qcow2Caches *c)
{
    qcow2_cache_free(c->l2);
    qcow2_cache_free(c->ref);
    if (c->budget_taken) {
        qcow2_budget_return(c->budget_taken);
    }
    *c = (Qcow2Caches){ 0 };
}

void qcow2_caches_swap(Qcow2 *q, Qcow2Caches *c)
{
    Qcow2Caches old = { q->l2_cache, q->alloc.ref_cache, q->budget_taken };

    q->l2_cache = c->l2;
    q->alloc.ref_cache = c->ref;
    q->budget_taken = c->budget_taken;
    *c = old;
}
