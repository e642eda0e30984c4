/* SPDX-License-Identifier: MIT */
#include "change.h"

#include "bitmap.h"
#include "header-layout.h"
#include "rules.h"

uint64_t qcow2_change_autoclear_kept(const Qcow2 *q)
{
    return q->hdr.autoclear & ((q->geo.external_data ? QCOW2_AUTOCLEAR_DATA_RAW : 0) |
                               (q->hdr.has_bitmaps ? QCOW2_AUTOCLEAR_BITMAPS : 0));
}

/* Features that we do not keep true are no longer claimed. */
static int coroutine_fn co_clear_features(Qcow2 *q) REQUIRES_LOCK(q->header.lock)
{
    uint64_t before = q->hdr.autoclear;
    int ret;

    q->hdr.autoclear = qcow2_change_autoclear_kept(q);
    ret = qcow2_header_co_write_fields_locked(&q->header, &q->hdr, HEADER_AT(autoclear),
                                              HEADER_AT(refcount_order));
    if (ret < 0) {
        q->hdr.autoclear = before;
    }
    return ret;
}

int coroutine_fn qcow2_change_co_mark(Qcow2 *q, unsigned what)
{
    int ret = 0;

    co_mutex_lock(&q->header.lock);
    what &= atomic_load(&q->unmarked); /* somebody may have done it while we waited */
    if (what & QCOW2_CHANGE_DISK) {
        ret = qcow2_bitmap_co_mark_in_use(q);
    }
    if (ret == 0 && (what & QCOW2_CHANGE_IMAGE)) {
        ret = co_clear_features(q);
    }
    if (ret == 0 && what && !RULE_BROKEN(BITMAPS_BEFORE_CHANGE)) {
        ret = bdrv_co_flush(q->file->bs); /* INV-BM-1 */
    }
    if (ret == 0) {
        atomic_fetch_and(&q->unmarked, ~what);
    }
    co_mutex_unlock(&q->header.lock);
    return ret;
}
