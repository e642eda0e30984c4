/* SPDX-License-Identifier: MIT */
/* Commands from standard input. While it waits for one the loop runs, so that aio_* requests end
 * and say so. */
#include "io.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHUNK 4096

typedef struct Input {
    GString *text; /* read, not yet taken */
    bool ready, end;
    int error; /* -errno: why it ended */
} Input;

static void on_readable(void *opaque)
{
    ((Input *)opaque)->ready = true;
}

/* More text, or the end. */
static void fill(Input *in)
{
    char buf[CHUNK];
    ssize_t n;

    aio_set_fd_handler(aio_current(), STDIN_FILENO, on_readable, NULL, in);
    in->ready = false;
    AIO_WAIT_WHILE(aio_current(), !in->ready);
    aio_set_fd_handler(aio_current(), STDIN_FILENO, NULL, NULL, NULL);
    n = read(STDIN_FILENO, buf, sizeof(buf));
    if (n > 0) {
        g_string_append_len(in->text, buf, n);
    } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
        in->error = n < 0 ? -errno : 0;
        in->end = true;
    }
}

/* The next line, g_free(); NULL: no more. */
static char *take_line(Input *in)
{
    char *line;
    gsize len;

    while (!strchr(in->text->str, '\n') && !in->end) {
        fill(in);
    }
    if (in->text->len == 0) {
        return NULL;
    }
    len = strcspn(in->text->str, "\n");
    line = g_strndup(in->text->str, len);
    g_string_erase(in->text, 0, (gssize)MIN(len + 1, in->text->len));
    return line;
}

int run_input(void)
{
    Input in = { .text = g_string_new(NULL) };
    int ret = 0;

    while (!tool.quit) {
        g_autofree char *line = NULL;

        printf("%s> ", tool.progname);
        fflush(stdout);
        while (aio_poll(aio_current(), false)) { /* what has ended by now says so */
        }
        line = take_line(&in);
        if (!line) {
            break;
        }
        if (command_run(line) < 0) {
            ret = -1;
        }
    }
    if (in.error < 0) {
        tool_error("Could not read from standard input: %s", strerror(-in.error));
    }
    g_string_free(in.text, TRUE);
    return in.error < 0 ? in.error : ret;
}
