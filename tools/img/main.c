/* SPDX-License-Identifier: MIT */
/* cowlet-img: create, look at, compare and convert images. */
#include "img.h"

#include "config-host.h"
#include "tools/lib/process.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *progname, *calledname;

static const struct {
    const char *name;
    int (*fn)(int argc, char **argv);
    const char *what;
} commands[] = {
    { "amend", img_amend, "change options of an image" },
    { "bench", img_bench, "run a simple benchmark on an image" },
    { "bitmap", img_bitmap, "change persistent bitmaps of an image" },
    { "check", img_check, "check an image for errors and leaks" },
    { "commit", img_commit, "put what an image holds into its backing file" },
    { "compact", img_compact, "make the file of an image shorter, in place" },
    { "compare", img_compare, "compare the content of two images" },
    { "convert", img_convert, "copy images to another format" },
    { "create", img_create, "create an image" },
    { "dd", img_dd, "copy blocks of an image to a new one" },
    { "info", img_info, "tell facts about an image" },
    { "map", img_map, "tell where an image's data lies" },
    { "measure", img_measure, "tell how long the file of a new image will be" },
    { "rebase", img_rebase, "put an image over another backing file" },
    { "resize", img_resize, "make the disk of an image longer or shorter" },
    { "snapshot", img_snapshot, "list, create, apply and delete internal snapshots" },
};

static void help(void)
{
    printf("%s version " COWLET_VERSION "\n"
           "Makes, copies and looks at disk images of virtual machines.\n"
           "\n"
           "Usage: %s [OPTIONS] COMMAND [OPTIONS OF THE COMMAND]\n"
           "\n"
           "  -h, --help         this text\n"
           "  -V, --version      the version\n"
           "  -T, --trace TRACE  accepted; there are no trace events\n"
           "\n"
           "Commands:\n",
           progname, progname);
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        printf("  %-10s %s\n", commands[i].name, commands[i].what);
    }
    printf("\n'%s COMMAND --help' tells the options of a command. An image is named by its file, "
           "as json:{…}, or\n"
           "with --image-opts by an option string.\n\nSupported image formats:\n ",
           progname);

    g_auto(GStrv) names = blk_format_names();

    for (int i = 0; names[i]; i++) {
        printf(" %s", names[i]);
    }
    printf("\n");
    exit(0);
}

/* There are no trace events here: patterns match nothing, as the reference says of unknown ones. */
static void trace_option(const char *arg)
{
    if (g_str_has_prefix(arg, "file=") || g_str_has_prefix(arg, "events=")) {
        img_error("Tracing is not supported: -T %s", arg);
        exit(1);
    }
    img_error("warning: trace event '%s' does not exist",
              g_str_has_prefix(arg, "enable=") ? arg + 7 : arg);
}

/* Options before the command; the index of the command. */
static int standard_options(int argc, char **argv)
{
    static const struct option longs[] = { { "help", no_argument, NULL, 'h' },
                                           { "version", no_argument, NULL, 'V' },
                                           { "trace", required_argument, NULL, 'T' },
                                           { NULL } };
    int c;

    while ((c = getopt_long(argc, argv, "+hVT:", longs, NULL)) != -1) {
        switch (c) {
        case 'h':
            help();
            break;
        case 'V':
            printf("%s version " COWLET_VERSION "\n", progname);
            exit(0);
        case 'T':
            trace_option(optarg);
            break;
        default:
            fprintf(stderr, "Try '%s --help' for more info\n", calledname);
            exit(1);
        }
    }
    c = optind;
    optind = 0; /* the command's own begin anew */
    return c;
}

int main(int argc, char **argv)
{
    int at;

    calledname = argv[0];
    progname = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    process_init(progname);
    at = standard_options(argc, argv);
    if (at >= argc) {
        img_usage_error(NULL, "Not enough arguments");
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (!strcmp(argv[at], commands[i].name)) {
            /* getopt tells errors by argv[0]. */
            g_autofree char *name = g_strdup_printf("%s %s", argv[0], argv[at]);

            argv[at] = name;
            return commands[i].fn(argc - at, argv + at);
        }
    }
    img_usage_error(NULL, "Command not found: %s", argv[at]);
}
