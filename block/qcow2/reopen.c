/* SPDX-License-Identifier: MIT */
/*
 * Other options for an open image; writable, or not any more.
 *
 * What the caches hold is written before they are replaced. An image that stops to be written is
 * left as a close leaves it; one that begins to be written is looked at, and its counts are made
 * anew if it is dirty, at the first change: the file below can be written only after the commit.
 */
#include "caches.h"
#include "callbacks.h"
#include "change.h"
#include "clean.h"
#include "compress.h"
#include "flush.h"
#include "inactive-l2.h"
#include "open.h"

typedef struct Qcow2Reopen {
    Qcow2Options opt;
    Qcow2Caches caches;
    bool starts_writing;
} Qcow2Reopen;

static int coroutine_fn co_write_all(Qcow2 *q, bool stops, GError **errp)
{
    int ret;

    if (q->bs->read_only || (q->bs->open_flags & BLK_O_CHECK)) {
        return 0;
    }
    ret = stops ? qcow2_open_co_finish_writing(q) : qcow2_flush_co_all(q);
    return ret < 0 ? error_set_errno(errp, ret, "Could not write the image's metadata") : 0;
}

/* The option is what it was; taken. */
static bool keeps(BlockDriverState *bs, Options *options, const char *key)
{
    bool same = g_strcmp0(opts_peek(options, key), opts_peek(bs->options, key)) == 0;

    opts_del(options, key);
    return same;
}

int coroutine_fn qcow2_co_reopen_prepare(BlockDriverState *bs, Options *options, int flags,
                                         void **state, GError **errp)
{
    Qcow2 *q = bs->opaque;
    bool writes = flags & BLK_O_RDWR;
    g_autofree Qcow2Reopen *r = g_new0(Qcow2Reopen, 1);
    int ret;

    if (writes && q->at_snapshot) {
        return error_set(errp, EINVAL, "An internal snapshot can only be opened read-only");
    }
    if (writes && q->snapshots_lost) {
        return error_set(errp, EIO, "%s", q->snapshots_lost);
    }
    if (!keeps(bs, options, "snapshot.id") || !keeps(bs, options, "snapshot.name")) {
        return error_set(errp, EINVAL, "Another snapshot cannot be shown by a reopen");
    }
    ret = qcow2_options_take(&q->geo, options, flags, &r->opt, errp);

    ret = ret < 0
              ? ret
              : qcow2_compress_check_level(q->hdr.compression_type, r->opt.compression_level, errp);
    if (ret == 0 && writes && bs->read_only && (q->hdr.incompatible & QCOW2_INCOMPAT_CORRUPT)) {
        ret = error_set(errp, EACCES, "qcow2: Image is corrupt; cannot be opened read/write");
    }
    ret = ret < 0 ? ret : co_write_all(q, !writes, errp);
    ret = ret < 0 ? ret : qcow2_inactive_l2_co_load(q, r->opt.overlap_kinds, errp);
    ret = ret < 0 ? ret : qcow2_caches_make(q, &r->opt, &r->caches, errp);
    if (ret < 0) {
        return ret;
    }
    r->starts_writing = writes && bs->read_only;
    *state = g_steal_pointer(&r);
    return 0;
}

void qcow2_reopen_commit(BlockDriverState *bs, void *state)
{
    Qcow2 *q = bs->opaque;
    g_autofree Qcow2Reopen *r = state;

    /* (What a corrupt image has left to write, a close does not write either.) */
    g_assert(atomic_load(&q->health.corrupt) || (qcow2_cache_dirty_bytes(q->l2_cache) == 0 &&
                                                 qcow2_cache_dirty_bytes(q->alloc.ref_cache) == 0));
    qcow2_clean_stop(q);
    qcow2_caches_swap(q, &r->caches);
    qcow2_caches_free(&r->caches);
    qcow2_open_apply_options(q, &r->opt);
    if (r->starts_writing) {
        qcow2_change_start_later(q);
    }
}

void qcow2_reopen_abort(BlockDriverState *bs, void *state)
{
    g_autofree Qcow2Reopen *r = state;

    qcow2_caches_free(&r->caches);
}
