/* SPDX-License-Identifier: MIT */
/* What looks at an image or steers the tool: flush, length, map, break, sleep … */
#include "io.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int command_help(int argc, char **argv);

static int cmd_flush(int argc, char **argv)
{
    return blk_flush(tool.blk); /* the exit code tells */
}

static int find_prealloc(const char *name)
{
    for (int i = 0; blk_prealloc_names[i]; i++) {
        if (!strcmp(blk_prealloc_names[i], name)) {
            return i;
        }
    }
    return -1;
}

static int cmd_truncate(int argc, char **argv)
{
    GError *err = NULL;
    int64_t size;
    int c, ret, prealloc = BLK_PREALLOC_OFF;

    while ((c = getopt(argc, argv, "m:")) != -1) {
        if (c != 'm') {
            return command_usage(command_find("truncate"));
        }
        prealloc = find_prealloc(optarg);
        if (prealloc < 0) {
            tool_error("Invalid preallocation mode '%s'", optarg);
            return -EINVAL;
        }
    }
    if (optind >= argc) { /* more words are not looked at */
        return command_usage(command_find("truncate"));
    }
    size = cvtnum(argv[optind]);
    if (size < 0) {
        print_cvtnum_err(size, argv[optind]);
        return (int)size;
    }
    ret = blk_truncate(tool.blk, size, false, (BlockPrealloc)prealloc, 0, &err);
    if (ret < 0) {
        print_error(err);
    }
    return ret;
}

static int cmd_length(int argc, char **argv)
{
    int64_t size = blk_getlength(tool.blk);
    char s[64];

    if (size < 0) {
        printf("getlength: %s\n", strerror((int)-size));
        return (int)size;
    }
    cvt_bytes((double)size, s, sizeof(s));
    printf("%s\n", s);
    return 0;
}

static int cmd_info(int argc, char **argv)
{
    BlockDriverInfo info = { 0 };
    char s1[64], s2[64];

    (void)blk_get_info(blk_bs(tool.blk), &info);
    cvt_bytes(info.cluster_size, s1, sizeof(s1));
    cvt_bytes((double)info.vm_state_offset, s2, sizeof(s2));
    printf("format name: %s\n", blk_driver_name(blk_bs(tool.blk)));
    printf("cluster size: %s\n", s1);
    printf("vm state offset: %s\n", s2);
    print_specific_info(tool.blk);
    return 0;
}

static int cmd_alloc(int argc, char **argv)
{
    int64_t start = cvtnum(argv[1]), offset, count = 512, size, sum = 0, remaining, num;
    char s[64];
    int ret;

    if (start < 0) {
        print_cvtnum_err(start, argv[1]);
        return (int)start;
    }
    if (argc == 3) {
        count = cvtnum(argv[2]);
        if (count < 0) {
            print_cvtnum_err(count, argv[2]);
            return (int)count;
        }
    }
    size = blk_getlength(tool.blk);
    if (size < 0) {
        printf("getlength: %s\n", strerror((int)-size));
        return (int)size;
    }
    if (start > size) {
        count = 0;
    } else if (count > size - start) {
        count = size - start;
    }
    offset = start;
    remaining = count;
    while (remaining) {
        ret = blk_is_allocated(tool.blk, offset, remaining, &num);
        if (ret < 0) {
            printf("is_allocated failed: %s\n", strerror(-ret));
            return ret;
        }
        offset += num;
        remaining -= num;
        sum += ret ? num : 0;
        if (num == 0) {
            break;
        }
    }
    cvt_bytes((double)start, s, sizeof(s));
    printf("%" G_GINT64_FORMAT "/%" G_GINT64_FORMAT " bytes allocated at offset %s\n", sum, count,
           s);
    return 0;
}

static int run_length(int64_t offset, int64_t left, int64_t *pnum)
{
    int64_t num;
    int first = blk_is_allocated(tool.blk, offset, left, &num), ret;

    if (first < 0) {
        return first;
    }
    *pnum = num;
    while (*pnum < left && num > 0) {
        ret = blk_is_allocated(tool.blk, offset + *pnum, left - *pnum, &num);
        if (ret != first || num == 0) {
            break;
        }
        *pnum += num;
    }
    return first;
}

static int cmd_map(int argc, char **argv)
{
    int64_t offset = 0, left = blk_getlength(tool.blk), num;
    char s1[64], s2[64];

    if (left < 0) {
        tool_error("Failed to query image length: %s", strerror((int)-left));
        return (int)left;
    }
    while (left > 0) {
        int ret = run_length(offset, left, &num);

        if (ret < 0) {
            tool_error("Failed to get allocation status: %s", strerror(-ret));
            return ret;
        }
        if (num == 0) {
            tool_error("Unexpected end of image");
            return -EIO;
        }
        cvt_bytes((double)num, s1, sizeof(s1));
        cvt_bytes((double)offset, s2, sizeof(s2));
        printf("%s (0x%" G_GINT64_MODIFIER
               "x) bytes %s allocated at offset %s (0x%" G_GINT64_MODIFIER "x)\n",
               s1, num, ret ? "   " : "not", s2, offset);
        offset += num;
        left -= num;
    }
    return 0;
}

/* ---- Breakpoints ---- */

static int cmd_break(int argc, char **argv)
{
    int ret = blk_debug_breakpoint(tool.blk, argv[1], argv[2]);

    if (ret < 0) {
        printf("Could not set breakpoint: %s\n", strerror(-ret));
    }
    return ret;
}

static int cmd_remove_break(int argc, char **argv)
{
    int ret = blk_debug_remove_breakpoint(tool.blk, argv[1]);

    if (ret < 0) {
        printf("Could not remove breakpoint %s: %s\n", argv[1], strerror(-ret));
    }
    return ret;
}

static int cmd_resume(int argc, char **argv)
{
    int ret = blk_debug_resume(tool.blk, argv[1]);

    if (ret < 0) {
        printf("Could not resume request: %s\n", strerror(-ret));
    }
    return ret;
}

static int cmd_wait_break(int argc, char **argv)
{
    AIO_WAIT_WHILE(aio_current(), !blk_debug_is_suspended(tool.blk, argv[1]));
    return 0;
}

/* ---- The tool itself ---- */

static int cmd_abort(int argc, char **argv)
{
    abort();
}

static void sigraise_help(void)
{
    printf("\n"
           " raises the given signal\n"
           "\n"
           " Example:\n"
           " 'sigraise %d' - raises SIGTERM\n"
           "\n"
           " Invokes raise(signal), where \"signal\" is the mandatory integer argument\n"
           " given to sigraise.\n"
           "\n",
           SIGTERM);
}

static int cmd_sigraise(int argc, char **argv)
{
    int64_t sig = cvtnum(argv[1]);

    if (sig < 0) {
        print_cvtnum_err(sig, argv[1]);
        return (int)sig;
    }
    if (sig > NSIG) {
        printf("signal argument '%s' is too large to be a valid signal\n", argv[1]);
        return -EINVAL;
    }
    /* What was printed may be asked for after a kill. */
    fflush(stdout);
    raise((int)sig);
    return 0;
}

static void set_flag(void *opaque)
{
    *(bool *)opaque = true;
}

static int cmd_sleep(int argc, char **argv)
{
    char *end;
    long ms;
    bool over = false;
    AioTimer *t;

    errno = 0;
    ms = strtol(argv[1], &end, 0);
    if (errno || end == argv[1] || *end || ms < 0) {
        printf("%s is not a valid number\n", argv[1]);
        return -EINVAL;
    }
    t = aio_timer_new(aio_current(), set_flag, &over);
    aio_timer_mod(t, aio_clock_ns() + ms * INT64_C(1000000));
    AIO_WAIT_WHILE(aio_current(), !over);
    aio_timer_free(t);
    return 0;
}

static int cmd_quit(int argc, char **argv)
{
    tool.quit = true;
    return 0;
}

const IoCommand misc_commands[] = {
    { "flush", "f", cmd_flush, 0, 0, 0, NULL, "flush all in-core file state to disk", NULL },
    { "truncate", "t", cmd_truncate, 1, 3, 0, "[-m prealloc_mode] off",
      "truncates the current file at the given offset", NULL },
    { "length", "l", cmd_length, 0, 0, 0, NULL, "gets the length of the current file", NULL },
    { "info", "i", cmd_info, 0, 0, 0, NULL, "prints information about the current file", NULL },
    { "alloc", "a", cmd_alloc, 1, 2, 0, "offset [count]",
      "checks if offset is allocated in the file", NULL },
    { "map", NULL, cmd_map, 0, 0, 0, "", "prints the allocated areas of a file", NULL },
    { "break", NULL, cmd_break, 2, 2, 0, "event tag",
      "sets a breakpoint on event and tags the stopped request as tag", NULL },
    { "remove_break", NULL, cmd_remove_break, 1, 1, 0, "tag", "remove a breakpoint by tag", NULL },
    { "resume", NULL, cmd_resume, 1, 1, 0, "tag", "resumes the request tagged as tag", NULL },
    { "wait_break", NULL, cmd_wait_break, 1, 1, 0, "tag", "waits for the suspension of a request",
      NULL },
    { "abort", NULL, cmd_abort, 0, 0, CMD_NOFILE_OK, NULL,
      "simulate a program crash using abort(3)", NULL },
    { "sigraise", NULL, cmd_sigraise, 1, 1, CMD_NOFILE_OK, "signal", "raises a signal",
      sigraise_help },
    { "sleep", NULL, cmd_sleep, 1, 1, CMD_NOFILE_OK, NULL,
      "waits for the given value in milliseconds", NULL },
    { "help", "?", command_help, 0, 1, CMD_NOFILE_OK, "[command]", "help for one or all commands",
      NULL },
    { "quit", "q", cmd_quit, -1, 0, CMD_NOFILE_OK, NULL, "exit the program", NULL },
    { NULL }
};
