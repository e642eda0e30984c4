/* SPDX-License-Identifier: MIT */
/* zone_*: words are checked; no driver here knows zones, which is what the reference says of plain
 * files. */
#include "io.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int refuse(char **argv, int nr, const char *what)
{
    for (int i = 1; i <= nr; i++) {
        int64_t n = cvtnum(argv[i]);

        if (n < 0) {
            print_cvtnum_err(n, argv[i]);
            return (int)n;
        }
    }
    printf("%s failed: %s\n", what, strerror(ENOTSUP));
    return -ENOTSUP;
}

static int cmd_zone_report(int argc, char **argv)
{
    return refuse(argv, 2, "zone report");
}

static int cmd_zone_open(int argc, char **argv)
{
    return refuse(argv, 2, "zone open");
}

static int cmd_zone_close(int argc, char **argv)
{
    return refuse(argv, 2, "zone close");
}

static int cmd_zone_finish(int argc, char **argv)
{
    return refuse(argv, 2, "zone finish");
}

static int cmd_zone_reset(int argc, char **argv)
{
    return refuse(argv, 2, "zone reset");
}

static int cmd_zone_append(int argc, char **argv)
{
    return refuse(argv, argc - 1, "zone append");
}

const IoCommand zone_commands[] = {
    { "zone_report", "zrp", cmd_zone_report, 2, 2, 0, "offset number", "report zone information",
      NULL },
    { "zone_open", "zo", cmd_zone_open, 2, 2, 0, "offset len",
      "explicit open a range of zones in zone block device", NULL },
    { "zone_close", "zc", cmd_zone_close, 2, 2, 0, "offset len",
      "close a range of zones in zone block device", NULL },
    { "zone_finish", "zf", cmd_zone_finish, 2, 2, 0, "offset len",
      "finish a range of zones in zone block device", NULL },
    { "zone_reset", "zrs", cmd_zone_reset, 2, 2, 0, "offset len",
      "reset a zone write pointer in zone block device", NULL },
    { "zone_append", "zap", cmd_zone_append, 3, 4, 0, "offset len [len..]",
      "append write a number of bytes at a specified offset", NULL },
    { NULL }
};
