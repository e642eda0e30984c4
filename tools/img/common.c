/* SPDX-License-Identifier: MIT */
/* What the commands share: errors, opening, JSON, progress. */
#include "img.h"

#include "tools/lib/message.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Errors ---- */

void img_error(const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    va_start(ap, fmt);
    tool_verror(fmt, ap);
    va_end(ap);
}

void img_error_from(GError *err, const char *prefix)
{
    img_error("%s%s", prefix ? prefix : "", err->message);
    g_error_free(err);
}

void img_unknown_option(const char *command)
{
    fprintf(stderr, "Try '%s %s --help' for more info\n", calledname, command);
    exit(1);
}

void img_usage_error(const char *command, const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    va_start(ap, fmt);
    tool_verror(fmt, ap);
    va_end(ap);
    if (command) {
        img_unknown_option(command);
    }
    fprintf(stderr, "Try '%s --help' for more info\n", calledname);
    exit(1);
}

void img_expect_one_image(const char *command, int argc)
{
    if (optind != argc - 1) {
        img_usage_error(command, "Expecting one image file name");
    }
}

bool img_show_help(const ToolArg *a, void *record, void *field, const char *value)
{
    printf("Usage: %s %s", progname, a->what);
    exit(0);
}

bool img_take_output(const ToolArg *a, void *record, void *field, const char *value)
{
    *(bool *)field = !strcmp(value, "json");
    if (strcmp(value, "json") && strcmp(value, "human")) {
        img_usage_error(a->what, "--output expects 'human' or 'json' not '%s'", value);
    }
    return true;
}

void img_take_args(const char *command, const ToolArg *table, int argc, char **argv, void *record)
{
    switch (args_take(table, argc, argv, record)) {
    case ARGS_OK:
        return;
    case ARGS_BAD:
        exit(1);
    case ARGS_UNKNOWN:
        img_unknown_option(command);
    }
}

/* A list neither begins nor ends with a comma (two of them are one in a value). */
static bool is_option_list(const char *s)
{
    size_t n = strlen(s), commas = 0;

    while (commas < n && s[n - 1 - commas] == ',') {
        commas++;
    }
    return n > 0 && (*s != ',' || s[1] == ',') && commas % 2 == 0;
}

bool img_add_options(char **all, const char *arg)
{
    g_autofree char *old = *all;

    if (!is_option_list(arg)) {
        img_error("Invalid option list: %s", arg);
        *all = g_steal_pointer(&old);
        return false;
    }
    *all = old ? g_strdup_printf("%s,%s", old, arg) : g_strdup(arg);
    return true;
}

/* ---- Opening ---- */

BlockBackend *img_open(const char *filename, const char *format, int flags, bool writethrough,
                       bool image_opts, bool force_share)
{
    return img_open_with(filename, format, NULL, flags, writethrough, image_opts, force_share);
}

BlockBackend *img_open_with(const char *filename, const char *format, Options *options, int flags,
                            bool writethrough, bool image_opts, bool force_share)
{
    g_autoptr(Options) o = options ? options : opts_new();
    GError *err = NULL;
    BlockBackend *blk;

    if (image_opts && format) {
        img_error("--image-opts and --format are mutually exclusive");
        return NULL;
    }
    object_add_secrets(o);
    if (image_opts && !opts_parse(o, filename, "file", &err)) {
        img_error_from(err, NULL);
        return NULL;
    }
    if (format) {
        opts_set(o, "driver", format);
    }
    tool_warn_options(o);
    if (force_share && opts_has(o, "force-share") && strcmp(opts_peek(o, "force-share"), "on")) {
        img_error("--force-share/-U conflicts with image options");
        return NULL;
    }
    if (force_share) {
        flags |= BLK_O_FORCE_SHARE;
    }
    blk = blk_open(image_opts ? NULL : filename, g_steal_pointer(&o), flags, &err);
    if (!blk) {
        img_error("Could not open '%s': %s", filename, err->message);
        g_error_free(err);
        return NULL;
    }
    blk_set_write_cache(blk, !writethrough);
    tool_watch(blk);
    return blk;
}

bool img_close(BlockBackend *blk, const char *name, bool tell)
{
    int flush_ret = blk ? blk_flush(blk) : 0, close_ret = blk_close(blk);

    if (tell && flush_ret < 0) {
        img_error("Error while flushing '%s': %s", name, strerror(-flush_ret));
    } else if (tell && close_ret < 0) {
        img_error("Error while closing '%s': %s", name, strerror(-close_ret));
    }
    return flush_ret == 0 && close_ret == 0;
}

/* ---- JSON ---- */

static void indent(int depth)
{
    printf("%*s", depth * 4, "");
}

static void print_string(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\') {
            printf("\\%c", c);
        } else if (c < 0x20) {
            printf("\\u%04x", c);
        } else {
            putchar(c);
        }
    }
    putchar('"');
}

static void print_node(JsonNode *node, int depth);

static void print_object(JsonObject *obj, int depth)
{
    g_autoptr(GList) names = json_object_get_members(obj);

    printf("{\n");
    for (GList *l = names; l; l = l->next) {
        indent(depth + 1);
        print_string(l->data);
        printf(": ");
        print_node(json_object_get_member(obj, l->data), depth + 1);
        printf(l->next ? ",\n" : "\n");
    }
    indent(depth);
    printf("}");
}

static void print_array(JsonArray *a, int depth)
{
    guint n = json_array_get_length(a);

    printf("[\n");
    for (guint i = 0; i < n; i++) {
        indent(depth + 1);
        print_node(json_array_get_element(a, i), depth + 1);
        printf(i + 1 < n ? ",\n" : "\n");
    }
    indent(depth);
    printf("]");
}

static void print_node(JsonNode *node, int depth)
{
    GType t;

    switch (json_node_get_node_type(node)) {
    case JSON_NODE_OBJECT:
        print_object(json_node_get_object(node), depth);
        return;
    case JSON_NODE_ARRAY:
        print_array(json_node_get_array(node), depth);
        return;
    case JSON_NODE_NULL:
        printf("null");
        return;
    case JSON_NODE_VALUE:
        break;
    }
    t = json_node_get_value_type(node);
    if (t == G_TYPE_BOOLEAN) {
        printf(json_node_get_boolean(node) ? "true" : "false");
    } else if (t == G_TYPE_STRING) {
        print_string(json_node_get_string(node));
    } else {
        printf("%" G_GINT64_FORMAT, json_node_get_int(node));
    }
}

void img_print_json(JsonNode *node)
{
    print_node(node, 0);
    printf("\n");
}

int img_creatable(const char *format)
{
    int features = blk_format_features(format);

    if (features < 0) {
        img_error("Unknown file format '%s'", format);
    } else if (!(features & BLK_CAN_CREATE)) {
        img_error("Format driver '%s' does not support image creation", format);
        features = -1;
    }
    return features;
}
