/* SPDX-License-Identifier: MIT */
/*
 * The moment in which an image becomes what was made beside it (INV-REMAKE-2 to 4).
 *
 * Everything new is synced; the new state is loaded and looked at, so that nothing can fail in memory
 * once the header is written; one write within a sector; a sync.
 */
#include "remake-int.h"

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
    }
}

/* Whether the header is the old one for certain, after a write of the new one failed. */
static bool coroutine_fn co_take_back(Remake *r)
{
    Qcow2 *q = r->q;

    return qcow2_header_co_switch(&q->header, &q->hdr) == 0 &&
           qcow2_health_co_sync(&q->health, q->file->bs) == 0;
}

static int coroutine_fn co_write_header(Remake *r, const Qcow2Header *h)
{
    Qcow2 *q = r->q;
    int ret = qcow2_header_co_switch(&q->header, h);

    if (ret == 0) {
        ret = RULE_BROKEN(REMAKE_SWITCH_SYNCED) ? 0 : qcow2_health_co_sync(&q->health, q->file->bs);
        r->in_doubt = ret < 0; /* nothing more is written: INV-FLUSH-3 */
        return ret;
    }
    if (!co_take_back(r)) {
        r->in_doubt = true;
        atomic_store(&q->health.write_error, ret);
    }
    return ret;
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
    return 0;
}
