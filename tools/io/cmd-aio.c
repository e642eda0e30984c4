/* SPDX-License-Identifier: MIT */
/*
 * aio_read, aio_write, aio_flush: requests that go on while further commands are read.
 *
 * Their ends are told when the loop runs next, never inside of the command that submits or resumes
 * them; of those that ended since the loop last ran the newest comes first, as in the reference.
 */
#include "io.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static void report_end(IoRequest *r)
{
    if (r->ret < 0) {
        printf("%s failed: %s\n", r->kind == IO_READ ? "readv" : "aio_write", strerror(-r->ret));
        tool.aio_failed = true;
    } else {
        if (r->kind == IO_READ && r->pattern >= 0 && request_verify(r, 0, r->bytes) < 0) {
            tool.aio_failed = true;
        }
        request_report(r, r->kind == IO_READ ? "read" : "wrote");
    }
    request_clear(r);
    g_free(r);
    tool.in_flight--;
}

static void tell_finished(void *opaque)
{
    while (tool.finished) {
        IoRequest *r = tool.finished;

        tool.finished = r->next;
        report_end(r);
    }
}

static void finish(IoRequest *r, int ret)
{
    r->ret = ret;
    r->ns = aio_clock_ns() - r->start;
    if (!tool.finished) {
        aio_bh_schedule_oneshot(aio_current(), tell_finished, NULL);
    }
    r->next = tool.finished;
    tool.finished = r;
}

static void coroutine_fn aio_entry(void *opaque)
{
    finish(opaque, request_co_run(opaque));
}

/* Takes @r over. */
static void submit(IoRequest *r)
{
    Coroutine *co = coroutine_create(aio_entry, r);

    r->blk = tool.blk;
    r->start = aio_clock_ns();
    tool.in_flight++;
    if (!co) {
        finish(r, -ENOMEM);
        return;
    }
    coroutine_enter(co);
}

typedef struct AioOpts {
    IoRequest r;
    bool zero, registered, invalid;
} AioOpts;

static int take_options(int argc, char **argv, const char *letters, AioOpts *o)
{
    int c;

    while ((c = getopt(argc, argv, letters)) != -1) {
        switch (c) {
        case 'C':
            o->r.machine = true;
            break;
        case 'f':
            o->r.flags |= BLK_REQ_FUA;
            break;
        case 'i':
            printf("injecting invalid %s request\n", o->r.kind == IO_READ ? "read" : "write");
            o->invalid = true;
            return 0;
        case 'P':
            o->r.pattern = parse_pattern(optarg);
            if (o->r.pattern < 0) {
                return -EINVAL;
            }
            break;
        case 'q':
            o->r.quiet = true;
            break;
        case 'r': /* all buffers are as good */
            o->registered = true;
            break;
        case 'u':
            o->r.flags |= BLK_REQ_MAY_UNMAP;
            break;
        case 'v':
            o->r.verbose = true;
            break;
        case 'z':
            o->zero = true;
            break;
        default:
            return command_usage(command_find(argv[0]));
        }
    }
    return optind > argc - 2 ? command_usage(command_find(argv[0])) : 0;
}

static void aio_read_help(void)
{
    printf("\n"
           " asynchronously reads a range of bytes from the given offset\n"
           "\n"
           " Example:\n"
           " 'aio_read -v 512 1k 1k ' - dumps 2 kilobytes read from 512 bytes into the file\n"
           "\n"
           " Reads a segment of the currently open file, optionally dumping it to the\n"
           " standard output stream (with -v option) for subsequent inspection.\n"
           " The read is performed asynchronously and the aio_flush command must be\n"
           " used to ensure all outstanding aio requests have been completed.\n"
           " Note that due to its asynchronous nature, this command will be\n"
           " considered successful once the request is submitted, independently\n"
           " of potential I/O errors or pattern mismatches.\n"
           " -C, -- report statistics in a machine parsable format\n"
           " -i, -- treat request as invalid, for exercising stats\n"
           " -P, -- use a pattern to verify read data\n"
           " -q, -- quiet mode, do not show I/O statistics\n"
           " -r, -- register I/O buffer\n"
           " -v, -- dump buffer to standard output\n"
           "\n");
}

static int cmd_aio_read(int argc, char **argv)
{
    AioOpts o = { .r = { .kind = IO_READ, .pattern = -1 } };
    g_autofree IoRequest *r = NULL;
    int ret = take_options(argc, argv, "CP:iqrv", &o);

    if (ret < 0 || o.invalid) {
        return ret;
    }
    r = g_memdup2(&o.r, sizeof(o.r));
    ret = request_take_offset(r, argv[optind++]);
    ret = ret < 0 ? ret : request_make_vector(r, &argv[optind], argc - optind, 0xab);
    if (ret < 0) {
        return ret;
    }
    submit(g_steal_pointer(&r));
    return 0;
}

static void aio_write_help(void)
{
    printf("\n"
           " asynchronously writes a range of bytes from the given offset source\n"
           " from multiple buffers\n"
           "\n"
           " Example:\n"
           " 'aio_write 512 1k 1k' - writes 2 kilobytes at 512 bytes into the open file\n"
           "\n"
           " Writes into a segment of the currently open file, using a buffer\n"
           " filled with a set pattern (0xcdcdcdcd).\n"
           " The write is performed asynchronously and the aio_flush command must be\n"
           " used to ensure all outstanding aio requests have been completed.\n"
           " Note that due to its asynchronous nature, this command will be\n"
           " considered successful once the request is submitted, independently\n"
           " of potential I/O errors or pattern mismatches.\n"
           " -C, -- report statistics in a machine parsable format\n"
           " -f, -- use Force Unit Access semantics\n"
           " -i, -- treat request as invalid, for exercising stats\n"
           " -P, -- use different pattern to fill file\n"
           " -q, -- quiet mode, do not show I/O statistics\n"
           " -r, -- register I/O buffer\n"
           " -u, -- with -z, allow unmapping\n"
           " -z, -- write zeroes using blk_aio_pwrite_zeroes\n"
           "\n");
}

static int check_options(const AioOpts *o, int words)
{
    if (o->zero && words != 2) {
        printf("-z supports only a single length parameter\n");
        return -EINVAL;
    }
    if ((o->r.flags & BLK_REQ_MAY_UNMAP) && !o->zero) {
        printf("-u requires -z to be specified\n");
        return -EINVAL;
    }
    return 0;
}

/* The lengths, into @r. */
static int take_lengths(const AioOpts *o, IoRequest *r, char **argv, int nr)
{
    if (!o->zero) {
        return request_make_vector(r, argv, nr, r->pattern);
    }
    if (o->registered) {
        printf("cannot combine zero write with registered I/O buffer\n");
        return -EINVAL;
    }
    r->kind = IO_WRITE_ZEROES;
    return request_take_bytes(r, argv[0]);
}

static int cmd_aio_write(int argc, char **argv)
{
    AioOpts o = { .r = { .kind = IO_WRITE, .pattern = 0xcd } };
    g_autofree IoRequest *r = NULL;
    int ret = take_options(argc, argv, "CfiP:qruz", &o);

    if (ret < 0 || o.invalid) {
        return ret;
    }
    r = g_memdup2(&o.r, sizeof(o.r));
    ret = check_options(&o, argc - optind);
    ret = ret < 0 ? ret : request_take_offset(r, argv[optind++]);
    ret = ret < 0 ? ret : take_lengths(&o, r, &argv[optind], argc - optind);
    if (ret < 0) {
        return ret;
    }
    submit(g_steal_pointer(&r));
    return 0;
}

static int cmd_aio_flush(int argc, char **argv)
{
    AIO_WAIT_WHILE(aio_current(), tool.in_flight > 0);
    return 0;
}

const IoCommand aio_commands[] = { { "aio_read", NULL, cmd_aio_read, 2, -1, 0,
                                     "[-Ciqrv] [-P pattern] off len [len..]",
                                     "asynchronously reads a number of bytes", aio_read_help },
                                   { "aio_write", NULL, cmd_aio_write, 2, -1, CMD_WRITES,
                                     "[-Cfiqruz] [-P pattern] off len [len..]",
                                     "asynchronously writes a number of bytes", aio_write_help },
                                   { "aio_flush", NULL, cmd_aio_flush, 0, 0, 0, NULL,
                                     "completes all outstanding aio requests", NULL },
                                   { NULL } };
