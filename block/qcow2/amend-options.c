/* SPDX-License-Identifier: MIT */
/* What an amendment takes, and what it refuses, with the reference's texts. */
#include "amend.h"

#include "callbacks.h"
#include "compress.h"
#include "create.h"
#include "snapshot.h"

#include <string.h>

const BlockCreateOption qcow2_amend_options[] = {
    { "size", BLK_OPT_SIZE, "Virtual disk size", NULL },
    { "compat", BLK_OPT_STRING, "Compatibility level (v2 [0.10] or v3 [1.1])", NULL },
    { "backing_file", BLK_OPT_STRING, "File name of a base image", NULL },
    { "backing_fmt", BLK_OPT_STRING, "Image format of the base image", NULL },
    { "data_file", BLK_OPT_STRING, "File name of an external data file", NULL },
    { "data_file_raw", BLK_OPT_BOOL, "The external data file must stay valid as a raw image",
      NULL },
    { "lazy_refcounts", BLK_OPT_BOOL, "Postpone refcount updates", NULL },
    { "refcount_bits", BLK_OPT_NUMBER, "Width of a reference count entry in bits", NULL },
    { "cluster_size", BLK_OPT_SIZE, "qcow2 cluster size", NULL },
    { "extended_l2", BLK_OPT_BOOL, "Extended L2 tables", NULL },
    { "compression_type", BLK_OPT_STRING, "Compression method used for image cluster compression",
      NULL },
    { "compression_level", BLK_OPT_NUMBER, "Level of compressed writes that name none", NULL },
    { "encrypt.state", BLK_OPT_STRING, "Select new state of affected keyslots (active/inactive)",
      NULL },
    { "encrypt.keyslot", BLK_OPT_NUMBER, "Select a single keyslot to modify explicitly", NULL },
    { "encrypt.new-secret", BLK_OPT_STRING,
      "New secret to set in the matching keyslots. Empty string to erase", NULL },
    { "encrypt.old-secret", BLK_OPT_STRING, "Select all keyslots that match this password", NULL },
    { "encrypt.iter-time", BLK_OPT_NUMBER, "Time to spend in PBKDF in milliseconds", NULL },
    { NULL }
};

void qcow2_amend_plan_clear(AmendPlan *plan)
{
    g_clear_pointer(&plan->data_file, g_free);
}

/* ---- One option each ---- */

static int take_compat(const Qcow2 *q, Options *o, AmendPlan *p, GError **errp)
{
    g_autofree char *v = opts_take_str(o, "compat");

    p->version = (uint32_t)q->geo.version;
    if (v && (!strcmp(v, "1.1") || !strcmp(v, "v3"))) {
        p->version = 3;
    } else if (v && (!strcmp(v, "0.10") || !strcmp(v, "v2"))) {
        p->version = 2;
    } else if (v) {
        return error_set(errp, EINVAL, "Unknown compatibility level %s", v);
    }
    return 0;
}

static int take_data_file(const Qcow2 *q, Options *o, AmendPlan *p, GError **errp)
{
    p->name_data_file = opts_has(o, "data_file");
    p->data_file = opts_take_str(o, "data_file");
    if (p->name_data_file && !q->geo.external_data) {
        return error_set(errp, EINVAL,
                         "data-file can only be set for images that use an external data file");
    }
    if (!opts_take_bool(o, "data_file_raw", q->geo.data_raw, &p->data_raw, errp)) {
        return -EINVAL;
    }
    return p->data_raw && !q->geo.data_raw
               ? error_set(errp, EINVAL, "data-file-raw cannot be set on existing images")
               : 0;
}

static int take_lazy(const Qcow2 *q, Options *o, AmendPlan *p, GError **errp)
{
    bool now = q->hdr.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS;

    if (!opts_take_bool(o, "lazy_refcounts", now, &p->lazy_refcounts, errp)) {
        return -EINVAL;
    }
    p->lazy_lost = p->version < 3 && p->lazy_refcounts && !now;
    p->lazy_refcounts &= p->version >= 3;
    return 0;
}

static int check_lazy(const AmendPlan *p, GError **errp)
{
    return p->lazy_lost ? error_set(errp, EINVAL,
                                    "Lazy refcounts only supported with compatibility level 1.1 "
                                    "and above (use compat=1.1 or greater)")
                        : 0;
}

static bool is_wrong_width(const AmendPlan *p)
{
    return p->version < 3 && p->target.refcount_order != 4;
}

/* Another width than the image has. */
static int check_refcount_bits(const Qcow2 *q, const AmendPlan *p, GError **errp)
{
    return is_wrong_width(p) && p->target.refcount_order != q->geo.refcount_order
               ? error_set(errp, EINVAL,
                           "Refcount widths other than 16 bits require compatibility level 1.1 or "
                           "above (use compat=1.1 or greater)")
               : 0;
}

static int take_compression(Options *o, AmendPlan *p, GError **errp)
{
    static const char *const names[] = { "zlib", "zstd", NULL };
    g_autofree char *v = opts_take_str(o, "compression_type");
    int type;

    if (!v) {
        return 0;
    }
    opts_set(o, "compression-type", v); /* as its message has it */
    if (!opts_take_enum(o, "compression-type", names, 0, &type, errp)) {
        return -EINVAL;
    }
    p->target.compression_type = (uint8_t)type;
    return 0;
}

static int take_geometry(const Qcow2 *q, Options *o, AmendPlan *p, GError **errp)
{
    uint64_t size;

    if (!opts_take_size(o, "cluster_size", q->geo.cluster_size, &size, errp) ||
        !opts_take_bool(o, "extended_l2", q->geo.extended_l2, &p->target.extended_l2, errp)) {
        return -EINVAL;
    }
    if (size < 512 || size > 2 * MiB || (size & (size - 1))) {
        return error_set(errp, EINVAL, "Cluster size must be a power of two between 512 and 2048k");
    }
    p->target.cluster_bits = (unsigned)__builtin_ctzll(size);
    return take_compression(o, p, errp);
}

/* After all that can change the type: a level that is not given is one of the type as it was. */
static int take_level(const Qcow2 *q, Options *o, AmendPlan *p, GError **errp)
{
    unsigned type = p->target.compression_type;
    uint64_t level;

    if (!opts_has(o, "compression_level")) {
        p->compression_level = type == q->hdr.compression_type ? q->hdr.compression_level : 0;
        return 0;
    }
    if (!opts_take_uint(o, "compression_level", 0, &level, errp)) {
        return -EINVAL;
    }
    p->compression_level = (uint32_t)level;
    return qcow2_compress_check_level(type, level, errp);
}

/* What is given, if anything is, is what the image says. */
static int take_backing(const Qcow2 *q, Options *o, GError **errp)
{
    bool given = opts_has(o, "backing_file") || opts_has(o, "backing_fmt");
    g_autofree char *file = opts_take_str(o, "backing_file");
    g_autofree char *format = opts_take_str(o, "backing_fmt");

    if (!given || (q->hdr.backing_file && !g_strcmp0(file, q->hdr.backing_file) &&
                   !g_strcmp0(format, q->hdr.backing_format))) {
        return 0;
    }
    return error_set(errp, EINVAL,
                     "Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.");
}

static int take_size(const Qcow2 *q, Options *o, AmendPlan *p, GError **errp)
{
    if (!opts_take_size(o, "size", 0, &p->size, errp)) {
        return -EINVAL;
    }
    /* 0 is no size, as if none were given: nobody empties an image by a slip */
    p->resize = p->size && p->size != (uint64_t)atomic_load(&q->bs->total_bytes);
    return 0;
}

static int check_size(const AmendPlan *p, GError **errp)
{
    return p->resize && p->size % 512
               ? error_set(errp, EINVAL, "The new size must be a multiple of 512")
               : 0;
}

/* ---- All of them together ---- */

static int check_downgrade(const Qcow2 *q, AmendPlan *p, GError **errp)
{
    if (is_wrong_width(p)) {
        return error_set(errp, EINVAL, "compat=0.10 requires refcount_bits=16");
    }
    if (q->geo.external_data) {
        return error_set(errp, ENOTSUP, "Cannot downgrade an image with a data file");
    }
    if (p->target.extended_l2) {
        return error_set(errp, ENOTSUP,
                         "Cannot downgrade an image with incompatible features 0x%x set",
                         (unsigned)QCOW2_INCOMPAT_EXTL2);
    }
    for (uint32_t i = 0; i < q->hdr.nb_snapshots; i++) {
        if (q->snapshots[i].disk_size != q->hdr.size || p->resize) {
            return error_set(errp, ENOTSUP, "Internal snapshots prevent downgrade of image");
        }
    }
    if (q->hdr.has_bitmaps) {
        return error_set(errp, ENOTSUP, "Persistent bitmaps prevent downgrade of image");
    }
    p->target.compression_type = QCOW2_COMPRESSION_ZLIB;
    return 0;
}

int qcow2_amend_plan(const Qcow2 *q, Options *o, AmendPlan *p, GError **errp)
{
    int ret;

    *p = (AmendPlan){ .target = qcow2_remake_current(q) };
    ret = take_compat(q, o, p, errp);
    p->target.zero_flags = p->version >= 3;
    ret = ret < 0 ? ret : take_data_file(q, o, p, errp);
    ret = ret < 0 ? ret : take_lazy(q, o, p, errp);
    ret = ret < 0 ? ret
                  : qcow2_create_options_refcount_order(o, q->geo.refcount_bits,
                                                        &p->target.refcount_order, errp);
    ret = ret < 0 ? ret : take_geometry(q, o, p, errp);
    ret = ret < 0 ? ret : take_size(q, o, p, errp);
    /* All values are well formed: what they cannot be, in the reference's order. */
    ret = ret < 0 ? ret : check_refcount_bits(q, p, errp);
    ret = ret < 0 ? ret : take_backing(q, o, errp);
    ret = ret < 0 ? ret : check_lazy(p, errp);
    ret = ret < 0 ? ret : check_size(p, errp);
    if (ret == 0 && (int)p->version < q->geo.version) {
        ret = check_downgrade(q, p, errp);
    }
    ret = ret < 0 ? ret : take_level(q, o, p, errp);
    return ret < 0 ? ret : qcow2_remake_check(q, (int)p->version, &p->target, errp);
}
