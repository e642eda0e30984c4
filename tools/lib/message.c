/* SPDX-License-Identifier: MIT */
#include "message.h"

#include "process.h"

#include <stdio.h>

void tool_verror(const char *fmt, va_list ap)
{
    fprintf(stderr, "%s: ", process_name());
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
}

void tool_error(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    tool_verror(fmt, ap);
    va_end(ap);
}

void tool_warn_options(const Options *o)
{
    if (opts_kind(o, "backing") == OPT_STRING && !*opts_peek(o, "backing")) {
        tool_error("warning: Use of \"backing\": \"\" is deprecated; use \"backing\": null "
                   "instead");
    }
}

static void print_event(const char *line, void *opaque)
{
    fprintf(stderr, "%s\n", line);
}

void tool_watch(BlockBackend *blk)
{
    g_auto(GStrv) warnings = blk_warnings(blk);
    const char *name = blk_probed_raw(blk);

    blk_set_report(blk, print_event, NULL);
    for (int i = 0; warnings[i]; i++) {
        tool_error("%s", warnings[i]);
    }
    if (name) {
        fprintf(stderr,
                "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
                "         Automatically detecting the format is dangerous for raw images, write "
                "operations on block 0 will be restricted.\n"
                "         Specify the 'raw' format explicitly to remove the restrictions.\n",
                name);
    }
}
