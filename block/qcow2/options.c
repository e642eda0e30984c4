/* SPDX-License-Identifier: MIT */
/* Open options, with the reference's names and texts. */
#include "options.h"

#include <errno.h>
#include <string.h>

#define DEFAULT_SLICE UINT64_C(4096)
#define DEFAULT_CLEAN_INTERVAL_S 600

static const char *const overlap_names[] = { "none", "constant", "cached", "all", NULL };
static const char *const overlap_parts[] = {
    "main-header",    "active-l1",   "active-l2",   "refcount-table",   "refcount-block",
    "snapshot-table", "inactive-l1", "inactive-l2", "bitmap-directory",
};

static int take_cache(const Geometry *g, Options *o, Qcow2Options *r, GError **errp)
{
    bool whole = opts_has(o, "cache-size"), l2 = opts_has(o, "l2-cache-size");
    bool ref = opts_has(o, "refcount-cache-size");
    uint64_t total;

    if (!opts_take_size(o, "cache-size", 0, &total, errp) ||
        !opts_take_size(o, "l2-cache-size", 0, &r->l2_cache_bytes, errp) ||
        !opts_take_size(o, "refcount-cache-size", 0, &r->ref_cache_bytes, errp) ||
        !opts_take_size(o, "l2-cache-entry-size", MIN(g->cluster_size, DEFAULT_SLICE),
                        &r->l2_slice_bytes, errp) ||
        !opts_take_uint(o, "cache-clean-interval", DEFAULT_CLEAN_INTERVAL_S, &r->clean_interval_s,
                        errp)) {
        return -EINVAL;
    }
    if (r->l2_slice_bytes < 512 || r->l2_slice_bytes > g->cluster_size ||
        (r->l2_slice_bytes & (r->l2_slice_bytes - 1))) {
        return error_set(errp, EINVAL,
                         "L2 cache entry size must be a power of two between 512 and the cluster "
                         "size (%" G_GUINT64_FORMAT ")",
                         g->cluster_size);
    }
    if (r->clean_interval_s > UINT32_MAX) {
        return error_set(errp, EINVAL, "Cache clean interval too big");
    }
    if (!whole) {
        return 0;
    }
    if (l2 && ref) {
        return error_set(errp, EINVAL,
                         "cache-size, l2-cache-size and refcount-cache-size may not be "
                         "set at the same time");
    }
    if (l2 && r->l2_cache_bytes > total) {
        return error_set(errp, EINVAL, "l2-cache-size may not exceed cache-size");
    }
    if (ref && r->ref_cache_bytes > total) {
        return error_set(errp, EINVAL, "refcount-cache-size may not exceed cache-size");
    }
    if (l2) {
        r->ref_cache_bytes = MAX(total - r->l2_cache_bytes, 1);
    } else if (ref) {
        r->l2_cache_bytes = MAX(total - r->ref_cache_bytes, 1);
    } else {
        r->ref_cache_bytes = MIN(MAX(total / 5, 1), 4 * g->cluster_size);
        r->l2_cache_bytes = MAX(total - MIN(r->ref_cache_bytes, total), 1);
    }
    return 0;
}

/* What each template looks for. */
static const unsigned overlap_kinds[] = {
    0,
    METADATA_HEADER | METADATA_L1 | METADATA_REFTABLE | METADATA_SNAPSHOTS | METADATA_BITMAP_DIR,
    METADATA_ALL & ~METADATA_INACTIVE_L2,
    METADATA_ALL,
};

/* Single parts on top of the template. */
static int take_overlap_parts(Options *o, unsigned template, unsigned *kinds, GError **errp)
{
    *kinds = template;
    for (unsigned i = 0; i < G_N_ELEMENTS(overlap_parts); i++) {
        g_autofree char *key = g_strdup_printf("overlap-check.%s", overlap_parts[i]);
        bool on;

        if (!opts_take_bool(o, key, template >> i & 1, &on, errp)) {
            return -EINVAL;
        }
        *kinds = on ? *kinds | 1u << i : *kinds & ~(1u << i);
    }
    *kinds = *kinds & ~METADATA_OTHER ? *kinds : 0;
    return 0;
}

static int take_overlap(Options *o, Qcow2Options *r, GError **errp)
{
    g_autofree char *said = g_strdup(opts_peek(o, "overlap-check.template"));
    int mode, template;

    if (said && opts_has(o, "overlap-check") && strcmp(said, opts_peek(o, "overlap-check"))) {
        return error_set(errp, EINVAL,
                         "Conflicting values for qcow2 options 'overlap-check' ('%s') and "
                         "'overlap-check.template' ('%s')",
                         opts_peek(o, "overlap-check"), said);
    }
    if (opts_has(o, "overlap-check")) {
        g_free(said);
        said = g_strdup(opts_peek(o, "overlap-check"));
    }
    if (!opts_take_enum(o, "overlap-check.template", overlap_names, 2, &template, NULL) ||
        !opts_take_enum(o, "overlap-check", overlap_names, template, &mode, NULL)) {
        return error_set(errp, EINVAL,
                         "Unsupported value '%s' for qcow2 option 'overlap-check'. Allowed "
                         "are any of the following: none, constant, cached, all",
                         said);
    }
    return take_overlap_parts(o, overlap_kinds[mode], &r->overlap_kinds, errp);
}

int qcow2_options_take(const Geometry *g, Options *o, int flags, Qcow2Options *r, GError **errp)
{
    bool unmap = flags & BLK_O_UNMAP;
    int ret;

    memset(r, 0, sizeof(*r));
    r->lazy_given = opts_has(o, "lazy-refcounts");
    r->level_given = opts_has(o, "compression-level");
    ret = take_cache(g, o, r, errp);
    ret = ret < 0 ? ret : take_overlap(o, r, errp);
    if (ret < 0) {
        return ret;
    }
    if (!opts_take_bool(o, "lazy-refcounts", false, &r->lazy_refcounts, errp) ||
        !opts_take_bool(o, "pass-discard-request", unmap, &r->discard_request, errp) ||
        !opts_take_bool(o, "pass-discard-snapshot", true, &r->discard_snapshot, errp) ||
        !opts_take_bool(o, "pass-discard-other", false, &r->discard_other, errp) ||
        !opts_take_bool(o, "discard-no-unref", false, &r->discard_no_unref, errp)) {
        return -EINVAL;
    }
    if (!opts_take_uint(o, "compression-level", 0, &r->compression_level, errp)) {
        return -EINVAL;
    }
    if (r->lazy_refcounts && g->version < 3) {
        return error_set(errp, EINVAL,
                         "Lazy refcounts require a qcow2 image with at least qemu 1.1 "
                         "compatibility level");
    }
    if (r->discard_no_unref && g->version < 3) {
        return error_set(errp, EINVAL, "discard-no-unref is only supported since qcow2 version 3");
    }
    return 0;
}
