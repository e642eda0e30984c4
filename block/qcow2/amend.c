/* SPDX-License-Identifier: MIT */
/*
 * Amend, step by step: see amend.h.
 *
 * The header's features and names change in one rewrite of it; tables, counts and data in one
 * remake (remake.h); the size as a resize does (truncate.c). A downgrade comes last: the remake
 * before it has left no zero flag (nor does a resize after it add one: INV-AMEND-1), and the
 * counts are on disk, so that the old version's header describes the image as it is.
 *
 * INV-AMEND-1  Nothing but the header changes between the remake and the downgrade.
 */
#include "amend.h"

#include "callbacks.h"
#include "change.h"
#include "crypt.h"
#include "dirty.h"
#include "flush.h"
#include "header-ext.h"
#include "header-layout.h"

#include <string.h>

typedef struct AmendStep {
    double share; /* of the whole, as progress tells it */
    bool (*is_due)(const Qcow2 *q, const AmendPlan *p);
    int coroutine_fn (*co_run)(Qcow2 *q, const AmendPlan *p, RemakeProgress *progress, void *opaque,
                               GError **errp);
} AmendStep;

/* ---- Features and names ---- */

static bool is_other_name(const Qcow2 *q, const AmendPlan *p)
{
    return p->name_data_file &&
           g_strcmp0(p->data_file ? p->data_file : "", q->hdr.data_file ? q->hdr.data_file : "");
}

static bool is_lazy(const Qcow2 *q)
{
    return q->hdr.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS;
}

static bool has_features(const Qcow2 *q, const AmendPlan *p)
{
    return (int)p->version > q->geo.version || p->lazy_refcounts != is_lazy(q) ||
           p->data_raw != q->geo.data_raw || is_other_name(q, p) ||
           p->compression_level != q->hdr.compression_level ||
           (p->target.compression_type != q->hdr.compression_type &&
            q->hdr.header_length < HEADER_OUR_LENGTH);
}

static int edit_features(Qcow2Header *h, void *opaque, GError **errp)
{
    const AmendPlan *p = opaque;

    h->version = MAX(h->version, p->version);
    h->compatible = p->lazy_refcounts ? h->compatible | QCOW2_COMPAT_LAZY_REFCOUNTS
                                      : h->compatible & ~QCOW2_COMPAT_LAZY_REFCOUNTS;
    if (p->compression_level != h->compression_level) {
        qcow2_header_ext_set_level(h, p->compression_level);
    }
    if (!p->data_raw) {
        h->autoclear &= ~QCOW2_AUTOCLEAR_DATA_RAW;
    }
    if (p->name_data_file) {
        g_free(h->data_file);
        h->data_file = p->data_file && *p->data_file ? g_strdup(p->data_file) : NULL;
    }
    return 0;
}

static int coroutine_fn co_edit(Qcow2 *q, Qcow2HeaderEdit *edit, const AmendPlan *p, GError **errp)
{
    AmendPlan copy = *p;
    int ret;

    co_mutex_lock(&q->alloc.meta_lock);
    ret = qcow2_flush_co_header(q, edit, &copy, errp);
    if (ret == 0) { /* nothing else runs on the image */
        q->geo.version = (int)q->hdr.version;
        q->geo.data_raw = p->data_raw;
    }
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

/* Counts are on disk, and the bit says so. */
static int coroutine_fn co_make_clean(Qcow2 *q, GError **errp)
{
    int ret = qcow2_flush_co_all(q);

    if (ret == 0 && (q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY)) {
        ret = qcow2_dirty_co_clear(q);
    }
    return ret < 0 ? error_set_errno(errp, ret, "Could not write the image's metadata") : 0;
}

static int coroutine_fn co_features(Qcow2 *q, const AmendPlan *p, RemakeProgress *progress,
                                    void *opaque, GError **errp)
{
    bool lazy_changes = p->lazy_refcounts != is_lazy(q);
    int ret = lazy_changes && !p->lazy_refcounts ? co_make_clean(q, errp) : 0;

    ret = ret < 0 ? ret : co_edit(q, edit_features, p, errp);
    if (ret == 0 && lazy_changes) {
        q->lazy_refcounts = p->lazy_refcounts;
    }
    return ret;
}

/* ---- Tables, counts and data ---- */

static bool has_remake(const Qcow2 *q, const AmendPlan *p)
{
    RemakeTarget now = qcow2_remake_current(q);

    now.zero_flags |= p->version >= 3; /* what an upgrade brings needs no other tables */
    return !qcow2_remake_is_same(&now, &p->target);
}

static int coroutine_fn co_remake(Qcow2 *q, const AmendPlan *p, RemakeProgress *progress,
                                  void *opaque, GError **errp)
{
    return qcow2_remake_co_run(q, &p->target, progress, opaque, errp);
}

/* ---- The size ---- */

static bool has_downgrade(const Qcow2 *q, const AmendPlan *p)
{
    return (int)p->version < q->geo.version;
}

/* Growing over a backing file makes zero clusters, which the remake of a downgrade must meet. */
static bool has_size_before(const Qcow2 *q, const AmendPlan *p)
{
    return p->resize && has_downgrade(q, p);
}

/* Else the new clusters come first: they may allow sizes that the old ones do not. */
static bool has_size_after(const Qcow2 *q, const AmendPlan *p)
{
    return p->resize && !has_downgrade(q, p);
}

static int coroutine_fn co_size(Qcow2 *q, const AmendPlan *p, RemakeProgress *progress,
                                void *opaque, GError **errp)
{
    if (p->size > INT64_MAX) {
        return error_set(errp, EFBIG, "Image size must be less than 8 EiB!");
    }
    return qcow2_co_truncate(q->bs, (int64_t)p->size, false, BLK_PREALLOC_OFF, 0, errp);
}

/* ---- The old version ---- */

/* What the old version has no place for. */
static int edit_downgrade(Qcow2Header *h, void *opaque, GError **errp)
{
    g_assert(h->refcount_order == 4 && !h->has_bitmaps && !h->compression_type);
    h->version = 2;
    h->incompatible = h->compatible = h->autoclear = 0;
    h->unknown_fields_len = 0;
    memset(h->padding, 0, sizeof(h->padding));
    return 0;
}

static int coroutine_fn co_downgrade(Qcow2 *q, const AmendPlan *p, RemakeProgress *progress,
                                     void *opaque, GError **errp)
{
    int ret = co_make_clean(q, errp);

    return ret < 0 ? ret : co_edit(q, edit_downgrade, p, errp);
}

/* ---- All of them ---- */

static const AmendStep steps[] = {
    { 0.01, has_features, co_features }, /* the new version before what only it can say */
    { 0.1, has_size_before, co_size },   /* INV-AMEND-1 */
    { 1, has_remake, co_remake },        /* tables, counts, data */
    { 0.1, has_size_after, co_size },    /* not before a downgrade */
    { 0.01, has_downgrade, co_downgrade },
};

typedef struct AmendProgress {
    const BlockAmend *how;
    double done, share, all;
} AmendProgress;

static bool tell(double done, void *opaque)
{
    const AmendProgress *p = opaque;

    return !p->how->progress ||
           p->how->progress((p->done + p->share * done) / p->all, p->how->opaque);
}

static int coroutine_fn co_take_steps(Qcow2 *q, const AmendPlan *plan, const BlockAmend *how,
                                      GError **errp)
{
    bool due[G_N_ELEMENTS(steps)], any = false;
    AmendProgress p = { .how = how };
    int ret = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        due[i] = steps[i].is_due(q, plan);
        any |= due[i];
        p.all += due[i] ? steps[i].share : 0;
    }
    if (any) { /* else not a byte changes */
        ret = qcow2_change_co_begin(q, QCOW2_CHANGE_IMAGE);
        ret = ret < 0 ? error_set_errno(errp, ret, "Could not update qcow2 header") : 0;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(steps) && ret == 0; i++) {
        if (!due[i]) {
            continue;
        }
        p.share = steps[i].share;
        ret = steps[i].co_run(q, plan, tell, &p, errp);
        p.done += p.share;
        p.share = 0;
        if (ret == 0) {
            (void)tell(0, &p); /* what comes next is not left out */
        }
    }
    return ret;
}

int coroutine_fn qcow2_co_amend(BlockDriverState *bs, Options *opts, const BlockAmend *how,
                                GError **errp)
{
    g_autoptr(Options) keys = opts_take_subtree(opts, "encrypt");
    Qcow2 *q = bs->opaque;
    AmendPlan plan;
    int ret = qcow2_health_may_write(&q->health);

    if (ret < 0) {
        return error_set_errno(errp, ret, "The image cannot be changed");
    }
    ret = opts_count(keys) ? qcow2_crypt_check_amend(q, errp) : 0;
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_amend_plan(q, opts, &plan, errp);
    if (ret == 0 && opts_count(keys)) {
        ret = qcow2_crypt_co_amend(q, keys, opts_secrets(opts), how->force, errp);
    }
    ret = ret < 0 ? ret : co_take_steps(q, &plan, how, errp);
    qcow2_amend_plan_clear(&plan);
    return ret;
}
