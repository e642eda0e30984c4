/* SPDX-License-Identifier: MIT */
/* Before every change: see change.h. */
#include "change.h"

#include "bitmap.h"
#include "flush.h"
#include "header-layout.h"
#include "rebuild.h"
#include "rules.h"
#include "track.h"

uint64_t qcow2_change_autoclear_kept(const Qcow2 *q)
{
    return q->hdr.autoclear & ((q->geo.external_data ? QCOW2_AUTOCLEAR_DATA_RAW : 0) |
                               (q->hdr.has_bitmaps ? QCOW2_AUTOCLEAR_BITMAPS : 0));
}

/* Features that we do not keep true are no longer claimed. */
static int coroutine_fn co_clear_features(Qcow2 *q) REQUIRES_LOCK(q->header.lock)
{
    uint64_t before = q->hdr.autoclear, kept = qcow2_change_autoclear_kept(q);
    int ret;

    if (kept == before) {
        return 0; /* (version 2 has other things in its place) */
    }
    g_assert(q->hdr.version >= 3);
    q->hdr.autoclear = kept;
    ret = qcow2_header_co_write_fields_locked(&q->header, &q->hdr, HEADER_AT(autoclear),
                                              HEADER_AT(refcount_order));
    if (ret < 0) {
        q->hdr.autoclear = before;
    }
    return ret;
}

/* Bitmaps that are not kept true say that they are not to be believed. */
static int coroutine_fn co_mark_bitmaps(Qcow2 *q)
{
    bool marked;

    return q->hdr.has_bitmaps ? qcow2_bitmap_co_mark_in_use(q, qcow2_track_keeps, &marked) : 0;
}

static int coroutine_fn co_mark(Qcow2 *q, unsigned what)
{
    int ret = 0;

    co_mutex_lock(&q->header.lock);
    what &= atomic_load(&q->unmarked); /* somebody may have done it while we waited */
    if (what & QCOW2_CHANGE_DISK) {
        ret = co_mark_bitmaps(q);
    }
    if (ret == 0 && (what & QCOW2_CHANGE_IMAGE)) {
        ret = co_clear_features(q);
    }
    if (ret == 0 && what) {
        ret = bdrv_co_flush(q->file->bs); /* INV-BM-1 */
    }
    if (ret == 0) {
        atomic_fetch_and(&q->unmarked, ~what);
    }
    co_mutex_unlock(&q->header.lock);
    return ret;
}

/* ---- The first change ---- */

static int coroutine_fn co_rebuild_if_dirty(Qcow2 *q, GError **errp)
{
    int ret;

    if (!(q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY)) {
        return 0;
    }
    ret = co_mark(q, QCOW2_CHANGE_IMAGE);
    return ret < 0 ? error_set_errno(errp, ret, "Could not update qcow2 header")
                   : qcow2_rebuild_co_refcounts(q, errp);
}

int coroutine_fn qcow2_change_co_start(Qcow2 *q, GError **errp)
{
    const char *overlap;
    bool bitmaps;
    uint64_t at;
    int ret = qcow2_bitmap_co_open(q, &bitmaps, errp);

    if (ret < 0) {
        return ret;
    }
    if (bitmaps) {
        atomic_fetch_or(&q->unmarked, QCOW2_CHANGE_DISK);
    }
    if (q->hdr.autoclear != qcow2_change_autoclear_kept(q)) {
        atomic_fetch_or(&q->unmarked, QCOW2_CHANGE_IMAGE);
    }
    overlap = qcow2_metadata_overlap(q->metadata, &at);
    if (overlap) { /* a change of one table would be one of the other */
        (void)qcow2_health_co_corrupt(&q->health, overlap, (int64_t)at,
                                      "metadata overlaps other metadata");
        return 0;
    }
    return co_rebuild_if_dirty(q, errp);
}

void qcow2_change_start_later(Qcow2 *q)
{
    atomic_store(&q->unmarked, QCOW2_CHANGE_START | QCOW2_CHANGE_DISK | QCOW2_CHANGE_IMAGE);
}

/* One at a time; nobody changes anything before it is done. */
static int coroutine_fn co_start_now(Qcow2 *q)
{
    g_autoptr(GError) err = NULL;
    int ret = 0;

    co_mutex_lock(&q->start_lock);
    if (atomic_load(&q->unmarked) & QCOW2_CHANGE_START) {
        ret = qcow2_change_co_start(q, &err);
        if (ret < 0) {
            bdrv_report(q->bs, err->message);
        } else {
            atomic_fetch_and(&q->unmarked, ~QCOW2_CHANGE_START);
        }
    }
    co_mutex_unlock(&q->start_lock);
    return ret < 0 ? ret : qcow2_health_may_write(&q->health);
}

/* The disk is about to change for the first time: bitmaps that are enabled track it. To get room of
 * their own is a change of the image. */
static int coroutine_fn co_start_tracking(Qcow2 *q)
{
    int ret = co_mark(q, QCOW2_CHANGE_IMAGE);

    if (ret == 0) {
        co_mutex_lock(&q->start_lock);
        qcow2_track_co_start(q);
        co_mutex_unlock(&q->start_lock);
    }
    return ret;
}

int coroutine_fn qcow2_change_co_mark(Qcow2 *q, unsigned what)
{
    int ret = atomic_load(&q->unmarked) & QCOW2_CHANGE_START ? co_start_now(q) : 0;

    if (ret == 0 && (what & atomic_load(&q->unmarked) & QCOW2_CHANGE_DISK) &&
        !RULE_BROKEN(BITMAPS_SETTLED)) {
        ret = qcow2_flush_co_settle_header(q); /* INV-BMST-2 */
    }
    if (ret == 0 && (what & atomic_load(&q->unmarked) & QCOW2_CHANGE_DISK) && q->hdr.has_bitmaps) {
        ret = co_start_tracking(q);
    }
    return ret < 0 ? ret : co_mark(q, what);
}
