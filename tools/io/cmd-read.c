/* SPDX-License-Identifier: MIT */
/* read, readv. */
#include "io.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

typedef struct ReadOpts {
    IoRequest r;
    bool vmstate, has_len;
    int64_t vstart, vlen; /* the part that must hold the pattern */
} ReadOpts;

static int take_number(const char *arg, int64_t *ret)
{
    *ret = cvtnum(arg);
    if (*ret < 0) {
        print_cvtnum_err(*ret, arg);
        return (int)*ret;
    }
    return 0;
}

/* Options of both commands; those that @letters does not have do not come. */
static int take_options(int argc, char **argv, const char *letters, ReadOpts *o)
{
    int c, ret = 0;

    while (ret == 0 && (c = getopt(argc, argv, letters)) != -1) {
        switch (c) {
        case 'b':
            o->vmstate = true;
            break;
        case 'C':
            o->r.machine = true;
            break;
        case 'l':
            o->has_len = true;
            ret = take_number(optarg, &o->vlen);
            break;
        case 'p':
        case 'r': /* all buffers are as good */
            break;
        case 'P':
            o->r.pattern = parse_pattern(optarg);
            ret = o->r.pattern < 0 ? -EINVAL : 0;
            break;
        case 'q':
            o->r.quiet = true;
            break;
        case 's':
            ret = take_number(optarg, &o->vstart);
            break;
        case 'v':
            o->r.verbose = true;
            break;
        default:
            return command_usage(command_find(argv[0]));
        }
    }
    return ret;
}

static void read_help(void)
{
    printf("\n"
           " reads a range of bytes from the given offset\n"
           "\n"
           " Example:\n"
           " 'read -v 512 1k' - dumps 1 kilobyte read from 512 bytes into the file\n"
           "\n"
           " Reads a segment of the currently open file, optionally dumping it to the\n"
           " standard output stream (with -v option) for subsequent inspection.\n"
           " -b, -- read from the VM state rather than the virtual disk\n"
           " -C, -- report statistics in a machine parsable format\n"
           " -l, -- length for pattern verification (only with -P)\n"
           " -p, -- ignored for backwards compatibility\n"
           " -P, -- use a pattern to verify read data\n"
           " -q, -- quiet mode, do not show I/O statistics\n"
           " -r, -- register I/O buffer\n"
           " -s, -- start offset for pattern verification (only with -P)\n"
           " -v, -- dump buffer to standard output\n"
           "\n");
}

static int check_options(ReadOpts *o)
{
    if (o->r.pattern < 0 && (o->has_len || o->vstart)) {
        return command_usage(command_find("read"));
    }
    if (!o->has_len) {
        o->vlen = o->r.bytes - o->vstart;
    }
    if (o->vlen < 0 || o->vlen > o->r.bytes - o->vstart) {
        printf("pattern verification range exceeds end of read data\n");
        return -EINVAL;
    }
    return o->vmstate ? request_check_sectors(&o->r) : 0;
}

static int cmd_read(int argc, char **argv)
{
    ReadOpts o = { .r = { .kind = IO_READ, .pattern = -1 } };
    int ret = take_options(argc, argv, "bCl:pP:qrs:v", &o);

    if (ret < 0) {
        return ret;
    }
    if (optind != argc - 2) {
        return command_usage(command_find("read"));
    }
    ret = request_take_offset(&o.r, argv[optind]);
    ret = ret < 0 ? ret : request_take_bytes(&o.r, argv[optind + 1]);
    ret = ret < 0 ? ret : request_check_length(&o.r, argv[optind + 1]);
    ret = ret < 0 ? ret : check_options(&o);
    ret = ret < 0 ? ret : request_make_buffer(&o.r, 0xab);
    if (ret < 0) {
        return ret;
    }
    o.r.kind = o.vmstate ? IO_LOAD_VMSTATE : IO_READ;
    ret = request_run(&o.r);
    if (ret < 0) {
        printf("read failed: %s\n", strerror(-ret));
    } else {
        ret = o.r.pattern >= 0 ? request_verify(&o.r, o.vstart, o.vlen) : 0;
        request_report(&o.r, "read");
    }
    request_clear(&o.r);
    return ret;
}

static void readv_help(void)
{
    printf("\n"
           " reads a range of bytes from the given offset into multiple buffers\n"
           "\n"
           " Example:\n"
           " 'readv -v 512 1k 1k ' - dumps 2 kilobytes read from 512 bytes into the file\n"
           "\n"
           " Reads a segment of the currently open file, optionally dumping it to the\n"
           " standard output stream (with -v option) for subsequent inspection.\n"
           " Uses multiple iovec buffers if more than one byte range is specified.\n"
           " -C, -- report statistics in a machine parsable format\n"
           " -P, -- use a pattern to verify read data\n"
           " -q, -- quiet mode, do not show I/O statistics\n"
           " -r, -- register I/O buffer\n"
           " -v, -- dump buffer to standard output\n"
           "\n");
}

static int cmd_readv(int argc, char **argv)
{
    ReadOpts o = { .r = { .kind = IO_READ, .pattern = -1 } };
    int ret = take_options(argc, argv, "CP:qrv", &o);

    if (ret < 0) {
        return ret;
    }
    if (optind > argc - 2) {
        return command_usage(command_find("readv"));
    }
    ret = request_take_offset(&o.r, argv[optind++]);
    ret = ret < 0 ? ret : request_make_vector(&o.r, &argv[optind], argc - optind, 0xab);
    if (ret < 0) {
        return ret;
    }
    ret = request_run(&o.r);
    if (ret < 0) {
        printf("readv failed: %s\n", strerror(-ret));
    } else {
        ret = o.r.pattern >= 0 ? request_verify(&o.r, 0, o.r.bytes) : 0;
        request_report(&o.r, "read");
    }
    request_clear(&o.r);
    return ret;
}

const IoCommand read_commands[] = {
    { "read", "r", cmd_read, 2, -1, 0, "[-abCqrv] [-P pattern [-s off] [-l len]] off len",
      "reads a number of bytes at a specified offset", read_help },
    { "readv", NULL, cmd_readv, 2, -1, 0, "[-Cqrv] [-P pattern] off len [len..]",
      "reads a number of bytes at a specified offset", readv_help },
    { NULL }
};
