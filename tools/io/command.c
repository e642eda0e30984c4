/* SPDX-License-Identifier: MIT */
/* A command line: words, look-up, number of arguments. */
#include "io.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ARGS 1024

static const IoCommand *const groups[] = { read_commands, write_commands, discard_commands,
                                           aio_commands,  zone_commands,  misc_commands,
                                           file_commands, reopen_commands };

const IoCommand *command_find(const char *name)
{
    for (unsigned g = 0; g < G_N_ELEMENTS(groups); g++) {
        for (const IoCommand *c = groups[g]; c->name; c++) {
            if (!strcmp(name, c->name) || (c->altname && !strcmp(name, c->altname))) {
                return c;
            }
        }
    }
    return NULL;
}

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp((*(const IoCommand *const *)a)->name, (*(const IoCommand *const *)b)->name);
}

static void print_oneline(const char *name, const IoCommand *c)
{
    if (name) {
        printf("%s ", name);
    } else {
        printf("%s ", c->name);
    }
    if (c->args) {
        printf("%s ", c->args);
    }
    printf("-- %s\n", c->oneline);
}

int command_usage(const IoCommand *c)
{
    print_oneline(NULL, c);
    return -EINVAL;
}

static void help_all(void)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();

    for (unsigned g = 0; g < G_N_ELEMENTS(groups); g++) {
        for (const IoCommand *c = groups[g]; c->name; c++) {
            g_ptr_array_add(all, (gpointer)c);
        }
    }
    g_ptr_array_sort(all, by_name);
    for (guint i = 0; i < all->len; i++) {
        print_oneline(NULL, g_ptr_array_index(all, i));
    }
    printf("\nUse 'help commandname' for extended help.\n");
}

int command_help(int argc, char **argv);
int command_help(int argc, char **argv)
{
    const IoCommand *c;

    if (argc < 2) {
        help_all();
        return 0;
    }
    c = command_find(argv[1]);
    if (!c) {
        printf("command %s not found\n", argv[1]);
        return -EINVAL;
    }
    print_oneline(argv[1], c);
    if (c->help) {
        c->help();
    }
    return 0;
}

static int wrong_count(const IoCommand *c, const char *typed, int n)
{
    if (c->argmax == -1) {
        fprintf(stderr, "bad argument count %d to %s, expected at least %d arguments\n", n, typed,
                c->argmin);
    } else if (c->argmin == c->argmax) {
        fprintf(stderr, "bad argument count %d to %s, expected %d arguments\n", n, typed,
                c->argmin);
    } else {
        fprintf(stderr, "bad argument count %d to %s, expected between %d and %d arguments\n", n,
                typed, c->argmin, c->argmax);
    }
    return -EINVAL;
}

int command_run(const char *line)
{
    g_autofree char *copy = g_strdup(line);
    char *argv[MAX_ARGS + 1], *save = NULL;
    const IoCommand *c;
    int argc = 0, n;

    for (char *w = strtok_r(copy, " ", &save); w && argc < MAX_ARGS;
         w = strtok_r(NULL, " ", &save)) {
        argv[argc++] = w;
    }
    argv[argc] = NULL;
    if (argc == 0) {
        return 0;
    }
    c = command_find(argv[0]);
    if (!c) {
        fprintf(stderr, "command \"%s\" not found\n", argv[0]);
        return -EINVAL;
    }
    if (!(c->flags & CMD_NOFILE_OK) && !tool.blk) {
        fprintf(stderr, "no file open, try 'help open'\n");
        return -EINVAL;
    }
    n = argc - 1;
    if (c->argmin >= 0 && (n < c->argmin || (c->argmax != -1 && n > c->argmax))) {
        return wrong_count(c, argv[0], n);
    }
    if ((c->flags & CMD_WRITES) && !blk_is_writable(tool.blk)) {
        tool_error("Block node is read-only");
        return -EPERM;
    }
    optind = 0; /* glibc: begin anew */
    return c->fn(argc, argv);
}
