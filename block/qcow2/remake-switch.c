/* SPDX-License-Identifier: MIT */
/*
 * The moment in which an image becomes what was made beside it (INV-REMAKE-2 to 4).
 *
 * Everything new is synced; the new state is loaded and looked at, so that nothing can fail in
 * memory once the header is written; one write within a sector; a sync.
 */
#include "remake-int.h"

#include "flush.h"
#include "header-layout.h"
#include "open.h"
#include "rules.h"

static int coroutine_fn co_sync(Remake *r)
{
    Qcow2 *q = r->q;
    int ret = qcow2_health_co_sync(&q->health, q->file->bs);

    return ret < 0 || q->data == q->file ? ret : qcow2_health_co_sync(&q->health, q->data->bs);
}

static void make_header(const Remake *r, Qcow2Header *h)
{
    const RemakeTarget *t = &r->target;

    *h = r->q->hdr;
    h->cluster_bits = t->cluster_bits;
    h->refcount_order = t->refcount_order;
    h->compression_type = t->compression_type;
    h->reftable_offset = r->reftable_offset;
    h->reftable_clusters = r->reftable_clusters;
    h->incompatible &= ~(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_EXTL2 | QCOW2_INCOMPAT_COMPRESSION);
    h->incompatible |= t->extended_l2 ? QCOW2_INCOMPAT_EXTL2 : 0;
    h->incompatible |= t->compression_type ? QCOW2_INCOMPAT_COMPRESSION : 0;
    if (!r->tables_stay) {
        h->l1_offset = r->l1_offset;
        h->l1_size = r->l1_size;
        h->snapshots_offset = r->snapshots_offset;
        h->bitmap_dir_offset = r->bitmap_dir_offset;
        h->crypto_offset = r->crypto_offset;
    }
}

/* ---- The header ---- */

static int edit_room(Qcow2Header *h, void *opaque, GError **errp)
{
    h->room = *(size_t *)opaque;
    return 0;
}

int coroutine_fn qcow2_remake_switch_co_fit_header(Remake *r)
{
    Qcow2 *q = r->q;
    size_t size = (size_t)r->rules.from.cluster_size, room = (size_t)r->rules.to.cluster_size;
    Qcow2HeaderPlaces p;
    size_t fields;
    int ret = qcow2_header_co_places(&q->header, size, &p, &fields);

    if (ret < 0) {
        return qcow2_remake_out_error(r, ret, "Could not read qcow2 header");
    }
    /* A list of extensions without an end, which would go on in a larger cluster, is one that does
     * not fit, too. */
    r->whole_header = (r->target.compression_type && fields <= HEADER_AT(compression_type)) ||
                      (q->hdr.has_bitmaps && size != room) ||
                      (q->hdr.crypto_offset && room > size) || (room > size && p.end > size - 8);
    if (room >= MAX(p.end, p.name_end)) {
        return 0;
    }
    co_mutex_lock(&q->alloc.meta_lock);
    ret = qcow2_flush_co_header(q, edit_room, &room, &r->err);
    q->hdr.room = 0;
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

/* *@failed: it may have been written. */
static int coroutine_fn co_put_header(Remake *r, const Qcow2Header *h, bool *failed, GError **errp)
{
    Qcow2 *q = r->q;
    HeaderFailure failure = HEADER_UNTOUCHED;
    int ret;

    if (!r->whole_header) {
        ret = qcow2_header_co_switch(&q->header, h);
        *failed = ret < 0;
        if (ret == 0 && !RULE_BROKEN(REMAKE_SWITCH_SYNCED)) {
            ret = qcow2_health_co_sync(&q->health, q->file->bs);
        }
        return ret;
    }
    co_mutex_lock(&q->header.lock);
    ret = qcow2_header_co_rewrite(&q->header, h, &failure, errp);
    co_mutex_unlock(&q->header.lock);
    *failed = ret < 0 && failure != HEADER_UNTOUCHED;
    if (failure == HEADER_SYNC_FAILED) {
        qcow2_health_sync_failed(&q->health, ret);
    }
    return ret;
}

/* The old one again, after a write of the new one failed. */
static bool coroutine_fn co_take_back(Remake *r)
{
    bool failed;

    return co_put_header(r, &r->q->hdr, &failed, NULL) == 0; /* the first failure is told */
}

static int coroutine_fn co_write_header(Remake *r, const Qcow2Header *h)
{
    Qcow2 *q = r->q;
    bool failed;
    int ret = co_put_header(r, h, &failed, &r->err);

    if (ret < 0 && failed && !co_take_back(r)) {
        r->in_doubt = true;
        if (qcow2_health_may_write(&q->health) == 0) {
            atomic_store(&q->health.write_error, ret);
        }
    }
    r->in_doubt |= ret < 0 && qcow2_health_may_write(&q->health) < 0;
    return ret;
}

/* What lies in the header's larger cluster is nothing any more. Best effort. */
static void coroutine_fn co_clear_header(Remake *r)
{
    uint64_t old = r->rules.from.cluster_size, new = r->rules.to.cluster_size;

    if (new > old) {
        (void)bdrv_co_pwrite_zeroes(r->q->file, (int64_t)old, (int64_t)(new - old), 0);
    }
}

int coroutine_fn qcow2_remake_switch_co_run(Remake *r)
{
    Qcow2Header h;
    Qcow2 *made = NULL;
    int ret = RULE_BROKEN(REMAKE_MADE_BEFORE_SWITCH) ? 0 : co_sync(r);

    make_header(r, &h);
    ret = ret < 0 ? ret : qcow2_open_co_beside(r->q, &h, &made, &r->err);
    ret = ret < 0 ? ret : qcow2_remake_survey_co_new(r, made);
    ret = ret < 0 ? ret : qcow2_remake_out_progress(r, 1);
    ret = ret < 0 ? ret : co_write_header(r, &h);
    if (ret < 0) {
        qcow2_open_free_beside(made);
        return qcow2_remake_out_error(r, ret, "Could not switch to the image's new tables");
    }
    qcow2_open_co_take_over(r->q, made);
    r->switched = true;
    co_clear_header(r);
    return 0;
}
