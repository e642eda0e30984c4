/* SPDX-License-Identifier: MIT */
/* Tokens of JSON text: where each ends, and what a string says. */
#include "util/json-lex.h"

#include <stdbool.h>
#include <string.h>

/* ---- Where a token ends; a stray one includes the byte that breaks it, if there is one ---- */

static JsonTokenKind stray(const char **p)
{
    *p += **p != '\0';
    return JSON_TOKEN_STRAY;
}

static JsonTokenKind lex_string(const char **p)
{
    char quote = *(*p)++;

    while (**p != quote) {
        *p += **p == '\\';
        if ((unsigned char)**p < 0x20 || (unsigned char)**p > 0xfd) {
            return stray(p);
        }
        (*p)++;
    }
    (*p)++;
    return JSON_TOKEN_STRING;
}

/* At least one digit. */
static bool skip_digits(const char **p)
{
    const char *start = *p;

    while (g_ascii_isdigit(**p)) {
        (*p)++;
    }
    return *p > start;
}

static JsonTokenKind lex_number(const char **p)
{
    JsonTokenKind kind = JSON_TOKEN_INTEGER;

    *p += **p == '-';
    if (**p == '0') {
        (*p)++;
        if (g_ascii_isdigit(**p)) {
            return stray(p);
        }
    } else if (!skip_digits(p)) {
        return stray(p);
    }
    if (**p == '.') {
        kind = JSON_TOKEN_FRACTION;
        (*p)++;
        if (!skip_digits(p)) {
            return stray(p);
        }
    }
    if (**p == 'e' || **p == 'E') {
        kind = JSON_TOKEN_FRACTION;
        (*p)++;
        *p += **p == '-' || **p == '+';
        if (!skip_digits(p)) {
            return stray(p);
        }
    }
    return kind;
}

static JsonTokenKind lex(const char **p)
{
    char c = **p;

    if (c == '\0') {
        return JSON_TOKEN_END;
    }
    if (c == '"' || c == '\'') {
        return lex_string(p);
    }
    if (c == '-' || g_ascii_isdigit(c)) {
        return lex_number(p);
    }
    if (g_ascii_islower(c)) {
        while (g_ascii_islower(**p)) {
            (*p)++;
        }
        return JSON_TOKEN_KEYWORD;
    }
    (*p)++;
    return strchr("{}[]:,", c) ? JSON_TOKEN_PUNCT : JSON_TOKEN_STRAY;
}

JsonToken json_lex(const char **s)
{
    JsonToken t;

    *s += strspn(*s, " \t\r\n");
    t.text = *s;
    t.kind = lex(s);
    t.len = (size_t)(*s - t.text);
    return t;
}

/* ---- What a string says ---- */

/* Assigned to characters, or may be: no surrogate, none of the 66 that never are. */
static bool is_character(gunichar c)
{
    return c <= 0x10ffff && (c < 0xd800 || c > 0xdfff) && (c < 0xfdd0 || c > 0xfdef) &&
           (c & 0xfffe) != 0xfffe;
}

/* Four hexadecimal digits at @p; -1: they are not. */
static int hex4(const char *p)
{
    int v = 0;

    for (int i = 0; i < 4; i++) {
        int d = g_ascii_xdigit_value(p[i]);

        if (d < 0) {
            return -1;
        }
        v = v * 16 + d;
    }
    return v;
}

/* \uXXXX, or two of them for one character; @p is after the 'u', and moves past it all. NUL is
 * the two bytes that say it within a C string. */
static bool unquote_unicode(const char **p, const char *end, GString *out)
{
    int hi = hex4(*p), lo;
    gunichar c = (gunichar)hi;

    if (hi >= 0xd800 && hi < 0xdc00 && end - *p >= 10 && (*p)[4] == '\\' && (*p)[5] == 'u') {
        lo = hex4(*p + 6);
        if (lo >= 0xdc00 && lo < 0xe000) {
            c = 0x10000 + (((gunichar)hi & 0x3ff) << 10) + ((gunichar)lo & 0x3ff);
            *p += 6;
        }
    }
    if (hi < 0 || !is_character(c)) {
        return false;
    }
    *p += 4;
    if (c) {
        g_string_append_unichar(out, c);
    } else {
        g_string_append(out, "\xc0\x80");
    }
    return true;
}

/* @p at a backslash. */
static bool unquote_escape(const char **p, const char *end, GString *out, char **error)
{
    static const char from[] = "\"'\\/bfnrt", to[] = "\"'\\/\b\f\n\r\t";
    char c = (*p)[1];
    const char *found = strchr(from, c);

    *p += 2;
    if (c == 'u') {
        const char *digits = *p;

        if (!unquote_unicode(p, end, out)) {
            *error = g_strdup_printf("\\u%.*s is not a valid Unicode character",
                                     (int)MIN(4, end + 1 - digits), digits);
            return false;
        }
        return true;
    }
    if (!found) {
        *error = g_strdup("invalid escape sequence in string");
        return false;
    }
    g_string_append_c(out, to[found - from]);
    return true;
}

char *json_unquote(const JsonToken *t, char **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    const char *p = t->text + 1, *end = t->text + t->len - 1;

    while (p < end) {
        gunichar c;

        if (*p == '\\') {
            if (!unquote_escape(&p, end, out, error)) {
                return NULL;
            }
            continue;
        }
        c = g_utf8_get_char_validated(p, end - p);
        if (end - p >= 2 && !memcmp(p, "\xc0\x80", 2)) { /* NUL, as above */
            g_string_append_len(out, p, 2);
            p += 2;
        } else if (is_character(c)) { /* the marks of bad bytes are none */
            g_string_append_unichar(out, c);
            p = g_utf8_next_char(p);
        } else {
            *error = g_strdup("invalid UTF-8 sequence in string");
            return NULL;
        }
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}
