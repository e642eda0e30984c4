/* SPDX-License-Identifier: MIT */
/* write, writev. */
#include "io.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

typedef struct WriteOpts {
    IoRequest r;
    bool vmstate, compressed, zero, has_pattern, registered;
    const char *source;
} WriteOpts;

/* Options of both commands; those that @letters does not have do not come. */
static int take_options(int argc, char **argv, const char *letters, WriteOpts *w)
{
    int c;

    while ((c = getopt(argc, argv, letters)) != -1) {
        switch (c) {
        case 'b':
            w->vmstate = true;
            break;
        case 'c':
            w->compressed = true;
            break;
        case 'C':
            w->r.machine = true;
            break;
        case 'f':
            w->r.flags |= BLK_REQ_FUA;
            break;
        case 'n':
            w->r.flags |= BLK_REQ_NO_FALLBACK;
            break;
        case 'p':
            break;
        case 'P':
            w->has_pattern = true;
            w->r.pattern = parse_pattern(optarg);
            if (w->r.pattern < 0) {
                return -EINVAL;
            }
            break;
        case 'q':
            w->r.quiet = true;
            break;
        case 'r': /* all buffers are as good */
            w->registered = true;
            break;
        case 's':
            w->source = optarg;
            break;
        case 'u':
            w->r.flags |= BLK_REQ_MAY_UNMAP;
            break;
        case 'z':
            w->zero = true;
            break;
        default:
            return command_usage(command_find(argv[0]));
        }
    }
    return 0;
}

static void write_help(void)
{
    printf("\n"
           " writes a range of bytes from the given offset\n"
           "\n"
           " Example:\n"
           " 'write 512 1k' - writes 1 kilobyte at 512 bytes into the open file\n"
           "\n"
           " Writes into a segment of the currently open file, using a buffer\n"
           " filled with a set pattern (0xcdcdcdcd).\n"
           " -b, -- write to the VM state rather than the virtual disk\n"
           " -c, -- write compressed data with blk_write_compressed\n"
           " -C, -- report statistics in a machine parsable format\n"
           " -f, -- use Force Unit Access semantics\n"
           " -n, -- with -z, don't allow slow fallback\n"
           " -p, -- ignored for backwards compatibility\n"
           " -P, -- use different pattern to fill file\n"
           " -q, -- quiet mode, do not show I/O statistics\n"
           " -r, -- register I/O buffer\n"
           " -s, -- use a pattern file to fill the write buffer\n"
           " -u, -- with -z, allow unmapping\n"
           " -z, -- write zeroes using blk_pwrite_zeroes\n"
           "\n");
}

static int check_options(const WriteOpts *w)
{
    const char *complaint = NULL;

    if (w->vmstate && w->zero) {
        complaint = "-b and -z cannot be specified at the same time";
    } else if ((w->r.flags & BLK_REQ_FUA) && (w->vmstate || w->compressed)) {
        complaint = "-f and -b or -c cannot be specified at the same time";
    } else if ((w->r.flags & BLK_REQ_NO_FALLBACK) && !w->zero) {
        complaint = "-n requires -z to be specified";
    } else if ((w->r.flags & BLK_REQ_MAY_UNMAP) && !w->zero) {
        complaint = "-u requires -z to be specified";
    } else if (w->zero + w->has_pattern + (w->source != NULL) > 1) {
        complaint = "Only one of -z, -P, and -s can be specified at the same time";
    }
    if (complaint) {
        printf("%s\n", complaint);
        return -EINVAL;
    }
    return 0;
}

static int check_length(const WriteOpts *w, const char *arg)
{
    if (w->r.bytes > REQUEST_MAX && !(w->r.flags & BLK_REQ_NO_FALLBACK)) {
        printf("length cannot exceed %" G_GINT64_FORMAT " without -n, given %s\n", REQUEST_MAX,
               arg);
        return -EINVAL;
    }
    return w->vmstate || w->compressed ? request_check_sectors(&w->r) : 0;
}

static int make_data(WriteOpts *w)
{
    if (!w->zero) {
        return w->source ? request_fill_from_file(&w->r, w->source)
                         : request_make_buffer(&w->r, w->r.pattern);
    }
    if (w->registered) {
        printf("cannot combine zero write with registered I/O buffer\n");
        return -EINVAL;
    }
    return 0;
}

static int cmd_write(int argc, char **argv)
{
    WriteOpts w = { .r = { .kind = IO_WRITE, .pattern = 0xcd } };
    int ret = take_options(argc, argv, "bcCfnpP:qrs:uz", &w);

    if (ret < 0) {
        return ret;
    }
    if (optind != argc - 2) {
        return command_usage(command_find("write"));
    }
    ret = check_options(&w);
    ret = ret < 0 ? ret : request_take_offset(&w.r, argv[optind]);
    ret = ret < 0 ? ret : request_take_bytes(&w.r, argv[optind + 1]);
    ret = ret < 0 ? ret : check_length(&w, argv[optind + 1]);
    ret = ret < 0 ? ret : make_data(&w);
    if (ret < 0) {
        return ret;
    }
    if (w.vmstate) {
        w.r.kind = IO_SAVE_VMSTATE;
    } else if (w.zero) {
        w.r.kind = IO_WRITE_ZEROES;
    } else if (w.compressed) {
        w.r.kind = IO_WRITE_COMPRESSED;
    }
    ret = request_run(&w.r);
    if (ret < 0) {
        printf("write failed: %s\n", strerror(-ret));
    } else {
        request_report(&w.r, "wrote");
    }
    request_clear(&w.r);
    return ret;
}

static void writev_help(void)
{
    printf("\n"
           " writes a range of bytes from the given offset source from multiple buffers\n"
           "\n"
           " Example:\n"
           " 'writev 512 1k 1k' - writes 2 kilobytes at 512 bytes into the open file\n"
           "\n"
           " Writes into a segment of the currently open file, using a buffer\n"
           " filled with a set pattern (0xcdcdcdcd).\n"
           " -C, -- report statistics in a machine parsable format\n"
           " -f, -- use Force Unit Access semantics\n"
           " -P, -- use different pattern to fill file\n"
           " -q, -- quiet mode, do not show I/O statistics\n"
           " -r, -- register I/O buffer\n"
           "\n");
}

static int cmd_writev(int argc, char **argv)
{
    WriteOpts w = { .r = { .kind = IO_WRITE, .pattern = 0xcd } };
    int ret = take_options(argc, argv, "CfqrP:", &w);

    if (ret < 0) {
        return ret;
    }
    if (optind > argc - 2) {
        return command_usage(command_find("writev"));
    }
    ret = request_take_offset(&w.r, argv[optind++]);
    ret = ret < 0 ? ret : request_make_vector(&w.r, &argv[optind], argc - optind, w.r.pattern);
    if (ret < 0) {
        return ret;
    }
    ret = request_run(&w.r);
    if (ret < 0) {
        printf("writev failed: %s\n", strerror(-ret));
    } else {
        request_report(&w.r, "wrote");
    }
    request_clear(&w.r);
    return ret;
}

const IoCommand write_commands[] = {
    { "write", "w", cmd_write, 2, -1, CMD_WRITES,
      "[-bcCfnqruz] [-P pattern | -s source_file] off len",
      "writes a number of bytes at a specified offset", write_help },
    { "writev", NULL, cmd_writev, 2, -1, CMD_WRITES, "[-Cfqr] [-P pattern] off len [len..]",
      "writes a number of bytes at a specified offset", writev_help },
    { NULL }
};
