/* SPDX-License-Identifier: MIT */
/* Tokens of JSON text, as json: names have it (strings in double or single quotes). */
#ifndef UTIL_JSON_LEX_H
#define UTIL_JSON_LEX_H

#include <glib.h>

typedef enum JsonTokenKind {
    JSON_TOKEN_END,
    JSON_TOKEN_PUNCT,  /* one of {}[]:, */
    JSON_TOKEN_STRING, /* with its quotes; escapes unchecked */
    JSON_TOKEN_INTEGER,
    JSON_TOKEN_FRACTION, /* with '.' or 'e' */
    JSON_TOKEN_KEYWORD,  /* lower case letters */
    JSON_TOKEN_STRAY,    /* begins no token, or breaks off within one */
} JsonTokenKind;

typedef struct JsonToken {
    JsonTokenKind kind;
    const char *text; /* in the input */
    size_t len;
} JsonToken;

/* The token at *@s, which moves past it. */
JsonToken json_lex(const char **s);
/* What a string token says; NULL with *@error (g_free) saying what is wrong in it. */
char *json_unquote(const JsonToken *t, char **error);

#endif
