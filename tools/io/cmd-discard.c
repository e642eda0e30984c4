/* SPDX-License-Identifier: MIT */
/* discard. */
#include "io.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static void discard_help(void)
{
    printf("\n"
           " discards a range of bytes from the given offset\n"
           "\n"
           " Example:\n"
           " 'discard 512 1k' - discards 1 kilobyte from 512 bytes into the file\n"
           "\n"
           " Discards a segment of the currently open file.\n"
           " -C, -- report statistics in a machine parsable format\n"
           " -q, -- quiet mode, do not show I/O statistics\n"
           "\n");
}

static int cmd_discard(int argc, char **argv)
{
    IoRequest r = { .kind = IO_DISCARD };
    int c, ret;

    while ((c = getopt(argc, argv, "Cq")) != -1) {
        switch (c) {
        case 'C':
            r.machine = true;
            break;
        case 'q':
            r.quiet = true;
            break;
        default:
            return command_usage(command_find("discard"));
        }
    }
    if (optind != argc - 2) {
        return command_usage(command_find("discard"));
    }
    ret = request_take_offset(&r, argv[optind]);
    ret = ret < 0 ? ret : request_take_bytes(&r, argv[optind + 1]);
    ret = ret < 0 ? ret : request_check_length(&r, argv[optind + 1]);
    if (ret < 0) {
        return ret;
    }
    ret = request_run(&r);
    if (ret < 0) {
        printf("discard failed: %s\n", strerror(-ret));
        return ret;
    }
    request_report(&r, "discard");
    return 0;
}

const IoCommand discard_commands[] = {
    { "discard", "d", cmd_discard, 2, -1, CMD_WRITES, "[-Cq] off len",
      "discards a number of bytes at a specified offset", discard_help },
    { NULL }
};
