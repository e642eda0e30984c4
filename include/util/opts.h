/* SPDX-License-Identifier: MIT */
/*
 * Options: a flat map of dotted keys to typed scalars.
 *
 * Sources: "key=val,key=val" strings (",," is a comma in a value), json:{...}
 * (nested objects flatten to dotted keys, arrays to numbered ones), and calls.
 * A taker removes what it understands; what is left at the end is the user's
 * mistake and is named in the error.
 */
#ifndef UTIL_OPTS_H
#define UTIL_OPTS_H

#include "util/compiler.h"
#include "util/secrets.h"

DRIVER_API_BEGIN

typedef struct Options Options;

Options *opts_new(void);
Options *opts_copy(const Options *o);
void opts_free(Options *o); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Options, opts_free)

/* Parse into @o. @implied_key: key for a first element without '=' (or NULL).
 * A key without a value is key=on, "nokey" is key=off. Errors name the text. */
bool opts_parse(Options *o, const char *str, const char *implied_key, GError **errp);
/* Parse a JSON object text (without the "json:" prefix), flattened. */
bool opts_parse_json(Options *o, const char *json, GError **errp);
/* {"a": {"b": "c"}} again; keys sorted as the reference does (by insertion); strings stay strings.
 * g_free(). */
char *opts_to_json(const Options *o);

/* "name: value" lines, nested by the dots of the keys and @indent steps of 4 deep; for info.
 * g_free(). */
char *opts_to_text(const Options *o, int indent);

void opts_set(Options *o, const char *key, const char *value); /* string */
void opts_set_bool(Options *o, const char *key, bool v);
void opts_set_int(Options *o, const char *key, int64_t v);
bool opts_has(const Options *o, const char *key);
const char *opts_peek(const Options *o, const char *key); /* NULL if unset; owned by @o */
/* What it was set as: a string stays one, whatever it says. OPT_NULL if unset. */
typedef enum OptKind { OPT_STRING, OPT_BOOL, OPT_INT, OPT_NULL } OptKind;
OptKind opts_kind(const Options *o, const char *key);
void opts_del(Options *o, const char *key);
guint opts_count(const Options *o);
const char *opts_first_key(const Options *o); /* in insertion order, NULL if empty */
typedef void OptsForeach(const char *key, const char *value, void *opaque);
void opts_foreach(const Options *o, OptsForeach *fn, void *opaque); /* insertion order */
/* Overwrite/insert all of @from. */
void opts_merge(Options *o, const Options *from, bool overwrite);

/* Takers: remove the key; default if unset. */
char *opts_take_str(Options *o, const char *key); /* NULL if unset; g_free */
bool opts_take_bool(Options *o, const char *key, bool def, bool *ret, GError **errp);
bool opts_take_size(Options *o, const char *key, uint64_t def, uint64_t *ret, GError **errp);
/* Modulo 2^64: "-1" is the largest (and refused by whoever has a limit). */
bool opts_take_uint(Options *o, const char *key, uint64_t def, uint64_t *ret, GError **errp);
/* @names is NULL-terminated; *ret is the index. */
bool opts_take_enum(Options *o, const char *key, const char *const *names, int def, int *ret,
                    GError **errp);
/* Remove all keys that start with "@prefix." and return them without it (empty if none). */
Options *opts_take_subtree(Options *o, const char *prefix);
/* Secrets go along with options: to what is opened or created by them, to copies and to subtrees,
 * but into no text. Holds @s (NULL: none); opts_secrets() gives no new reference. */
void opts_set_secrets(Options *o, Secrets *s);
Secrets *opts_secrets(const Options *o);
/* The reverse of opts_take_subtree(): all of @sub as "@prefix.key". */
void opts_put_subtree(Options *o, const char *prefix, const Options *sub);
bool opts_has_subtree(const Options *o, const char *prefix);

DRIVER_API_END

#endif
