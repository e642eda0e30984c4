/* SPDX-License-Identifier: MIT */
/*
 * Options from and to JSON: nested objects flatten to dotted keys, arrays to numbered ones.
 *
 * Texts of errors are the reference's, and so is their order: the text is cut into tokens up to
 * where its brackets close (a stray byte there comes first), then parsed, then nothing more may
 * follow.
 */
#include "util/opts-int.h"

#include "util/error.h"
#include "util/json-lex.h"

#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 32

typedef struct Parse {
    Options *o;
    GArray *tokens; /* JsonToken; an END at the end */
    guint at;
    char *error;
} Parse;

/* ---- Tokens ---- */

static bool fail(Parse *p, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static bool fail(Parse *p, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    p->error = p->error ? p->error : g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return false;
}

static bool is_punct(const JsonToken *t, char c)
{
    return t->kind == JSON_TOKEN_PUNCT && *t->text == c;
}

static const JsonToken *peek(const Parse *p)
{
    return &g_array_index(p->tokens, JsonToken, p->at);
}

/* The next token; the END stays. */
static const JsonToken *next(Parse *p)
{
    const JsonToken *t = peek(p);

    p->at += t->kind != JSON_TOKEN_END;
    return t;
}

/* The tokens of one value: as many as it takes to close what is open. */
static bool read_tokens(Parse *p, const char **s)
{
    int braces = 0, brackets = 0;
    JsonToken t;

    do {
        t = json_lex(s);
        if (t.kind == JSON_TOKEN_STRAY) {
            return fail(p, "JSON parse error, stray '%.*s'", (int)MIN(t.len, G_MAXINT), t.text);
        }
        braces += is_punct(&t, '{') - is_punct(&t, '}');
        brackets += is_punct(&t, '[') - is_punct(&t, ']');
        g_array_append_val(p->tokens, t);
    } while (t.kind != JSON_TOKEN_END && braces >= 0 && brackets >= 0 && braces + brackets > 0);
    if (t.kind != JSON_TOKEN_END) {
        t = (JsonToken){ .kind = JSON_TOKEN_END, .text = *s };
        g_array_append_val(p->tokens, t);
    }
    return true;
}

/* ---- Values: into p->o under @key; NULL: at the top ---- */

static bool parse_value(Parse *p, const char *key, int depth);

static bool parse_string(Parse *p, const JsonToken *t, char **ret)
{
    g_autofree char *error = NULL;

    *ret = json_unquote(t, &error);
    return *ret ? true : fail(p, "JSON parse error, %s", error);
}

/* Integers are kept as they are written; what has no integer type is the nearest fraction. */
static void set_number(Parse *p, const char *key, const JsonToken *t)
{
    g_autofree char *text = g_strndup(t->text, t->len);
    char buf[G_ASCII_DTOSTR_BUF_SIZE];
    bool fits;

    errno = 0;
    (void)(*text == '-' ? (void)g_ascii_strtoll(text, NULL, 10)
                        : (void)g_ascii_strtoull(text, NULL, 10));
    fits = t->kind == JSON_TOKEN_INTEGER && errno == 0;
    if (!fits) {
        g_ascii_dtostr(buf, sizeof(buf), g_ascii_strtod(text, NULL));
    }
    opts_set_typed(p->o, key, !fits ? buf : strcmp(text, "-0") ? text : "0", OPT_INT);
}

static bool set_keyword(Parse *p, const char *key, const JsonToken *t)
{
    g_autofree char *word = g_strndup(t->text, t->len);

    if (!strcmp(word, "null")) {
        opts_set_typed(p->o, key, "", OPT_NULL);
    } else if (!strcmp(word, "true") || !strcmp(word, "false")) {
        opts_set_bool(p->o, key, *word == 't');
    } else {
        return fail(p, "JSON parse error, invalid keyword '%s'", word);
    }
    return true;
}

/* A key is any value by its form; that it is a string is asked then. */
static bool parse_key(Parse *p, int depth, char **ret)
{
    const JsonToken *t = peek(p);

    if (t->kind == JSON_TOKEN_STRING) {
        return parse_string(p, next(p), ret);
    }
    return parse_value(p, NULL, depth) &&
           fail(p, "JSON parse error, key is not a string in object");
}

static bool parse_pair(Parse *p, const char *prefix, int depth, GHashTable *seen)
{
    g_autofree char *name = NULL, *key = NULL;

    if (!parse_key(p, depth, &name)) {
        return false;
    }
    if (peek(p)->kind == JSON_TOKEN_END) {
        return fail(p, "JSON parse error, premature EOI");
    }
    if (!is_punct(next(p), ':')) {
        return fail(p, "JSON parse error, missing : in object pair");
    }
    key = prefix ? g_strdup_printf("%s.%s", prefix, name) : g_strdup(name);
    if (!parse_value(p, key, depth)) {
        return false;
    }
    return g_hash_table_add(seen, g_steal_pointer(&name))
               ? true
               : fail(p, "JSON parse error, duplicate key");
}

static bool parse_object(Parse *p, const char *prefix, int depth)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    if (is_punct(peek(p), '}')) {
        next(p);
        return true;
    }
    while (parse_pair(p, prefix, depth, seen)) {
        const JsonToken *t = next(p);

        if (is_punct(t, '}')) {
            return true;
        }
        if (t->kind == JSON_TOKEN_END) {
            return fail(p, "JSON parse error, premature EOI");
        }
        if (!is_punct(t, ',')) {
            return fail(p, "JSON parse error, expected separator in dict");
        }
    }
    return false;
}

static bool parse_array(Parse *p, const char *prefix, int depth)
{
    if (is_punct(peek(p), ']')) {
        next(p);
        return true;
    }
    for (unsigned i = 0;; i++) {
        g_autofree char *key = g_strdup_printf("%s.%u", prefix, i);
        const JsonToken *t;

        if (!parse_value(p, key, depth)) {
            return false;
        }
        t = next(p);
        if (is_punct(t, ']')) {
            return true;
        }
        if (t->kind == JSON_TOKEN_END) {
            return fail(p, "JSON parse error, premature EOI");
        }
        if (!is_punct(t, ',')) {
            return fail(p, "JSON parse error, expected separator in list");
        }
    }
}

static bool parse_value(Parse *p, const char *key, int depth)
{
    const char *name = key ? key : ""; /* at the top only an object is kept */
    const JsonToken *t = next(p);
    g_autofree char *s = NULL;

    if (depth > MAX_DEPTH) {
        return fail(p, "nested too deeply");
    }
    switch (t->kind) {
    case JSON_TOKEN_END:
        return fail(p, "JSON parse error, premature EOI");
    case JSON_TOKEN_PUNCT:
        return *t->text == '{'   ? parse_object(p, key, depth + 1)
               : *t->text == '[' ? parse_array(p, name, depth + 1)
                                 : fail(p, "JSON parse error, expecting value");
    case JSON_TOKEN_STRING:
        if (!parse_string(p, t, &s)) {
            return false;
        }
        opts_set(p->o, name, s);
        return true;
    case JSON_TOKEN_INTEGER:
    case JSON_TOKEN_FRACTION:
        set_number(p, name, t);
        return true;
    case JSON_TOKEN_KEYWORD:
        return set_keyword(p, name, t);
    case JSON_TOKEN_STRAY: /* read_tokens() lets none through */
        break;
    }
    return fail(p, "JSON parse error, stray '%.*s'", (int)t->len, t->text);
}

static bool parse_text(Parse *p, const char *json)
{
    if (!read_tokens(p, &json)) {
        return false;
    }
    if (peek(p)->kind == JSON_TOKEN_END) {
        return fail(p, "Expecting a JSON value");
    }
    if (!parse_value(p, NULL, 0)) {
        return false;
    }
    return json_lex(&json).kind == JSON_TOKEN_END ? true
                                                  : fail(p, "Expecting at most one JSON value");
}

bool opts_parse_json(Options *o, const char *json, GError **errp)
{
    g_autoptr(Options) all = opts_new();
    Parse p = { .o = all, .tokens = g_array_new(FALSE, FALSE, sizeof(JsonToken)) };
    bool ok = parse_text(&p, json);

    if (!ok) {
        error_set(errp, EINVAL, "Could not parse the JSON options: %s", p.error);
    } else if (!is_punct(&g_array_index(p.tokens, JsonToken, 0), '{')) {
        error_set(errp, EINVAL, "Invalid JSON object given");
        ok = false;
    } else {
        opts_merge(o, all, true);
    }
    g_array_unref(p.tokens);
    g_free(p.error);
    return ok;
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
