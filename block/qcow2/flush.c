/* SPDX-License-Identifier: MIT */
/*
 * Metadata on its way to disk: the one place that decides orders. They are the table of steps
 * below.
 *
 * A flush seals copies of all that is dirty, under meta_lock, and writes them step by step without
 * it; a step with nothing to write falls away. Power may fail between any two: a refcount without a
 * user is a leak, a table without a parent is a leak, data without an entry is not promised. With
 * lazy refcounts the dirty bit is on disk first, and counts and their table stay in memory until
 * the image is closed, or the cache of counts needs the room: the next writer rebuilds the counts
 * if power fails before.
 *
 * INV-FLUSH-1  One flush at a time (flush_lock); a later one seals later.
 * INV-FLUSH-2  A step that fails leaves what it and the steps after it were to write dirty; the
 *              next flush begins at the first step again. Until a flush has ended well nothing that
 *              was let go of meanwhile leaves quarantine, and no count of what a table on disk may
 *              name falls: so whatever part of a failed write reached the disk, it names nothing
 *              free.
 * INV-FLUSH-3  After a failed sync (the kernel may have dropped what it held, and says so once)
 *              nothing more is written until the image is opened again.
 */
#include "flush.h"

#include "callbacks.h"
#include "clean.h"
#include "dirty.h"
#include "header-layout.h"
#include "l1.h"
#include "reap.h"
#include "reftable.h"
#include "rules.h"
#include "tail.h"
#include "track.h"

#include <errno.h>

#define MAX_ROUNDS 4

typedef struct Sealed {
    SealedSet ref, l2;
    ReftableSeal table;
    L1Seal l1;
    QuarantineMark mark;
} Sealed;

/* ---- Seal ---- */

bool qcow2_flush_is_crowded(MetaCache *c, uint64_t need)
{
    uint64_t budget = qcow2_cache_budget(c);

    return need > budget && qcow2_cache_dirty_bytes(c) > budget / 2;
}

bool qcow2_flush_counts_need_room(Qcow2 *q)
{
    return qcow2_flush_is_crowded(q->alloc.ref_cache, UINT64_MAX);
}

/* Lazy: counts and their table stay in memory while the dirty bit says so, until they need the
 * room. */
static bool leaves_refcounts(Qcow2 *q) REQUIRES_LOCK(q->alloc.meta_lock)
{
    bool dirty = (q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY) || q->l1_dirty ||
                 qcow2_cache_dirty_bytes(q->l2_cache);

    return q->lazy_refcounts && dirty && !atomic_load(&q->write_counts) &&
           !qcow2_flush_counts_need_room(q);
}

static int seal_all(Qcow2 *q, Sealed *s) REQUIRES_LOCK(q->alloc.meta_lock)
{
    bool lazy = leaves_refcounts(q);
    int ret = lazy ? 0 : qcow2_cache_seal(q->alloc.ref_cache, &s->ref);

    if (ret == 0) {
        ret = qcow2_cache_seal(q->l2_cache, &s->l2);
        if (ret == 0 && !lazy) {
            ret = qcow2_reftable_seal(&q->alloc, &s->table);
        }
        if (ret == 0) {
            ret = qcow2_l1_seal(q, &s->l1);
        }
        if (ret < 0) {
            qcow2_cache_unseal(q->alloc.ref_cache, &s->ref);
            qcow2_cache_unseal(q->l2_cache, &s->l2);
        }
    }
    if (ret == 0) {
        s->mark = qcow2_quarantine_mark(q->quarantine);
    }
    return ret;
}

static void coroutine_fn co_sealed_clear(Qcow2 *q, Sealed *s, bool failed)
{
    qcow2_cache_sealed_clear(&s->ref);
    qcow2_cache_sealed_clear(&s->l2);
    qcow2_reftable_co_seal_clear(&q->alloc, &s->table, failed);
    if (failed) {
        co_mutex_lock(&q->alloc.meta_lock);
        qcow2_l1_unseal(q, &s->l1);
        co_mutex_unlock(&q->alloc.meta_lock);
    }
    g_free(s->l1.data);
}

/* ---- Steps ---- */

static int coroutine_fn co_sync(Qcow2 *q)
{
    int ret = qcow2_health_co_sync(&q->health, q->file->bs);

    if (ret == 0 && q->data && q->data != q->file && !RULE_BROKEN(DATA_FILE_BEFORE_L2)) {
        ret = qcow2_health_co_sync(&q->health, q->data->bs);
    }
    return ret;
}

/* ---- The header ---- */

static int coroutine_fn co_rewrite_header(Qcow2 *q, const Qcow2Header *h, GError **errp)
    REQUIRES_LOCK(q->alloc.meta_lock, q->header.lock)
{
    HeaderFailure failure = HEADER_UNTOUCHED;
    int ret = qcow2_header_co_rewrite(&q->header, h, &failure, errp);

    if (ret == 0) {
        q->header_whole_in_doubt = false;
    } else if (failure != HEADER_UNTOUCHED) {
        q->header_whole_in_doubt = true;
    }
    if (failure == HEADER_SYNC_FAILED) {
        qcow2_health_sync_failed(&q->health, ret);
    }
    return ret;
}

/* A rewrite failed: the file says the old header or the new, in one form or another. */
static int coroutine_fn co_settle_whole(Qcow2 *q) REQUIRES_LOCK(q->alloc.meta_lock)
{
    int ret;

    if (!q->header_whole_in_doubt || RULE_BROKEN(HEADER_DOUBT_WHOLE)) {
        return 0;
    }
    co_mutex_lock(&q->header.lock);
    ret = co_rewrite_header(q, &q->hdr, NULL);
    co_mutex_unlock(&q->header.lock);
    return ret;
}

int coroutine_fn qcow2_flush_co_settle_header(Qcow2 *q)
{
    int ret;

    co_mutex_lock(&q->alloc.meta_lock);
    ret = co_settle_whole(q);
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

int coroutine_fn qcow2_flush_co_header_fields(Qcow2 *q, const Qcow2Header *h, size_t from,
                                              size_t to)
{
    int ret = co_settle_whole(q);

    ret = ret < 0 ? ret : qcow2_header_co_write_fields(&q->header, h, from, to);
    if (ret < 0) {
        q->header_in_doubt = true;
        return ret;
    }
    return RULE_BROKEN(L1_OLD_KEPT) ? 0 : qcow2_health_co_sync(&q->health, q->file->bs);
}

/* @edit decides under the lock of the bits that others change at any time (dirty). */
static int coroutine_fn co_edit_header(Qcow2 *q, Qcow2HeaderEdit *edit, void *opaque, GError **errp)
    REQUIRES_LOCK(q->alloc.meta_lock, q->header.lock)
{
    Qcow2Header h, old = q->hdr;
    int ret;

    qcow2_header_copy(&h, &old);
    ret = edit(&h, opaque, errp);
    h.header_length = qcow2_header_length(&h);
    ret = ret < 0 ? ret : co_rewrite_header(q, &h, errp);
    if (ret == 0) {
        q->hdr = h;
        h = old;
    }
    qcow2_header_clear(&h);
    return ret;
}

int coroutine_fn qcow2_flush_co_header(Qcow2 *q, Qcow2HeaderEdit *edit, void *opaque, GError **errp)
{
    int ret = qcow2_health_may_write(&q->health);

    ret = ret < 0 ? ret : co_settle_whole(q);
    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not update qcow2 header");
    }
    co_mutex_lock(&q->header.lock);
    ret = co_edit_header(q, edit, opaque, errp);
    co_mutex_unlock(&q->header.lock);
    return ret;
}

/* ---- The order ---- */

static bool has_doubtful_header(const Qcow2 *q, const Sealed *s)
{
    return (q->header_in_doubt && !RULE_BROKEN(DOUBT_BEFORE_TABLES)) ||
           (q->header_whole_in_doubt && !RULE_BROKEN(HEADER_DOUBT_WHOLE));
}

/* A write of header fields failed: what stands there is old, or new, and what both name was kept.
 * It becomes what memory says, before anything else relies on that. */
static int coroutine_fn co_write_header(Qcow2 *q, Sealed *s)
{
    int ret;

    co_mutex_lock(&q->alloc.meta_lock);
    ret = co_settle_whole(q);
    ret = ret < 0 ? ret
                  : qcow2_header_co_write_fields(&q->header, &q->hdr, HEADER_AT(size),
                                                 HEADER_AT(incompatible));
    ret = ret < 0 ? ret : qcow2_health_co_sync(&q->health, q->file->bs);
    q->header_in_doubt = ret < 0;
    co_mutex_unlock(&q->alloc.meta_lock);
    return ret;
}

static bool is_dirty(const Qcow2 *q)
{
    return q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY;
}

static bool has_dirty_bit(const Qcow2 *q, const Sealed *s)
{
    return q->lazy_refcounts && !is_dirty(q) && (s->l2.count || s->l1.n);
}

static int coroutine_fn co_write_dirty_bit(Qcow2 *q, Sealed *s)
{
    return qcow2_dirty_co_set(q);
}

static bool has_refblocks(const Qcow2 *q, const Sealed *s)
{
    return s->ref.count;
}

static int coroutine_fn co_write_refblocks(Qcow2 *q, Sealed *s)
{
    return qcow2_cache_co_write_sealed(q->alloc.ref_cache, &s->ref, BLKDBG_REFBLOCK_UPDATE_PART);
}

static void put_back_refblocks(Qcow2 *q, Sealed *s)
{
    qcow2_cache_unseal(q->alloc.ref_cache, &s->ref);
}

static bool has_reftable(const Qcow2 *q, const Sealed *s)
{
    return s->table.n;
}

static int coroutine_fn co_write_reftable(Qcow2 *q, Sealed *s)
{
    return qcow2_reftable_co_write(&q->alloc, &s->table);
}

static bool has_switch(const Qcow2 *q, const Sealed *s)
{
    return s->table.moved;
}

static int coroutine_fn co_write_switch(Qcow2 *q, Sealed *s)
{
    return qcow2_reftable_co_switch(&q->alloc, &s->table);
}

static bool has_l2(const Qcow2 *q, const Sealed *s)
{
    return s->l2.count;
}

static int coroutine_fn co_write_l2(Qcow2 *q, Sealed *s)
{
    return qcow2_cache_co_write_sealed(q->l2_cache, &s->l2, BLKDBG_L2_UPDATE);
}

static void put_back_l2(Qcow2 *q, Sealed *s)
{
    qcow2_cache_unseal(q->l2_cache, &s->l2);
}

static bool has_l1(const Qcow2 *q, const Sealed *s)
{
    return s->l1.n;
}

static int coroutine_fn co_write_l1(Qcow2 *q, Sealed *s)
{
    g_assert(s->l1.data);
    return qcow2_l1_co_write(q, &s->l1);
}

static int coroutine_fn co_release(Qcow2 *q, Sealed *s)
{
    g_assert(s->mark.gen > 0);
    qcow2_quarantine_synced(q->quarantine, s->mark);
    return 0;
}

typedef struct FlushStep {
    bool (*is_due)(const Qcow2 *q, const Sealed *s);
    int coroutine_fn (*co_write)(Qcow2 *q, Sealed *s); /* what it could not write is dirty again */
    void (*put_back)(Qcow2 *q,
                     Sealed *s); /* where it is not reached; NULL: co_sealed_clear() does */
    Qcow2Rule sync;  /* before it all that was written is synced, unless this is broken */
    Qcow2Rule place; /* it has this place; if the rule is broken it comes after the others */
} FlushStep;

/*
 * A sync before a step is of the file and of the data file: of the steps before, and of the data
 * that guests have written. RULE_NONE: there is none, or nothing depends on the place.
 */
/* clang-format off */
static const FlushStep steps[] = {
    { has_doubtful_header, co_write_header, NULL, RULE_NONE, RULE_NONE }, /* DOUBT_BEFORE_TABLES */
    { has_dirty_bit, co_write_dirty_bit, NULL, RULE_NONE, RULE_NONE }, /* DIRTY_BEFORE_LAZY */
    { has_refblocks, co_write_refblocks, put_back_refblocks, RULE_NONE, RULE_REFCOUNTS_BEFORE_L2 },
    { has_reftable, co_write_reftable, NULL, RULE_REFBLOCKS_BEFORE_REFTABLE,
      RULE_REFTABLE_BEFORE_L2 },
    { has_switch, co_write_switch, NULL, RULE_REFTABLE_BEFORE_SWITCH, RULE_SWITCH_BEFORE_L2 },
    { has_l2, co_write_l2, put_back_l2, RULE_DATA_BEFORE_L2, RULE_NONE }, /* INV-W-1, INV-W-2 */
    { has_l1, co_write_l1, NULL, RULE_L2_BEFORE_L1, RULE_NONE }, /* INV-W-3 */
};
/* INV-W-4: what was let go of may leave quarantine. */
static const FlushStep release = { .co_write = co_release, .sync = RULE_SYNC_BEFORE_RELEASE };
/* clang-format on */

static int coroutine_fn co_take_step(Qcow2 *q, Sealed *s, const FlushStep *step)
{
    int ret = 0;

    if (step->sync != RULE_NONE && !rule_is_broken(step->sync)) {
        ret = co_sync(q);
    }
    if (ret == 0) {
        return step->co_write(q, s);
    }
    if (step->put_back) {
        step->put_back(q, s);
    }
    return ret;
}

/* All that are due, up to the first that fails. */
static int coroutine_fn co_take_steps(Qcow2 *q, Sealed *s)
{
    int ret = 0;

    for (int late = 0; late < 2; late++) { /* the second round is for broken rules */
        for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
            const FlushStep *step = &steps[i];

            if (rule_is_broken(step->place) != late || !step->is_due(q, s)) {
                continue;
            }
            if (ret == 0) {
                ret = co_take_step(q, s, step);
            } else if (step->put_back) {
                step->put_back(q, s);
            }
        }
    }
    return ret;
}

static int coroutine_fn co_flush_once(Qcow2 *q, bool final)
{
    Sealed s = { 0 };
    int ret;

    co_mutex_lock(&q->alloc.meta_lock);
    ret = seal_all(q, &s);
    co_mutex_unlock(&q->alloc.meta_lock);
    ret = ret < 0 ? ret : co_take_steps(q, &s);
    if (ret == 0 && final) {
        ret = co_take_step(q, &s, &release);
    }
    co_sealed_clear(q, &s, ret < 0); /* INV-FLUSH-2 */
    return ret;
}

int coroutine_fn qcow2_flush_co_metadata(Qcow2 *q, bool final)
{
    uint64_t want = atomic_load(&q->flush_begun) + 1;
    int ret;

    co_mutex_lock(&q->flush_lock);
    if (q->flush_done >= want) { /* one that began after we came has done our work */
        co_mutex_unlock(&q->flush_lock);
        return 0;
    }
    ret = atomic_load(&q->health.write_error);
    if (ret == 0) {
        uint64_t mine = atomic_fetch_add(&q->flush_begun, 1) + 1;

        ret = co_flush_once(q, final);
        if (ret == 0 && final) {
            q->flush_done = mine;
        }
    }
    co_mutex_unlock(&q->flush_lock);
    return ret;
}

int coroutine_fn qcow2_flush_co_all(Qcow2 *q)
{
    int ret = 0;

    atomic_store(&q->write_counts, true);
    /* A round may let go of more: a refcount table that moved frees the old one a flush later. */
    for (int round = 0; round < MAX_ROUNDS && ret == 0; round++) {
        ret = qcow2_flush_co_metadata(q, true);
        if (ret < 0 || qcow2_quarantine_bytes(q->quarantine) == 0) {
            break;
        }
        ret = qcow2_reap_co_ready(q);
    }
    ret = ret < 0 ? ret : qcow2_flush_co_metadata(q, true); /* the counts that fell meanwhile */
    atomic_store(&q->write_counts, false);
    return ret;
}

int coroutine_fn qcow2_co_flush_to_os(BlockDriverState *bs)
{
    Qcow2 *q = bs->opaque;
    int ret;

    qcow2_clean_if_due(q);
    if (bs->read_only) {
        return 0;
    }
    ret = qcow2_track_co_flush(q);
    if (RULE_BROKEN(CUT_AFTER_LEFT)) {
        qcow2_tail_co_cut_early(q); /* (a close flushes first) */
    }
    ret = ret < 0 ? ret : qcow2_flush_co_metadata(q, true);
    /* What the flush set free: on failure that stays in quarantine, and the flush itself is
     * done. */
    return ret < 0 ? ret : (qcow2_reap_co_ready(q), 0);
}
