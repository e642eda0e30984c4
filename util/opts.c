/* SPDX-License-Identifier: MIT */
/*
 * Options: a map in insertion order.  Each value keeps the text and what it was (JSON must know a
 * string from a number again).
 */
#include "util/opts-int.h"

#include "util/error.h"
#include "util/size.h"

#include <stdlib.h>
#include <string.h>

Options *opts_new(void)
{
    Options *o = g_new0(Options, 1);

    o->entries = g_ptr_array_new();
    o->index = g_hash_table_new(g_str_hash, g_str_equal);
    return o;
}

static void entry_free(OptEntry *e)
{
    g_free(e->key);
    g_free(e->value);
    g_free(e);
}

void opts_free(Options *o)
{
    if (!o) {
        return;
    }
    g_hash_table_unref(o->index);
    for (guint i = 0; i < o->entries->len; i++) {
        entry_free(g_ptr_array_index(o->entries, i));
    }
    g_ptr_array_unref(o->entries);
    secrets_unref(o->secrets);
    g_free(o);
}

void opts_set_typed(Options *o, const char *key, const char *value, OptKind kind)
{
    OptEntry *e = g_hash_table_lookup(o->index, key);

    if (e) {
        char *v = g_strdup(value);

        g_free(e->value);
        e->value = v;
    } else {
        e = g_new0(OptEntry, 1);
        e->key = g_strdup(key);
        e->value = g_strdup(value);
        g_ptr_array_add(o->entries, e);
        g_hash_table_insert(o->index, e->key, e);
    }
    e->kind = kind;
}

void opts_set(Options *o, const char *key, const char *value)
{
    opts_set_typed(o, key, value, OPT_STRING);
}

void opts_set_bool(Options *o, const char *key, bool v)
{
    opts_set_typed(o, key, v ? "on" : "off", OPT_BOOL);
}

void opts_set_int(Options *o, const char *key, int64_t v)
{
    g_autofree char *s = g_strdup_printf("%" G_GINT64_FORMAT, v);

    opts_set_typed(o, key, s, OPT_INT);
}

Options *opts_copy(const Options *o)
{
    Options *n = opts_new();

    if (o) {
        opts_merge(n, o, true);
        n->secrets = secrets_ref(o->secrets);
    }
    return n;
}

void opts_merge(Options *o, const Options *from, bool overwrite)
{
    for (guint i = 0; i < from->entries->len; i++) {
        const OptEntry *e = g_ptr_array_index(from->entries, i);

        if (overwrite || !opts_has(o, e->key)) {
            opts_set_typed(o, e->key, e->value, e->kind);
        }
    }
}

void opts_set_secrets(Options *o, Secrets *s)
{
    Secrets *old = o->secrets;

    o->secrets = secrets_ref(s);
    secrets_unref(old);
}

Secrets *opts_secrets(const Options *o)
{
    return o->secrets;
}

bool opts_has(const Options *o, const char *key)
{
    return g_hash_table_contains(o->index, key);
}

const char *opts_peek(const Options *o, const char *key)
{
    const OptEntry *e = g_hash_table_lookup(o->index, key);

    return e ? e->value : NULL;
}

OptKind opts_kind(const Options *o, const char *key)
{
    const OptEntry *e = g_hash_table_lookup(o->index, key);

    return e ? e->kind : OPT_NULL;
}

void opts_del(Options *o, const char *key)
{
    OptEntry *e = g_hash_table_lookup(o->index, key);

    if (e) {
        g_hash_table_remove(o->index, key);
        g_ptr_array_remove(o->entries, e);
        entry_free(e);
    }
}

guint opts_count(const Options *o)
{
    return o->entries->len;
}

const char *opts_first_key(const Options *o)
{
    return o->entries->len ? ((OptEntry *)g_ptr_array_index(o->entries, 0))->key : NULL;
}

void opts_foreach(const Options *o, OptsForeach *fn, void *opaque)
{
    for (guint i = 0; i < o->entries->len; i++) {
        const OptEntry *e = g_ptr_array_index(o->entries, i);

        fn(e->key, e->value, opaque);
    }
}

/* ---- "key=val,key=val" ---- */

/* One element up to a single comma, with ",," as a comma; @s moves past it. */
static char *next_element(const char **s)
{
    GString *g = g_string_new(NULL);
    const char *p = *s;

    while (*p) {
        if (*p == ',') {
            if (p[1] != ',') {
                p++;
                break;
            }
            p++;
        }
        g_string_append_c(g, *p++);
    }
    *s = p;
    return g_string_free(g, FALSE);
}

bool opts_parse(Options *o, const char *str, const char *implied_key, GError **errp)
{
    bool first = true;

    while (*str) {
        /* A key holds no comma, so an '=' before the first comma ends the key. */
        g_autofree char *elem = next_element(&str);
        char *eq = strchr(elem, '=');

        if (eq) {
            *eq = '\0';
            if (eq == elem) {
                error_set(errp, EINVAL, "Invalid parameter ''");
                return false;
            }
            opts_set(o, elem, eq + 1);
        } else if (first && implied_key) {
            opts_set(o, implied_key, elem);
        } else if (g_str_has_prefix(elem, "no") && elem[2]) {
            opts_set(o, elem + 2, "off");
        } else if (*elem) {
            opts_set(o, elem, "on");
        }
        first = false;
    }
    return true;
}

/* ---- Takers ---- */

char *opts_take_str(Options *o, const char *key)
{
    char *v = g_strdup(opts_peek(o, key));

    opts_del(o, key);
    return v;
}

bool opts_take_bool(Options *o, const char *key, bool def, bool *ret, GError **errp)
{
    g_autofree char *v = opts_take_str(o, key);

    if (!v) {
        *ret = def;
    } else if (!strcmp(v, "on") || !strcmp(v, "yes") || !strcmp(v, "true") || !strcmp(v, "y")) {
        *ret = true;
    } else if (!strcmp(v, "off") || !strcmp(v, "no") || !strcmp(v, "false") || !strcmp(v, "n")) {
        *ret = false;
    } else {
        error_set(errp, EINVAL, "Parameter '%s' expects 'on' or 'off'", key);
        return false;
    }
    return true;
}

bool opts_take_size(Options *o, const char *key, uint64_t def, uint64_t *ret, GError **errp)
{
    g_autofree char *v = opts_take_str(o, key);
    int r;

    if (!v) {
        *ret = def;
        return true;
    }
    r = size_parse(v, NULL, 'B', ret);
    if (r == 0) {
        return true;
    }
    if (r == -ERANGE) {
        error_set(errp, EINVAL, "Value '%s' is out of range for parameter '%s'", v, key);
        return false;
    }
    error_set(errp, EINVAL, "Parameter '%s' expects a non-negative number below 2^64", key);
    error_append_hint(errp, "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, "
                            "peta-\nand exabytes, respectively.");
    return false;
}

bool opts_take_uint(Options *o, const char *key, uint64_t def, uint64_t *ret, GError **errp)
{
    g_autofree char *v = opts_take_str(o, key);
    char *end;

    if (!v) {
        *ret = def;
        return true;
    }
    errno = 0;
    *ret = strtoull(v, &end, 0);
    if (errno == ERANGE) {
        error_set(errp, EINVAL, "Value '%s' is too large for parameter '%s'", v, key);
        return false;
    }
    if (end == v || *end) {
        error_set(errp, EINVAL, "Parameter '%s' expects a number", key);
        return false;
    }
    return true;
}

bool opts_take_enum(Options *o, const char *key, const char *const *names, int def, int *ret,
                    GError **errp)
{
    g_autofree char *v = opts_take_str(o, key);

    if (!v) {
        *ret = def;
        return true;
    }
    for (int i = 0; names[i]; i++) {
        if (!strcmp(names[i], v)) {
            *ret = i;
            return true;
        }
    }
    error_set(errp, EINVAL, "Parameter '%s' does not accept value '%s'", key, v);
    return false;
}

static bool is_under(const char *key, const char *prefix, size_t len)
{
    return !strncmp(key, prefix, len) && key[len] == '.';
}

Options *opts_take_subtree(Options *o, const char *prefix)
{
    Options *sub = opts_new();
    size_t len = strlen(prefix);

    sub->secrets = secrets_ref(o->secrets);
    for (guint i = 0; i < o->entries->len;) {
        OptEntry *e = g_ptr_array_index(o->entries, i);

        if (!is_under(e->key, prefix, len)) {
            i++;
            continue;
        }
        opts_set_typed(sub, e->key + len + 1, e->value, e->kind);
        opts_del(o, e->key);
    }
    return sub;
}

void opts_put_subtree(Options *o, const char *prefix, const Options *sub)
{
    for (guint i = 0; i < sub->entries->len; i++) {
        const OptEntry *e = g_ptr_array_index(sub->entries, i);
        g_autofree char *key = g_strdup_printf("%s.%s", prefix, e->key);

        opts_set_typed(o, key, e->value, e->kind);
    }
}

bool opts_has_subtree(const Options *o, const char *prefix)
{
    size_t len = strlen(prefix);

    for (guint i = 0; i < o->entries->len; i++) {
        const OptEntry *e = g_ptr_array_index(o->entries, i);

        if (is_under(e->key, prefix, len)) {
            return true;
        }
    }
    return false;
}
