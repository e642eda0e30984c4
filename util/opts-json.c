/* SPDX-License-Identifier: MIT */
/* Options from and to JSON: nested objects flatten to dotted keys, arrays to numbered ones. */
#include "util/opts-int.h"

#include "util/error.h"

#include <json-glib/json-glib.h>
#include <string.h>

#define MAX_DEPTH 32

static bool flatten(Options *o, const char *prefix, JsonNode *node, int depth, GError **errp);

static bool flatten_object(Options *o, const char *prefix, JsonObject *obj, int depth,
                           GError **errp)
{
    g_autoptr(GList) names = json_object_get_members(obj);

    for (GList *l = names; l; l = l->next) {
        g_autofree char *key =
            prefix ? g_strdup_printf("%s.%s", prefix, (char *)l->data) : g_strdup(l->data);

        if (!flatten(o, key, json_object_get_member(obj, l->data), depth + 1, errp)) {
            return false;
        }
    }
    return true;
}

static bool flatten_array(Options *o, const char *prefix, JsonArray *a, int depth, GError **errp)
{
    for (guint i = 0; i < json_array_get_length(a); i++) {
        g_autofree char *key = g_strdup_printf("%s.%u", prefix, i);

        if (!flatten(o, key, json_array_get_element(a, i), depth + 1, errp)) {
            return false;
        }
    }
    return true;
}

static bool flatten_scalar(Options *o, const char *key, JsonNode *node)
{
    GType t = json_node_get_value_type(node);

    if (t == G_TYPE_BOOLEAN) {
        opts_set_bool(o, key, json_node_get_boolean(node));
    } else if (t == G_TYPE_INT64) {
        opts_set_int(o, key, json_node_get_int(node));
    } else if (t == G_TYPE_DOUBLE) {
        char buf[G_ASCII_DTOSTR_BUF_SIZE];

        opts_set_typed(o, key, g_ascii_dtostr(buf, sizeof(buf), json_node_get_double(node)),
                       OPT_INT);
    } else {
        opts_set(o, key, json_node_get_string(node));
    }
    return true;
}

static bool flatten(Options *o, const char *prefix, JsonNode *node, int depth, GError **errp)
{
    if (depth > MAX_DEPTH) {
        error_set(errp, EINVAL, "Could not parse the JSON options: nested too deeply");
        return false;
    }
    switch (json_node_get_node_type(node)) {
    case JSON_NODE_OBJECT:
        return flatten_object(o, prefix, json_node_get_object(node), depth, errp);
    case JSON_NODE_ARRAY:
        return flatten_array(o, prefix, json_node_get_array(node), depth, errp);
    case JSON_NODE_NULL:
        opts_set_typed(o, prefix, "", OPT_NULL);
        return true;
    case JSON_NODE_VALUE:
        return flatten_scalar(o, prefix, node);
    }
    return true;
}

/* Behind the string that @p begins; at the end if it does not end. */
static const char *skip_string(const char *p)
{
    char quote = *p++;

    while (*p && *p != quote) {
        p += p[0] == '\\' && p[1] ? 2 : 1;
    }
    return *p ? p + 1 : p;
}

/* One value and no comments: json-glib takes several values for one, and leaks all but the last. */
static bool is_one_value(const char *p)
{
    int depth = 0;
    bool ended = false;

    p += strspn(p, " \t\r\n");
    if (*p != '{' && *p != '[') {
        return !strpbrk(p, "{[");
    }
    while (*p) {
        if (ended && !strchr(" \t\r\n", *p)) {
            return false;
        }
        if (*p == '"' || *p == '\'') {
            p = skip_string(p);
            continue;
        }
        if (*p == '/' || *p == '#') {
            return false;
        }
        depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
        ended = depth <= 0;
        p++;
    }
    return true;
}

bool opts_parse_json(Options *o, const char *json, GError **errp)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root;

    if (!is_one_value(json)) {
        error_set(errp, EINVAL, "Could not parse the JSON options: Expecting at most one JSON value");
        return false;
    }
    if (!json_parser_load_from_data(parser, json, -1, NULL) ||
        !(root = json_parser_get_root(parser))) {
        error_set(errp, EINVAL, "Could not parse the JSON options: JSON parse error, %s",
                  g_str_has_suffix(json, "}") ? "invalid JSON" : "premature EOI");
        return false;
    }
    if (json_node_get_node_type(root) != JSON_NODE_OBJECT) {
        error_set(errp, EINVAL, "Invalid JSON object given");
        return false;
    }
    return flatten(o, NULL, root, 0, errp);
}

/* ---- And back ---- */

static void append_string(GString *out, const char *s)
{
    g_string_append_c(out, '"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\') {
            g_string_append_printf(out, "\\%c", c);
        } else if (c < 0x20) {
            g_string_append_printf(out, "\\u%04x", c);
        } else {
            g_string_append_c(out, (char)c);
        }
    }
    g_string_append_c(out, '"');
}

static void append_value(GString *out, const OptEntry *e)
{
    switch (e->kind) {
    case OPT_STRING:
        append_string(out, e->value);
        break;
    case OPT_BOOL:
        g_string_append(out, !strcmp(e->value, "on") ? "true" : "false");
        break;
    case OPT_INT:
        g_string_append(out, e->value);
        break;
    case OPT_NULL:
        g_string_append(out, "null");
        break;
    }
}

/* The object of all keys under @prefix (with its dot), as nested objects. */
static void append_object(GString *out, const Options *o, const char *prefix)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    size_t len = strlen(prefix);
    bool first = true;

    g_string_append_c(out, '{');
    for (guint i = 0; i < o->entries->len; i++) {
        const OptEntry *e = g_ptr_array_index(o->entries, i);
        const char *rest = e->key + len, *dot;
        g_autofree char *name = NULL;

        if (strncmp(e->key, prefix, len)) {
            continue;
        }
        dot = strchr(rest, '.');
        name = dot ? g_strndup(rest, (gsize)(dot - rest)) : g_strdup(rest);
        if (dot && g_hash_table_contains(seen, name)) {
            continue;
        }
        g_string_append(out, first ? "" : ", ");
        first = false;
        append_string(out, name);
        g_string_append(out, ": ");
        if (dot) {
            g_autofree char *sub = g_strdup_printf("%s%s.", prefix, name);

            append_object(out, o, sub);
            g_hash_table_add(seen, g_steal_pointer(&name));
        } else {
            append_value(out, e);
        }
    }
    g_string_append_c(out, '}');
}

char *opts_to_json(const Options *o)
{
    GString *out = g_string_new(NULL);

    append_object(out, o, "");
    return g_string_free(out, FALSE);
}
