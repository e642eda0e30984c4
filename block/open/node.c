/* SPDX-License-Identifier: MIT */
/*
 * Opening a node: which driver, its file, its options, its backing chain.
 *
 * A node is opened in steps: normalise (names into options), choose the driver (by name, protocol
 * or probing), take the common options, the driver's open, limits and length, backing chain, names.
 */
#include "block/backend.h"
#include "block/driver/registry.h"
#include "block/filename.h"
#include "block/graph/graph.h"
#include "block/open/open.h"
#include "block/request/request.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- 1. Normalise ---- */

/* json: and the rule that a protocol layer keeps its name in "filename". */
static bool normalise(OpenRequest *r, const BlockDriver *drv, GError **errp)
{
    const char *given = opts_peek(r->options, "filename");

    if (!(r->flags & BLK_O_PROTOCOL)) {
        return true;
    }
    if (r->filename && given) {
        error_set(errp, EINVAL, "Can't specify 'file' and 'filename' options at the same time");
        return false;
    }
    if (r->filename) {
        opts_set(r->options, "filename", r->filename);
    } else if (!drv && !given) {
        error_set(errp, EINVAL, "Must specify either driver or file");
        return false;
    }
    return true;
}

static const BlockDriver *driver_option(OpenRequest *r, bool *fail, GError **errp)
{
    g_autofree char *name = opts_take_str(r->options, "driver");
    const BlockDriver *drv;

    if (!name) {
        return NULL;
    }
    drv = bdrv_find_driver(name);
    if (!drv) {
        error_set(errp, EINVAL, "Unknown driver '%s'", name);
        *fail = true;
        return NULL;
    }
    r->flags =
        bdrv_is_protocol_driver(drv) ? r->flags | BLK_O_PROTOCOL : r->flags & ~BLK_O_PROTOCOL;
    return drv;
}

static const BlockDriver *protocol_driver(OpenRequest *r, GError **errp)
{
    const char *filename = opts_peek(r->options, "filename");
    /* Only a name that a person gave has a prefix; one in an option is the file's own. */
    const BlockDriver *drv =
        r->filename ? bdrv_find_protocol(filename) : bdrv_plain_file_driver(filename);

    if (!drv) {
        error_set(errp, EINVAL, "Unknown protocol '%.*s'", (int)bdrv_protocol_prefix(filename),
                  filename);
    }
    return drv;
}

/* ---- 2. The file below a format, opened first: probing needs it ---- */

static bool coroutine_fn open_pending_file(BlockDriverState *bs, OpenRequest *r, bool needed,
                                           GError **errp)
{
    g_autoptr(Options) sub = opts_take_subtree(r->options, "file");
    const char *ref = opts_peek(r->options, "file");
    OpenRequest fr = {
        .filename = r->filename,
        .flags = bdrv_child_flags(bs, r->flags, BDRV_ROLE_FILE),
        .depth = bs->core->depth + 1,
        .layer = bs->core->layer,
        .policy = bs->core->policy,
    };
    BlockDriverState *file;

    if (ref) {
        file = bdrv_name_lookup(ref);
        if (!file) {
            error_set(errp, EINVAL, "Cannot find device='%s' nor node-name='%s'", ref, ref);
            return false;
        }
        opts_del(r->options, "file");
    } else if (!r->filename && opts_count(sub) == 0) {
        if (needed) {
            error_set(errp, EINVAL, "Must specify either driver or file");
        }
        return !needed;
    } else {
        fr.options = g_steal_pointer(&sub);
        fr.fd_plus_1 = bs->core->open_fd + 1;
        bs->core->open_fd = -1;
        file = bdrv_co_open_node(&fr, errp);
    }
    if (!file) {
        return false;
    }
    bs->core->pending_file = bdrv_root_attach(file, NULL, NULL, 0, BLK_PERM_ALL, errp);
    if (!bs->core->pending_file) {
        (void)bdrv_co_unref(file); /* nothing was written */
    }
    return bs->core->pending_file != NULL;
}

static const BlockDriver *coroutine_fn probe(BlockDriverState *bs, const char *filename,
                                             GError **errp)
{
    BlockDriverState *file = bs->core->pending_file->bs;
    uint8_t buf[PROBE_BYTES] = { 0 };
    const BlockDriver *drv;
    const char *foreign;
    int64_t len = bdrv_co_getlength(file), n = MIN(len, PROBE_BYTES);
    IOVector v;
    int ret;

    if (len < 0) {
        error_set_errno(errp, len, "Could not determine image size");
        return NULL;
    }
    iov_init_buf(&v, buf, n);
    ret = n ? bdrv_co_read_gate(file, 0, &v, 0) : 0;
    if (ret < 0) {
        error_set_errno(errp, ret, "Could not read image for determining its format");
        return NULL;
    }
    drv = bdrv_probe(buf, n, filename, &foreign);
    if (!drv) {
        error_set(errp, ENOTSUP,
                  "Image is in %s format, which has no driver here; "
                  "if its bytes are meant, specify the format 'raw'",
                  foreign);
    }
    return drv;
}

/* ---- 3. The driver's open ---- */

int bdrv_take_open_fd(BlockDriverState *bs)
{
    int fd = bs->core->open_fd;

    bs->core->open_fd = -1;
    bs->core->handed_over = fd >= 0;
    return fd;
}

static bool check_left_over(BlockDriverState *bs, Options *o, GError **errp)
{
    const char *key = opts_first_key(o);

    if (!key) {
        return true;
    }
    if (bs->open_flags & BLK_O_PROTOCOL) {
        error_set(errp, EINVAL, "Block protocol '%s' doesn't support the option '%s'",
                  bs->drv->format_name, key);
    } else {
        error_set(errp, EINVAL, "Block format '%s' does not support the option '%s'",
                  bs->drv->format_name, key);
    }
    return false;
}

static void coroutine_fn remember_identity(BlockDriverState *bs)
{
    BlockDriverState *p = bs->core->pending_file ? bs->core->pending_file->bs : bs;
    struct stat st;

    p = bdrv_skip_filters(p);
    if (p->core->handed_over) { /* its name is an image's word */
        return;
    }
    if (p->exact_filename && *p->exact_filename && !bdrv_protocol_prefix(p->exact_filename) &&
        stat(p->exact_filename, &st) == 0) {
        bs->core->dev = st.st_dev;
        bs->core->ino = st.st_ino;
    }
}

/* A driver that cannot write is opened for writing only where falling back is allowed. */
static bool fit_to_driver(BlockDriverState *bs, GError **errp)
{
    if (!bs->drv->read_only || bs->read_only) {
        return true;
    }
    if (!(bs->open_flags & BLK_O_AUTO_RDONLY)) {
        error_set(errp, EACCES, "Driver '%s' can only be used for read-only devices",
                  bs->drv->format_name);
        return false;
    }
    bs->read_only = true;
    bs->open_flags &= ~BLK_O_RDWR;
    return true;
}

static bool coroutine_fn call_open(BlockDriverState *bs, OpenRequest *r, GError **errp)
{
    GError *err = NULL;
    int64_t len;
    int ret;

    bs->opaque = g_malloc0(MAX(bs->drv->instance_size, 1));
    atomic_store(&bs->unsynced, !bs->read_only); /* INV-SYNC-2 */
    ret = bs->drv->co_open(bs, r->options, bs->open_flags, &err);
    if (ret < 0) {
        if (err) {
            g_propagate_error(errp, err);
        } else {
            error_set_errno(errp, ret, "Could not open '%s'", r->filename ? r->filename : "");
        }
        return false;
    }
    if (bs->drv->is_filter && !bs->file) {
        error_set(errp, EINVAL, "Filter '%s' has opened no file", bs->drv->format_name);
        return false;
    }
    bdrv_refresh_limits(bs);
    len = bdrv_co_refresh_length(bs);
    if (len < 0) {
        error_set_errno(errp, len, "Could not refresh total sector count");
        return false;
    }
    if ((uint64_t)len > bdrv_caps(bs)->virtual_size && !(bs->open_flags & BLK_O_PROTOCOL)) {
        error_set(errp, EFBIG,
                  "The image is %" G_GINT64_FORMAT
                  " bytes long, more than limits.virtual-size=%" G_GUINT64_FORMAT " allows",
                  len, bdrv_caps(bs)->virtual_size);
        return false;
    }
    return true;
}

/* The driver with its name and file settled; false: failed. */
static bool coroutine_fn choose_driver(BlockDriverState *bs, OpenRequest *r, const BlockDriver *drv,
                                       GError **errp)
{
    if (!normalise(r, drv, errp)) {
        return false;
    }
    if (r->flags & BLK_O_PROTOCOL) {
        bs->drv = drv ? drv : protocol_driver(r, errp);
        if (bs->drv && r->filename && !bs->drv->parse_filename(r->filename, r->options, errp)) {
            bs->drv = NULL;
        }
        return bs->drv != NULL;
    }
    if (!open_pending_file(bs, r, !drv, errp)) {
        return false;
    }
    if (!drv) {
        drv = probe(bs, r->filename, errp);
        bs->probed = drv && !strcmp(drv->format_name, "raw");
    }
    bs->drv = drv;
    return drv != NULL;
}

/* ---- 4. The backing file ---- */

/* The image's own word for its backing file, as the policy lets it pass. */
static bool coroutine_fn follow_reference(BlockDriverState *bs, OpenRequest *r, const char *path,
                                          GError **errp)
{
    BlockReference ref;

    if (!block_policy_co_resolve(bs->core->policy, bdrv_name_for_paths(bs), bs->backing_file, path,
                                 false, &ref, errp)) {
        return false;
    }
    r->flags |= ref.no_links ? BLK_O_NO_LINKS : 0;
    if (ref.fd >= 0) { /* whatever the name looks like, it is that file */
        r->fd_plus_1 = ref.fd + 1;
        opts_set(r->options, "file.driver", "file");
        opts_set(r->options, "file.filename", bs->backing_file);
    } else {
        r->filename = path;
    }
    return true;
}

static BlockDriverState *coroutine_fn open_layer(BlockDriverState *bs, Options *backing, int flags,
                                                 GError **errp)
{
    g_autofree char *path = NULL;
    OpenRequest r = {
        .flags = bdrv_child_flags(bs, flags, BDRV_ROLE_BACKING),
        .opener = bs,
        .depth = bs->core->depth + 1,
        .layer = bs->core->layer + 1,
        .policy = bs->core->policy,
    };

    if (!opts_has(backing, "file.filename") && !opts_has(backing, "filename") &&
        !opts_has(backing, "file")) {
        GError *err = NULL;

        path = blk_backing_path(bs, &err);
        if (err) {
            g_propagate_error(errp, err);
            return NULL;
        }
    }
    if (bs->backing_format && *bs->backing_format && !opts_has(backing, "driver")) {
        opts_set(backing, "driver", bs->backing_format);
    }
    r.options = opts_copy(backing);
    if (path && !follow_reference(bs, &r, path, errp)) {
        opts_free(r.options);
        return NULL;
    }
    return bdrv_co_open_node(&r, errp);
}

static int fail_backing(GError **errp, GError *err)
{
    int code = err->code ? -err->code : -EINVAL;

    g_propagate_prefixed_error(errp, err, "Could not open backing file: ");
    return code;
}

static int coroutine_fn open_backing(BlockDriverState *bs, Options *backing, const char *reference,
                                     int flags, GError **errp)
{
    bool given = reference || (backing && opts_count(backing) > 0);
    BlockDriverState *layer;
    GError *err = NULL;

    if ((flags & BLK_O_NO_BACKING) || (reference && !*reference)) {
        return 0;
    }
    if (!given && (!bs->backing_file || !*bs->backing_file)) {
        return 0;
    }
    if (!bs->drv->supports_backing) {
        return error_set(errp, EINVAL, "Driver doesn't support backing files");
    }
    bs->core->backing_overridden = given;
    if (reference) {
        layer = bdrv_name_lookup(reference);
        if (!layer) {
            error_set(&err, ENODEV, "Cannot find device='%s' nor node-name='%s'", reference,
                      reference);
        }
    } else {
        layer = open_layer(bs, backing, flags, &err);
    }
    if (!layer) {
        return fail_backing(errp, err);
    }
    if (!bdrv_co_attach(bs, layer, "backing", BDRV_ROLE_BACKING, &err)) {
        return fail_backing(errp, err);
    }
    bdrv_refresh_limits(bs);
    return 0;
}

/* ---- All steps ---- */

/* A guest that writes the header of another format would have the image opened as that next time.
 */
static bool stays_raw(const BdrvChild *c, const uint8_t *head, size_t len)
{
    const char *foreign;

    return bdrv_probe(head, len, NULL, &foreign) == c->parent->drv;
}

static bool coroutine_fn open_steps(BlockDriverState *bs, OpenRequest *r, GError **errp)
{
    g_autoptr(Options) backing = NULL;
    g_autofree char *backing_ref = NULL;
    const BlockDriver *drv;
    bool fail = false;

    if (r->depth > BLK_MAX_CHAIN_DEPTH) {
        error_set(errp, ELOOP, "Backing chain is deeper than %d layers", BLK_MAX_CHAIN_DEPTH);
        return false;
    }
    if (r->filename && g_str_has_prefix(r->filename, "json:")) {
        if (!bdrv_parse_json_filename(r->filename, r->options, errp)) {
            return false;
        }
        r->filename = NULL;
    }
    if (r->depth == 0 &&
        !block_policy_take(r->options, r->open_reference, r->opaque, &bs->core->policy, errp)) {
        return false; /* INV-POLICY-2 */
    }
    if (r->layer >= block_policy_max_depth(bs->core->policy)) {
        error_set(errp, ELOOP, "Backing chain is deeper than %d images",
                  block_policy_max_depth(bs->core->policy));
        return false;
    }
    drv = driver_option(r, &fail, errp);
    if (fail || !bdrv_take_common_options(bs, r->options, &r->flags, errp)) {
        return false;
    }
    bs->read_only = !(r->flags & BLK_O_RDWR);
    bs->options = opts_copy(r->options);
    if (!(r->flags & BLK_O_NO_BACKING)) { /* else left over, and refused */
        backing = opts_take_subtree(r->options, "backing");
    }
    if (opts_has(r->options, "backing")) {
        backing_ref = opts_take_str(r->options, "backing");
        bs->core->backing_overridden = !(r->flags & BLK_O_NO_BACKING);
    }
    if (!choose_driver(bs, r, drv, errp)) {
        return false;
    }
    bs->open_flags = r->flags;
    if (r->flags & BLK_O_PROTOCOL) { /* now with what the name said */
        opts_free(bs->options);
        bs->options = opts_copy(r->options);
    }
    opts_set(bs->options, "driver", bs->drv->format_name);
    remember_identity(bs);
    drv = bs->drv;
    if (!fit_to_driver(bs, errp) || !bdrv_check_chain(bs, errp) || !call_open(bs, r, errp) ||
        !check_left_over(bs, r->options, errp)) {
        return false;
    }
    if (bs->probed) {
        bs->file->guard = stays_raw;
    }
    return open_backing(bs, backing, backing_ref, r->flags, errp) == 0;
}

BlockDriverState *coroutine_fn bdrv_co_open_node(OpenRequest *req, GError **errp)
{
    BlockDriverState *bs = bdrv_new();
    OpenRequest r = *req;
    g_autoptr(Options) options = r.options ? r.options : opts_new();
    bool ok;

    r.options = options;
    bs->core->opener = r.opener;
    bs->core->depth = r.depth;
    bs->core->layer = r.layer;
    bs->core->policy = block_policy_ref(r.policy);
    bs->core->open_fd = r.fd_plus_1 - 1;
    ok = open_steps(bs, &r, errp);
    bs->core->opener = NULL;
    if (bs->core->open_fd >= 0) { /* nobody had a use for it */
        close(bdrv_take_open_fd(bs));
    }
    (void)bdrv_co_detach(g_steal_pointer(&bs->core->pending_file)); /* nothing was written */
    if (!ok) {
        bs->read_only = true;    /* nothing to flush */
        (void)bdrv_co_unref(bs); /* why it cannot be opened is told already */
        return NULL;
    }
    bdrv_refresh_filename(bs, r.filename);
    atomic_store(&bs->core->opened, true);
    return bs;
}
