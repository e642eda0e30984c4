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
    "  --object DEFINITION           objects such as secrets: refused, there are none yet\n"
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

int img_print_create_options(const char *filename, const char *format)
{
    static const char *const types[] = { "str", "bool (on/off)", "num", "size" };
    GError *err = NULL;
    g_autofree BlockCreateOption *o = blk_create_options(filename, format, &err);
    size_t n = 0;

    if (!o) {
        img_error_from(err, NULL);
        return 1;
    }
    while (o[n].name) {
        n++;
    }
    qsort(o, n, sizeof(*o), by_name);
    printf("Supported %s%soptions:\n", filename ? "" : format, filename ? "" : " ");
    for (size_t i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("%s=<%s>", o[i].name, types[o[i].type]);

        printf("  %-22s - %s\n", name, o[i].help);
    }
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

int img_create(int argc, char **argv)
{
    static const struct option longs[] = { { "help", no_argument, NULL, 'h' },
                                           { "object", required_argument, NULL, OPT_OBJECT },
                                           { "format", required_argument, NULL, 'f' },
                                           { "options", required_argument, NULL, 'o' },
                                           { "backing", required_argument, NULL, 'b' },
                                           { "backing-format", required_argument, NULL, 'F' },
                                           { "backing-unsafe", no_argument, NULL, 'u' },
                                           { "quiet", no_argument, NULL, 'q' },
                                           { NULL } };
    BlockCreateParams p = { .format = "raw", .size = -1 };
    g_autofree char *options = NULL;
    Options *told = NULL;
    GError *err = NULL;
    bool quiet = false, ok;
    int c;

    while ((c = getopt_long(argc, argv, "F:b:f:ho:qu", longs, NULL)) != -1) {
        switch (c) {
        case 'h':
            img_help(help_text);
        case 'F':
            p.base_format = optarg;
            break;
        case 'b':
            p.base_filename = optarg;
            break;
        case 'f':
            p.format = optarg;
            break;
        case 'o':
            if (!img_add_options(&options, optarg)) {
                return 1;
            }
            break;
        case 'q':
            quiet = true;
            break;
        case 'u':
            p.no_backing_open = true;
            break;
        case OPT_OBJECT:
            img_refuse_object(optarg, 1);
        default:
            img_unknown_option("create");
        }
    }
    p.filename = optind < argc ? argv[optind++] : NULL;
    if (options && img_is_help(options)) {
        return img_print_create_options(p.filename, p.format);
    }
    if (!p.filename) {
        img_usage_error("create", "Expecting image file name");
    }
    if (optind < argc) {
        p.size = img_size_arg("image size", argv[optind++], 0, INT64_MAX);
        if (p.size < 0) {
            return 1;
        }
    }
    if (optind != argc) {
        img_usage_error("create", "Unexpected argument: %s", argv[optind]);
    }
    p.opts = opts_new();
    ok = (!options || opts_parse(p.opts, options, NULL, &err)) && blk_create_image(&p, &told, &err);
    if (told && !quiet) {
        printf("Formatting '%s', fmt=%s", p.filename, p.format);
        opts_foreach(told, print_opt, NULL);
        printf("\n");
    }
    opts_free(told);
    opts_free(p.opts); /* where it was not used */
    if (!ok) {
        img_error("%s: %s", p.filename, err->message);
        g_error_free(err);
        return 1;
    }
    return 0;
}
