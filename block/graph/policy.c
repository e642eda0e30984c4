/* SPDX-License-Identifier: MIT */
/*
 * Which references of an image are followed, and how much it may take.
 *
 * INV-POLICY-1  A name that an image holds passes block_policy_co_resolve() before any system call
 *               sees it.
 * INV-POLICY-2  A policy is made at a root only; nodes below inherit it, so no image changes it.
 */
#include "block/graph/policy-int.h"

#include <string.h>

enum { REFS_ANY, REFS_NONE, REFS_SAME_FOLDER, REFS_LIST };
static const char *const refs_names[] = { "any", "none", "same-folder", "list", NULL };

struct BlockPolicy {
    atomic_int refcnt;
    int references;
    GPtrArray *allowed; /* of char * */
    BlockOpenReference *open_reference;
    void *opaque;
    BlockCaps caps;
    int max_depth;
};

static const BlockCaps no_caps = { UINT64_MAX, UINT64_MAX, UINT64_MAX };

BlockPolicy *block_policy_ref(BlockPolicy *p)
{
    if (p) {
        atomic_fetch_add(&p->refcnt, 1);
    }
    return p;
}

void block_policy_unref(BlockPolicy *p)
{
    if (p && atomic_fetch_sub(&p->refcnt, 1) == 1) {
        g_ptr_array_unref(p->allowed);
        g_free(p);
    }
}

static BlockPolicy *policy_new(BlockOpenReference *open_reference, void *opaque)
{
    BlockPolicy *p = g_new0(BlockPolicy, 1);

    atomic_init(&p->refcnt, 1);
    p->allowed = g_ptr_array_new_with_free_func(g_free);
    p->open_reference = open_reference;
    p->opaque = opaque;
    p->caps = no_caps;
    p->max_depth = BLK_MAX_CHAIN_DEPTH;
    return p;
}

static void add_allowed(const char *key, const char *value, void *opaque)
{
    BlockPolicy *p = opaque;

    g_ptr_array_add(p->allowed, g_strdup(value));
}

static bool take_references(BlockPolicy *p, Options *o, GError **errp)
{
    g_autoptr(Options) list = NULL;

    if (!opts_take_enum(o, "references", refs_names, REFS_ANY, &p->references, errp)) {
        return false;
    }
    list = opts_take_subtree(o, "references");
    if (opts_count(list) && p->references != REFS_LIST) {
        error_set(errp, EINVAL, "references.%s needs references=list", opts_first_key(list));
        return false;
    }
    opts_foreach(list, add_allowed, p);
    return true;
}

bool block_policy_take(Options *o, BlockOpenReference *open_reference, void *opaque,
                       BlockPolicy **ret, GError **errp)
{
    g_autoptr(BlockPolicy) p = NULL;
    uint64_t depth;

    *ret = NULL;
    if (!open_reference && !opts_has(o, "references") && !opts_has_subtree(o, "references") &&
        !opts_has_subtree(o, "limits")) {
        return true;
    }
    p = policy_new(open_reference, opaque);
    if (!take_references(p, o, errp) ||
        !opts_take_size(o, "limits.virtual-size", UINT64_MAX, &p->caps.virtual_size, errp) ||
        !opts_take_size(o, "limits.metadata", UINT64_MAX, &p->caps.metadata, errp) ||
        !opts_take_size(o, "limits.table-size", UINT64_MAX, &p->caps.table_size, errp) ||
        !opts_take_uint(o, "limits.chain-depth", BLK_MAX_CHAIN_DEPTH, &depth, errp)) {
        return false;
    }
    if (depth < 1 || depth > BLK_MAX_CHAIN_DEPTH) {
        error_set(errp, EINVAL, "limits.chain-depth must be between 1 and %d", BLK_MAX_CHAIN_DEPTH);
        return false;
    }
    p->max_depth = (int)depth;
    *ret = g_steal_pointer(&p);
    return true;
}

const BlockCaps *block_policy_caps(const BlockPolicy *p)
{
    return p ? &p->caps : &no_caps;
}

int block_policy_max_depth(const BlockPolicy *p)
{
    return p ? p->max_depth : BLK_MAX_CHAIN_DEPTH;
}

const BlockCaps *bdrv_caps(BlockDriverState *bs)
{
    return block_policy_caps(bs->core->policy);
}

static bool in_list(const BlockPolicy *p, const char *name)
{
    for (guint i = 0; i < p->allowed->len; i++) {
        if (!strcmp(g_ptr_array_index(p->allowed, i), name)) {
            return true;
        }
    }
    return false;
}

/* A plain name: no protocol, no folder, not "." or "..". */
static bool is_same_folder(const char *reference)
{
    return *reference && !strpbrk(reference, "/:") && strcmp(reference, ".") &&
           strcmp(reference, "..");
}

static bool refuse(const char *image, const char *reference, int mode, GError **errp)
{
    error_set(
        errp, EACCES,
        "'%s' refers to '%s', which references=%s does not allow; name the file in the options of "
        "the open, or allow it there",
        image ? image : "the image", reference, refs_names[mode]);
    return false;
}

typedef struct OpenCall {
    const BlockPolicy *policy;
    const char *image, *reference;
    bool writable;
    int fd;
} OpenCall;

static void call_user(void *opaque)
{
    OpenCall *c = opaque;

    c->fd = c->policy->open_reference(c->image, c->reference, c->writable, c->policy->opaque);
}

bool coroutine_fn block_policy_co_resolve(const BlockPolicy *p, const char *image,
                                          const char *reference, const char *path, bool writable,
                                          BlockReference *ret, GError **errp)
{
    *ret = (BlockReference){ .fd = -1 };
    if (!p) {
        return true;
    }
    if (p->open_reference) {
        OpenCall c = { p, image ? image : "", reference, writable, -1 };

        co_call_out(call_user, &c); /* it may do anything, on a stack that it knows */
        ret->fd = c.fd;
        if (ret->fd < 0) {
            error_set_errno(errp, ret->fd, "'%s' refers to '%s', which was not handed over",
                            image ? image : "the image", reference);
        }
        return ret->fd >= 0;
    }
    switch (p->references) {
    case REFS_ANY:
        return true;
    case REFS_LIST: /* the user's own words: a link there is his */
        return in_list(p, reference) || in_list(p, path) ||
               refuse(image, reference, p->references, errp);
    case REFS_SAME_FOLDER:
        ret->no_links = true;
        return is_same_folder(reference) || refuse(image, reference, p->references, errp);
    default:
        return refuse(image, reference, p->references, errp);
    }
}
