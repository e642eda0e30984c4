/* SPDX-License-Identifier: MIT */
/*
 * Names: of nodes (unique in the process, as the reference's), and the file names that people see.
 *
 * INV-NAME-1  The table holds the nodes that were given a name; names_lock guards it.
 */
#include "block/block-int.h"

#include <string.h>

#define NODE_NAME_MAX 31

static GMutex names_lock;
static GHashTable *names; /* char * of the node -> BlockDriverState *; names_lock */
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
    g_mutex_lock(&names_lock);
    if (!names) {
        names = g_hash_table_new(g_str_hash, g_str_equal);
    }
    taken = g_hash_table_contains(names, name);
    if (!taken) {
        bs->node_name = g_strdup(name);
        bs->core->named = true;
        g_hash_table_insert(names, bs->node_name, bs);
    }
    g_mutex_unlock(&names_lock);
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
    g_mutex_lock(&names_lock);
    g_hash_table_remove(names, bs->node_name);
    if (g_hash_table_size(names) == 0) {
        g_hash_table_unref(names);
        names = NULL;
    }
    g_mutex_unlock(&names_lock);
    bs->core->named = false;
}

BlockDriverState *bdrv_name_lookup(const char *name)
{
    BlockDriverState *bs;
    int refs;

    g_mutex_lock(&names_lock);
    bs = names ? g_hash_table_lookup(names, name) : NULL;
    refs = bs ? atomic_load(&bs->refcnt) : 0;
    while (refs > 0 && !atomic_compare_exchange_weak(&bs->refcnt, &refs, refs + 1)) {
    }
    g_mutex_unlock(&names_lock);
    return refs > 0 ? bs : NULL; /* 0: being closed */
}

/* ---- What a person sees ---- */

typedef struct StrongCopy {
    const char *const *strong;
    Options *to;
    bool any;
} StrongCopy;

static bool is_strong(const char *const *strong, const char *key)
{
    for (; strong && *strong; strong++) {
        size_t n = strlen(*strong);

        if (!strcmp(key, *strong) || (g_str_has_suffix(*strong, ".") && !strncmp(key, *strong, n))) {
            return true;
        }
    }
    return false;
}

static void copy_strong(const char *key, const char *value, void *opaque)
{
    StrongCopy *s = opaque;
    char *end;

    if (!is_strong(s->strong, key)) {
        return;
    }
    s->any = true;
    /* Numbers print as such; a text that only looks like one does no harm here. */
    int64_t n = g_ascii_strtoll(value, &end, 10);
    if (*value && !*end) {
        opts_set_int(s->to, key, n);
    } else {
        opts_set(s->to, key, value);
    }
}

static void describe(BlockDriverState *bs, const char *prefix, Options *to);

static void describe_child(BdrvChild *c, const char *prefix, Options *to)
{
    g_autofree char *sub = g_strdup_printf("%s%s.", prefix, c->name);

    describe(c->bs, sub, to);
}

static void put_all(const char *key, const char *value, void *opaque)
{
    void **pair = opaque;
    g_autofree char *full = g_strconcat(pair[1], key, NULL);
    char *end;
    int64_t n = g_ascii_strtoll(value, &end, 10);

    if (*value && !*end) {
        opts_set_int(pair[0], full, n);
    } else {
        opts_set(pair[0], full, value);
    }
}

static void describe(BlockDriverState *bs, const char *prefix, Options *to)
{
    g_autoptr(Options) own = opts_new();
    StrongCopy s = { bs->drv->strong_options, own, false };
    void *pair[2] = { to, (void *)(uintptr_t)prefix };
    g_autofree char *driver = g_strconcat(prefix, "driver", NULL);

    opts_foreach(bs->options, copy_strong, &s);
    opts_foreach(own, put_all, pair);
    opts_set(to, driver, bs->drv->format_name);
    for (guint i = 0; i < bs->children->len; i++) {
        BdrvChild *c = g_ptr_array_index(bs->children, i);

        if (c->role != BDRV_ROLE_BACKING || bs->core->backing_overridden) {
            describe_child(c, prefix, to);
        }
    }
    if (!bs->file && bs->exact_filename && *bs->exact_filename && bs->children->len == 0 &&
        opts_has(bs->options, "filename")) {
        g_autofree char *key = g_strconcat(prefix, "filename", NULL);

        opts_set(to, key, bs->exact_filename);
    }
}

/* The plain name, or NULL if only json: says it all. */
static char *plain_filename(BlockDriverState *bs, const char *given)
{
    g_autoptr(Options) own = opts_new();
    StrongCopy s = { bs->drv->strong_options, own, false };
    const char *f;

    if (!bs->file) {
        f = opts_peek(bs->options, "filename");
        if (f) {
            return g_strdup(f);
        }
        return given && bdrv_protocol_prefix(given) ? g_strdup(given) : NULL;
    }
    if (bs->drv->protocol_name && given && bdrv_protocol_prefix(given)) {
        return g_strdup(given);
    }
    opts_foreach(bs->options, copy_strong, &s);
    if (s.any || bs->core->backing_overridden || !strcmp(bs->file->name, "image")) {
        return NULL;
    }
    f = bs->file->bs->exact_filename;
    return *f ? g_strdup(f) : NULL;
}

void bdrv_refresh_filename(BlockDriverState *bs, const char *given)
{
    g_autoptr(Options) all = opts_new();
    g_autofree char *json = NULL;

    if (bs->exact_filename && *bs->exact_filename && bs->filename) {
        return; /* the driver's own */
    }
    g_free(bs->exact_filename);
    g_free(bs->filename);
    bs->exact_filename = plain_filename(bs, given);
    if (bs->exact_filename) {
        bs->filename = g_strdup(bs->exact_filename);
        return;
    }
    bs->exact_filename = g_strdup("");
    describe(bs, "", all);
    json = opts_to_json(all);
    bs->filename = g_strdup_printf("json:%s", json);
}
