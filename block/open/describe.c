/* SPDX-License-Identifier: MIT */
/* The name of an open image that people see: the plain file name where that says it all, else
 * json:{} with the options that open it again. */
#include "block/filename.h"
#include "block/open/open.h"

#include <string.h>

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
static const char *const before_driver[] = {
    "set-state", "offset", "read-zeroes", "encrypt.key-secret", "image", "backing", "header", NULL
};

/* And what after its children. */
static const char *const after_children[] = { "key-secret", NULL };

/* The options that open this node again. */
static Options *describe(BlockDriverState *bs)
{
    g_autoptr(Options) all = filtered(bs->options, bs->drv->strong_options, false);
    g_autoptr(Options) tail = NULL, first = NULL, last = NULL;
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
    first = filtered(tail, after_children, true);
    last = filtered(tail, after_children, false);
    opts_merge(o, first, true);
    opts_merge(o, last, true);
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
