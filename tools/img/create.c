/* SPDX-License-Identifier: MIT */
/* create */
#include "img.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help_text[] =
    "create [OPTIONS] FILE [SIZE]\n"
    "Makes a new image. SIZE may be left out where a backing file has one.\n"
    "\n"
    "  -f, --format FORMAT           format of the new image (raw)\n"
    "  -o, --options OPTIONS         options of the format, key=value,…; 'help' lists them\n"
    "  -b, --backing FILE            the new image is an overlay over FILE\n"
    "  -F, --backing-format FORMAT   format of the backing file (needed with -b)\n"
    "  -u, --backing-unsafe          do not look at the backing file; SIZE is needed\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -q, --quiet                   print errors only\n"
    "  -h, --help                    this text\n"
    "\n"
    "Sizes are in bytes, or with a suffix k, M, G, T, P or E for powers of 1024.\n";

/* Behind the element at @s: its comma or the end (",," is part of it). */
static const char *element_end(const char *s)
{
    while (*s && (*s != ',' || s[1] == ',')) {
        s += *s == ',' ? 2 : 1;
    }
    return s;
}

bool img_is_help(const char *opts)
{
    for (const char *end; *opts; opts = *end ? end + 1 : end) {
        size_t n;

        end = element_end(opts);
        n = (size_t)(end - opts);
        if ((n == 4 && !strncmp(opts, "help", 4)) || (n == 1 && *opts == '?')) {
            return true;
        }
    }
    return false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const BlockCreateOption *)a)->name, ((const BlockCreateOption *)b)->name);
}

void img_print_options(BlockCreateOption *o)
{
    static const char *const types[] = { "str", "bool (on/off)", "num", "size" };
    size_t n = 0;

    while (o[n].name) {
        n++;
    }
    qsort(o, n, sizeof(*o), by_name);
    for (size_t i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("%s=<%s>", o[i].name, types[o[i].type]);

        printf("  %-22s - %s\n", name, o[i].help);
    }
}

int img_print_create_options(const char *filename, const char *format)
{
    GError *err = NULL;
    g_autofree BlockCreateOption *o = blk_create_options(filename, format, &err);

    if (!o) {
        img_error_from(err, NULL);
        return 1;
    }
    printf("Supported %s%soptions:\n", filename ? "" : format, filename ? "" : " ");
    img_print_options(o);
    if (!filename) {
        printf("\nThe protocol level may support further options.\n"
               "Specify the target filename to include those options.\n");
    }
    return 0;
}

static void print_opt(const char *key, const char *value, void *opaque)
{
    printf(" %s=", key);
    for (; *value; value++) { /* as -o would take it again */
        printf(*value == ',' ? ",," : "%c", *value);
    }
}

typedef struct CreateArgs {
    BlockCreateParams p;
    char *options;
    bool quiet;
} CreateArgs;

static bool take_options(const ToolArg *a, void *record, void *field, const char *value)
{
    return img_add_options(&((CreateArgs *)record)->options, value);
}

#define FIELD(f) .at = offsetof(CreateArgs, f)
static const ToolArg create_args[] = { { "help", 'h', ARG_DO, .what = help_text,
                                         .call = img_show_help },
                                       { "object", 0, ARG_TAKE, .call = object_take },
                                       { "format", 'f', ARG_TEXT, FIELD(p.format) },
                                       { "options", 'o', ARG_TAKE, .call = take_options },
                                       { "backing", 'b', ARG_TEXT, FIELD(p.base_filename) },
                                       { "backing-format", 'F', ARG_TEXT, FIELD(p.base_format) },
                                       { "backing-unsafe", 'u', ARG_SET, FIELD(p.no_backing_open) },
                                       { "quiet", 'q', ARG_SET, FIELD(quiet) },
                                       { NULL } };
#undef FIELD

static int create(CreateArgs *a)
{
    BlockCreateParams *p = &a->p;
    Options *told = NULL;
    GError *err = NULL;
    bool ok;

    p->opts = opts_new();
    object_add_secrets(p->opts);
    ok = (!a->options || opts_parse(p->opts, a->options, NULL, &err)) &&
         blk_create_image(p, &told, &err);
    if (told && !a->quiet) {
        printf("Formatting '%s', fmt=%s", p->filename, p->format);
        opts_foreach(told, print_opt, NULL);
        printf("\n");
    }
    opts_free(told);
    opts_free(p->opts); /* where it was not used */
    if (!ok) {
        img_error("%s: %s", p->filename, err->message);
        g_error_free(err);
        return 1;
    }
    return 0;
}

static int run(CreateArgs *a, int argc, char **argv)
{
    a->p.filename = optind < argc ? argv[optind++] : NULL;
    if (a->options && img_is_help(a->options)) {
        return img_print_create_options(a->p.filename, a->p.format);
    }
    if (!a->p.filename) {
        img_usage_error("create", "Expecting image file name");
    }
    if (optind < argc) {
        a->p.size = arg_size("image size", argv[optind++], 0, INT64_MAX);
        if (a->p.size < 0) {
            return 1;
        }
    }
    if (optind != argc) {
        img_usage_error("create", "Unexpected argument: %s", argv[optind]);
    }
    return create(a);
}

int img_create(int argc, char **argv)
{
    CreateArgs a = { .p = { .format = "raw", .size = -1 } };
    int ret;

    img_take_args("create", create_args, argc, argv, &a);
    ret = run(&a, argc, argv);
    g_free(a.options);
    return ret;
}
