/* SPDX-License-Identifier: MIT */
/* The children that a driver opens (its file, its data file), and the root that a user opens. */
#include "block/backend.h"
#include "block/graph/graph.h"
#include "block/open/open.h"

/* The file that was opened for probing. */
static BdrvChild *coroutine_fn claim_pending(BlockDriverState *parent, const char *name,
                                             BdrvRole role, GError **errp)
{
    BdrvChild *pending = g_steal_pointer(&parent->core->pending_file);
    BlockDriverState *bs = bdrv_ref(pending->bs);

    (void)bdrv_co_detach(pending); /* @bs is held: nothing is closed */
    return bdrv_co_attach(parent, bs, name, role, errp);
}

static BlockDriverState *by_reference(Options *options, const char *name, GError **errp)
{
    g_autofree char *ref = opts_take_str(options, name);
    BlockDriverState *bs = bdrv_name_lookup(ref);

    if (!bs) {
        error_set(errp, EINVAL, "Cannot find device='%s' nor node-name='%s'", ref, ref);
    }
    return bs;
}

BdrvChild *coroutine_fn bdrv_co_open_child(const char *filename, Options *options, const char *name,
                                           BlockDriverState *parent, int flags, BdrvRole role,
                                           bool allow_none, GError **errp)
{
    g_autoptr(Options) sub = options ? opts_take_subtree(options, name) : opts_new();
    OpenRequest r = {
        .filename = filename,
        .depth = parent->core->depth + 1,
        .layer = parent->core->layer,
        .policy = parent->core->policy,
    };
    BlockDriverState *bs;

    if (role == BDRV_ROLE_FILE && parent->core->pending_file && g_str_equal(name, "file")) {
        return claim_pending(parent, name, role, errp);
    }
    if (options && opts_has(options, name)) {
        bs = by_reference(options, name, errp);
    } else if (!filename && opts_count(sub) == 0) {
        if (!allow_none) {
            error_set(errp, EINVAL, "A block device must be specified for \"%s\"", name);
        }
        return NULL;
    } else {
        r.options = g_steal_pointer(&sub);
        r.flags = bdrv_child_flags(parent, flags, role);
        bs = bdrv_co_open_node(&r, errp);
    }
    return bs ? bdrv_co_attach(parent, bs, name, role, errp) : NULL;
}

BdrvChild *coroutine_fn bdrv_co_open_data_file(const char *reference, const char *name,
                                               BlockDriverState *parent, int flags, GError **errp)
{
    const char *image = bdrv_name_for_paths(parent);
    g_autofree char *path = NULL;
    OpenRequest r = {
        .flags = bdrv_child_flags(parent, flags, BDRV_ROLE_DATA),
        .depth = parent->core->depth + 1,
        .layer = parent->core->layer,
        .policy = parent->core->policy,
    };
    BlockReference ref;
    BlockDriverState *bs;

    if (!block_policy_co_resolve(parent->core->policy, image, reference, reference,
                                 r.flags & BLK_O_RDWR, &ref, errp)) {
        return NULL;
    }
    /* Relative to the working folder, as the reference has it, unless the policy is about
     * folders. */
    path = ref.no_links && image ? blk_path_combine(image, reference) : g_strdup(reference);
    r.flags |= ref.no_links ? BLK_O_NO_LINKS : 0;
    r.fd_plus_1 = ref.fd + 1;
    r.options = opts_new();
    opts_set(r.options, "filename", path); /* as an option: a plain name, whatever it looks like */
    bs = bdrv_co_open_node(&r, errp);
    return bs ? bdrv_co_attach(parent, bs, name, BDRV_ROLE_DATA, errp) : NULL;
}

BdrvChild *coroutine_fn bdrv_co_open_root(const char *filename, Options *options, int flags,
                                          GError **errp)
{
    OpenRequest r = { .filename = filename, .options = options, .flags = flags };

    return bdrv_co_open_root_request(&r, NULL, NULL, errp);
}

BdrvChild *coroutine_fn bdrv_co_open_root_request(OpenRequest *r, const BdrvParentOps *ops,
                                                  void *owner, GError **errp)
{
    int flags = r->flags;
    BlockDriverState *bs =
        flags & BLK_O_TEMPORARY ? bdrv_co_open_temporary(r, errp) : bdrv_co_open_node(r, errp);
    unsigned perm = BLK_PERM_CONSISTENT_READ, shared = BLK_PERM_ALL;
    BdrvChild *c;

    if (!bs) {
        return NULL;
    }
    perm |= flags & BLK_O_RDWR ? BLK_PERM_WRITE : 0;
    perm |= flags & BLK_O_RESIZE ? BLK_PERM_RESIZE : 0;
    if (flags & BLK_O_NO_SHARE) {
        shared = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;
    }
    c = bdrv_root_attach(bs, ops, owner, perm, shared, errp);
    if (!c) {
        (void)bdrv_co_unref(bs); /* nothing was written */
    }
    return c;
}
