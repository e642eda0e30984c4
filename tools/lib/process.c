/* SPDX-License-Identifier: MIT */
/* Signals and standard output, the same for each tool. */
#include "process.h"

#include "util/compiler.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *tool_name;
static int output_error = 1;

/* A pipe whose reader has seen enough is no news to anybody: the exit code says it. */
static void check_output(void)
{
    bool failed = ferror(stdout) != 0;
    int err = 0;

    errno = 0;
    if (fflush(stdout) == EOF) {
        failed = true;
        err = errno;
    }
    if (!failed) {
        return;
    }
    if (err != EPIPE) {
        fprintf(stderr, "%s: Could not write to standard output%s%s\n", tool_name, err ? ": " : "",
                err ? strerror(err) : "");
    }
    fflush(stderr);
    _exit(output_error);
}

void process_init(const char *name)
{
    tool_name = name;
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN); /* until there is progress to tell of */
    atexit(check_output);
}

const char *process_name(void)
{
    return tool_name;
}

void process_set_output_error(int exit_code)
{
    output_error = exit_code;
}
