/* SPDX-License-Identifier: MIT */
/* Another geometry for an image: see remake.h. */
#include "remake-int.h"

#include "change.h"
#include "compress.h"
#include "flush.h"
#include "rules.h"
#include "track.h"

#include <errno.h>

/* ---- What can be ---- */

RemakeTarget qcow2_remake_current(const Qcow2 *q)
{
    return (RemakeTarget){ .cluster_bits = q->hdr.cluster_bits,
                           .refcount_order = q->hdr.refcount_order,
                           .extended_l2 = q->geo.extended_l2,
                           .zero_flags = q->geo.version >= 3,
                           .compression_type = q->hdr.compression_type };
}

static int check_version(int version, const RemakeTarget *t, GError **errp)
{
    if (version >= 3) {
        return 0;
    }
    if (t->refcount_order != 4) {
        return error_set(errp, EINVAL,
                         "Refcount widths other than 16 bits require compatibility level 1.1 or "
                         "above (use compat=1.1 or greater)");
    }
    if (t->extended_l2) {
        return error_set(errp, EINVAL,
                         "Extended L2 entries are only supported with compatibility level 1.1 and "
                         "above (use version=v3 or greater)");
    }
    return t->compression_type
               ? error_set(errp, EINVAL,
                           "Non-zlib compression type is only supported with compatibility level "
                           "1.1 and above (use version=v3 or greater)")
               : 0;
}

static int check_sizes(const RemakeTarget *t, GError **errp)
{
    if (t->cluster_bits < QCOW2_MIN_CLUSTER_BITS || t->cluster_bits > QCOW2_MAX_CLUSTER_BITS) {
        return error_set(errp, EINVAL, "Cluster size must be a power of two between 512 and 2048k");
    }
    if (t->refcount_order > 6) {
        return error_set(errp, EINVAL,
                         "Refcount width must be a power of two and may not exceed 64 bits");
    }
    return t->extended_l2 && t->cluster_bits < QCOW2_EXTL2_MIN_CLUSTER_BITS
               ? error_set(errp, EINVAL,
                           "Extended L2 entries are only supported with cluster sizes of at least "
                           "%u bytes",
                           1u << QCOW2_EXTL2_MIN_CLUSTER_BITS)
               : 0;
}

static int check_l1(const Qcow2 *q, const RemakeTarget *t, GError **errp)
{
    Geometry g;

    qcow2_geometry_init(&g, 3, t->cluster_bits, t->refcount_order, t->extended_l2, false, false);
    return geo_l1_entries(&g, q->hdr.size) > QCOW2_MAX_L1_BYTES / 8
               ? error_set(errp, EFBIG,
                           "The image size is too large for file format 'qcow2' (try using a "
                           "larger cluster size)")
               : 0;
}

int qcow2_remake_check(const Qcow2 *q, int version, const RemakeTarget *t, GError **errp)
{
    int ret = check_sizes(t, errp);

    ret = ret < 0 ? ret : check_l1(q, t, errp);
    ret = ret < 0 ? ret : check_version(version, t, errp);
    if (ret < 0) {
        return ret;
    }
    return qcow2_compress_is_built(t->compression_type)
               ? 0
               : error_set(errp, ENOTSUP, "qcow2: compression type %u is not part of this build",
                           t->compression_type);
}

/* ---- Begin and end ---- */

bool qcow2_remake_is_same(const RemakeTarget *a, const RemakeTarget *b)
{
    return a->cluster_bits == b->cluster_bits && a->refcount_order == b->refcount_order &&
           a->extended_l2 == b->extended_l2 && a->zero_flags == b->zero_flags &&
           a->compression_type == b->compression_type;
}

static void init(Remake *r)
{
    const Geometry *g = &r->q->geo;
    const RemakeTarget *t = &r->target;
    const RemakeTarget now = qcow2_remake_current(r->q);
    RemakeTarget counts_only = now;

    r->rules.from = *g;
    qcow2_geometry_init(&r->rules.to, g->version, t->cluster_bits, t->refcount_order,
                        t->extended_l2, g->external_data, g->data_raw);
    r->rules.backing = r->q->bs->backing || r->q->hdr.backing_file;
    r->rules.no_zero_flags = !t->zero_flags;
    r->rules.repack =
        t->compression_type != now.compression_type || t->cluster_bits != now.cluster_bits;
    counts_only.refcount_order = t->refcount_order;
    r->tables_stay = qcow2_remake_is_same(&counts_only, t);
    r->l1s = g_array_new(FALSE, TRUE, sizeof(RemakeL1));
    r->tables = g_array_new(FALSE, TRUE, sizeof(RemakeTable));
}

static void clear(Remake *r)
{
    for (guint i = 0; i < r->l1s->len; i++) {
        g_free(remake_l1(r, i)->old);
        g_free(remake_l1(r, i)->tables);
    }
    g_array_unref(r->l1s);
    g_array_unref(r->tables);
    g_free(r->snapshot_table);
    mem_align_free(r->out.buf);
    mem_align_free(r->packed.buf);
    g_clear_pointer(&r->moved, g_hash_table_unref);
    qcow2_remake_space_clear(&r->space);
}

/* ---- Room ---- */

/* The file reaches to the end of its last cluster. */
static int coroutine_fn co_fill_file(Remake *r)
{
    uint64_t end = r->space.end << r->rules.to.cluster_bits;
    int64_t length = bdrv_co_getlength(r->q->file->bs);
    int ret = length < 0 ? (int)length : 0;

    if (ret == 0 && (uint64_t)length < end) {
        ret = bdrv_co_truncate(r->q->file, (int64_t)end, false, BLK_PREALLOC_OFF, 0, &r->err);
    }
    return qcow2_remake_out_error(r, ret, "Could not make the file longer");
}

/* Runs of free clusters are punched. Best effort. */
static void coroutine_fn co_punch(Remake *r, bool (*is_garbage)(const RemakeSpace *s, uint64_t c),
                                  uint64_t end)
{
    unsigned cb = r->rules.to.cluster_bits;

    for (uint64_t c = 1; c < end;) {
        uint64_t n = 0;

        while (c + n < end && is_garbage(&r->space, c + n)) {
            n++;
        }
        if (n) {
            (void)bdrv_co_pdiscard(r->q->file, (int64_t)(c << cb), (int64_t)(n << cb));
        }
        c += n + 1;
    }
}

/* Cut after @end, if it is longer. Best effort: what is there is free. */
static void coroutine_fn co_cut(Remake *r, uint64_t end)
{
    int64_t length = bdrv_co_getlength(r->q->file->bs);

    if (length > 0 && (uint64_t)length > end) {
        (void)bdrv_co_truncate(r->q->file, (int64_t)end, false, BLK_PREALLOC_OFF, 0, NULL);
        atomic_store(&r->q->fresh_unsafe, true);
    }
}

/* What only the old tables referred to, and they themselves. */
static void coroutine_fn co_give_old_back(Remake *r)
{
    qcow2_remake_counts_co_wipe_keys(r);
    if (!RULE_BROKEN(REMAKE_SWITCH_SYNCED)) {
        co_cut(r, r->space.end << r->rules.to.cluster_bits);
    }
    co_punch(r, qcow2_remake_space_is_left, r->space.end);
}

/* What was made. The image never knew of it. */
static void coroutine_fn co_give_new_back(Remake *r)
{
    if (!r->in_doubt && qcow2_health_may_write(&r->q->health) == 0) {
        co_punch(r, qcow2_remake_space_is_new,
                 MIN(r->space.clusters, r->old_length >> r->rules.to.cluster_bits));
        co_cut(r, r->old_length);
        atomic_store(&r->q->fresh_unsafe, true);
    }
}

/* ---- Run ---- */

static int coroutine_fn co_make(Remake *r)
{
    int ret = 0;

    if (!r->tables_stay) {
        ret = qcow2_remake_old_co_load(r);
        ret = ret < 0 ? ret : qcow2_remake_tables_co_write(r);
    }
    ret = ret < 0 ? ret : qcow2_remake_counts_co_write(r);
    ret = ret < 0 ? ret : co_fill_file(r);
    return ret < 0 ? ret : qcow2_remake_switch_co_run(r);
}

/* All that memory has is on the disk, and what a process that died has left to the kernel (a flush
 * ends with a sync): what is free is free there, too. */
static int coroutine_fn co_settle(Remake *r)
{
    Qcow2 *q = r->q;
    int ret = qcow2_change_co_begin(q, QCOW2_CHANGE_IMAGE);

    ret = ret < 0 ? ret : qcow2_track_co_forget(q); /* they may move */
    ret = ret < 0 ? ret : qcow2_flush_co_all(q);
    return qcow2_remake_out_error(r, ret, "Could not write the image's metadata");
}

int coroutine_fn qcow2_remake_co_run(Qcow2 *q, const RemakeTarget *t, RemakeProgress *progress,
                                     void *opaque, GError **errp)
{
    Remake r = { .q = q, .target = *t, .progress = progress, .opaque = opaque };
    const RemakeTarget now = qcow2_remake_current(q);
    int ret = qcow2_health_may_write(&q->health);

    if (ret < 0) {
        return error_set_errno(errp, ret, "The image cannot be changed");
    }
    ret = qcow2_remake_check(q, q->geo.version, t, errp);
    if (ret < 0 || qcow2_remake_is_same(&now, t)) {
        return ret;
    }
    init(&r);
    ret = co_settle(&r);
    ret = ret < 0 ? ret : qcow2_remake_switch_co_fit_header(&r);
    ret = ret < 0 ? ret : qcow2_remake_survey_co_old(&r);
    if (ret == 0) {
        ret = co_make(&r);
        if (r.switched) {
            co_give_old_back(&r);
        } else {
            co_give_new_back(&r);
        }
    }
    clear(&r);
    if (r.err) {
        g_propagate_error(errp, r.err);
    }
    return ret;
}
