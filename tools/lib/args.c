/* SPDX-License-Identifier: MIT */
#include "args.h"

#include "message.h"
#include "util/size.h"

#include <errno.h>
#include <getopt.h>
#include <glib.h>

#define NO_LETTER 256 /* and its row's index: what getopt answers for an option without one */

int64_t arg_number(const char *what, const char *arg, int64_t min, int64_t max)
{
    char *end;
    gint64 v;

    errno = 0;
    v = g_ascii_strtoll(arg, &end, 0);
    if (end == arg || *end) {
        tool_error("Invalid %s specified: '%s'.", what, arg);
        return -1;
    }
    if (errno == ERANGE || v < min || v > max) {
        tool_error("Invalid %s specified. Must be between %" G_GINT64_FORMAT
                   " and %" G_GINT64_FORMAT ".",
                   what, min, max);
        return -1;
    }
    return v;
}

int64_t arg_size(const char *what, const char *arg, int64_t min, int64_t max)
{
    uint64_t v;
    int ret = size_parse(arg, NULL, 'B', &v);

    if (ret == -ERANGE || (ret == 0 && (v > (uint64_t)max || (int64_t)v < min))) {
        tool_error("Invalid %s specified. Must be between %" G_GINT64_FORMAT
                   " and %" G_GINT64_FORMAT ".",
                   what, min, max);
        return -1;
    }
    if (ret < 0) {
        tool_error("Invalid %s specified: '%s'.", what, arg);
        return -1;
    }
    return (int64_t)v;
}

bool arg_take_aio(const ToolArg *a, void *record, void *field, const char *value)
{
    if (!blk_parse_aio(value, field)) {
        tool_error("Invalid aio option: %s", value);
        return false;
    }
    return true;
}

bool arg_native_aio(const ToolArg *a, void *record, void *field, const char *value)
{
    return blk_parse_aio("native", field);
}

bool arg_take_discard(const ToolArg *a, void *record, void *field, const char *value)
{
    if (!blk_parse_discard(value, field)) {
        tool_error("Invalid discard option: %s", value);
        return false;
    }
    return true;
}

static bool takes_value(const ToolArg *a)
{
    return a->kind == ARG_TEXT || a->kind == ARG_SIZE || a->kind == ARG_NUMBER ||
           a->kind == ARG_TAKE;
}

static bool take_one(const ToolArg *a, void *record)
{
    void *field = (char *)record + a->at;

    switch (a->kind) {
    case ARG_SET:
    case ARG_CLEAR:
        *(bool *)field = a->kind == ARG_SET;
        return true;
    case ARG_BITS:
        *(int *)field |= a->bits;
        return true;
    case ARG_TEXT:
        *(const char **)field = optarg;
        return true;
    case ARG_SIZE:
    case ARG_NUMBER:
        *(int64_t *)field =
            (a->kind == ARG_SIZE ? arg_size : arg_number)(a->what, optarg, a->min, a->max);
        return *(int64_t *)field >= 0;
    case ARG_DO:
    case ARG_TAKE:
        return a->call(a, record, field, optarg);
    }
    g_assert_not_reached();
}

static const ToolArg *find(const ToolArg *table, int answer)
{
    for (int i = 0; table[i].name || table[i].letter; i++) {
        if (answer == (table[i].letter ? table[i].letter : NO_LETTER + i)) {
            return &table[i];
        }
    }
    return NULL;
}

ArgsResult args_take(const ToolArg *table, int argc, char **argv, void *record)
{
    g_autoptr(GArray) longs = g_array_new(TRUE, TRUE, sizeof(struct option));
    g_autoptr(GString) letters = g_string_new(NULL);
    int c;

    for (int i = 0; table[i].name || table[i].letter; i++) {
        const ToolArg *a = &table[i];
        struct option o = { a->name, takes_value(a) ? required_argument : no_argument, NULL,
                            a->letter ? a->letter : NO_LETTER + i };

        if (a->name) {
            g_array_append_val(longs, o);
        }
        if (a->letter) {
            g_string_append_printf(letters, "%c%s", a->letter, takes_value(a) ? ":" : "");
        }
    }
    while ((c = longs->len ? getopt_long(argc, argv, letters->str,
                                         (const struct option *)(void *)longs->data, NULL)
                           : getopt(argc, argv, letters->str)) != -1) {
        const ToolArg *a = find(table, c);

        if (!a) {
            return ARGS_UNKNOWN;
        }
        if (!take_one(a, record)) {
            return ARGS_BAD;
        }
    }
    return ARGS_OK;
}
