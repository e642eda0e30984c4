/* SPDX-License-Identifier: MIT */
/*
 * Names: of nodes (unique in the process, as the reference's), and the file names that people see.
 *
 * INV-NAME-1  The table holds the nodes that were given a name, under the graph's lock.
 */
#include "block/block-int.h"

#include <string.h>

#define NODE_NAME_MAX 31

static GHashTable *names; /* char * of the node -> BlockDriverState *; INV-NAME-1 */
static atomic_uint next_name;

static bool is_well_formed(const char *name)
{
    if (!g_ascii_isalpha(name[0])) {
        return false;
    }
    for (const char *p = name; *p; p++) {
        if (!g_ascii_isalnum(*p) && !strchr("-._", *p)) {
            return false;
        }
    }
    return true;
}

bool bdrv_name_register(BlockDriverState *bs, const char *name, GError **errp)
{
    bool taken;

    if (!name) {
        bs->node_name = g_strdup_printf("#block%03u", atomic_fetch_add(&next_name, 1) % 1000);
        return true;
    }
    if (!is_well_formed(name)) {
        error_set(errp, EINVAL, "Invalid node-name: '%s'", name);
        return false;
    }
    if (strlen(name) > NODE_NAME_MAX) {
        error_set(errp, EINVAL, "Node name too long");
        return false;
    }
    bdrv_graph_lock();
    if (!names) {
        names = g_hash_table_new(g_str_hash, g_str_equal);
    }
    taken = g_hash_table_contains(names, name);
    if (!taken) {
        bs->node_name = g_strdup(name);
        bs->core->named = true;
        g_hash_table_insert(names, bs->node_name, bs);
    }
    bdrv_graph_unlock();
    if (taken) {
        error_set(errp, EINVAL, "Duplicate nodes with node-name='%s'", name);
    }
    return !taken;
}

void bdrv_name_unregister(BlockDriverState *bs)
{
    if (!bs->core->named) {
        return;
    }
    bdrv_graph_lock();
    g_hash_table_remove(names, bs->node_name);
    if (g_hash_table_size(names) == 0) {
        g_hash_table_unref(names);
        names = NULL;
    }
    bdrv_graph_unlock();
    bs->core->named = false;
}

void bdrv_names_forget(void)
{
    names = NULL; /* left to the parent, as the nodes are */
}

BlockDriverState *bdrv_name_lookup(const char *name)
{
    BlockDriverState *bs;
    int refs;

    bdrv_graph_lock();
    bs = names ? g_hash_table_lookup(names, name) : NULL;
    refs = bs && atomic_load(&bs->core->opened) ? atomic_load(&bs->refcnt) : 0;
    while (refs > 0 && !atomic_compare_exchange_weak(&bs->refcnt, &refs, refs + 1)) {
    }
    bdrv_graph_unlock();
    return refs > 0 ? bs : NULL; /* 0: being opened or closed */
}

/* ---- What a person sees ---- */

static bool is_named(const char *const *list, const char *key)
{
    for (; *list; list++) {
        size_t n = strlen(*list);

        if (!strncmp(key, *list, n) && (key[n] == '\0' || key[n] == '.')) {
            return true;
        }
    }
    return false;
}

typedef struct Filter {
    const char *const *keep;
    bool inverse;
    GPtrArray *drop;
} Filter;

static void collect_drop(const char *key, const char *value, void *opaque)
{
    Filter *f = opaque;

    if (is_named(f->keep, key) == f->inverse) {
        g_ptr_array_add(f->drop, g_strdup(key));
    }
}

/* The options of @o that @list names, or with @inverse those that it does not. */
static Options *filtered(const Options *o, const char *const *list, bool inverse)
{
    g_autoptr(GPtrArray) drop = g_ptr_array_new_with_free_func(g_free);
    Filter f = { list, inverse, drop };
    Options *n = opts_copy(o);

    opts_foreach(n, collect_drop, &f);
    for (guint i = 0; i < drop->len; i++) {
        opts_del(n, g_ptr_array_index(drop, i));
    }
    return n;
}

/* What stands before "driver" when the reference prints a node. */
static const char *const before_driver[] = { "set-state", "offset",  "read-zeroes",
                                             "image",     "backing", NULL };

/* The options that open this node again. */
static Options *describe(BlockDriverState *bs)
{
    g_autoptr(Options) all = filtered(bs->options, bs->drv->strong_options, false);
    g_autoptr(Options) tail = NULL;
    Options *o;

    for (guint i = 0; i < bs->children->len; i++) {
        BdrvChild *c = g_ptr_array_index(bs->children, i);

        if (c->role != BDRV_ROLE_BACKING || bs->core->backing_overridden) {
            g_autoptr(Options) sub = describe(c->bs);

            opts_put_subtree(all, c->name, sub);
        }
    }
    o = filtered(all, before_driver, false);
    tail = filtered(all, before_driver, true);
    opts_set(o, "driver", bs->drv->format_name);
    opts_merge(o, tail, true);
    if (bs->children->len == 0 && opts_has(bs->options, "filename")) {
        opts_set(o, "filename", opts_peek(bs->options, "filename"));
    }
    return o;
}

/* The plain name, or NULL if only json: says it all. */
static char *plain_filename(BlockDriverState *bs, const char *given)
{
    g_autoptr(Options) own = filtered(bs->options, bs->drv->strong_options, false);
    const char *f;

    if (!bs->file) {
        f = opts_peek(bs->options, "filename");
        if (f) {
            return g_strdup(f);
        }
        return given && bdrv_protocol_prefix(given) ? g_strdup(given) : NULL;
    }
    if (opts_count(own) > 0 || bs->core->backing_overridden || !strcmp(bs->file->name, "image") ||
        (!bs->drv->is_format && !bs->drv->is_filter)) {
        return NULL;
    }
    f = bs->file->bs->exact_filename;
    /* A format in a format: a plain name would be probed to the inner one only. */
    return *f && (bs->file->bs->drv->protocol_name || !bs->drv->is_format) ? g_strdup(f) : NULL;
}

void bdrv_refresh_filename(BlockDriverState *bs, const char *given)
{
    g_autoptr(Options) all = NULL;
    g_autofree char *json = NULL;

    if (!bs->exact_filename) { /* else the driver's own */
        bs->exact_filename = plain_filename(bs, given);
    }
    g_free(bs->filename);
    if (bs->exact_filename) {
        bs->filename = g_strdup(bs->exact_filename);
        return;
    }
    bs->exact_filename = g_strdup("");
    all = describe(bs);
    json = opts_to_json(all);
    bs->filename = g_strdup_printf("json:%s", json);
}
