/* SPDX-License-Identifier: MIT */
/* aio_read, aio_write, aio_flush: requests that go on while further commands are read. */
#include "io.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t make_vector(IOVector *v, char **argv, int nr, int pattern);
void free_vector(IOVector *v);

typedef struct AioRequest {
    BlockBackend *blk;
    int64_t offset, bytes, start;
    IOVector v;
    unsigned flags;
    bool write, zero, machine, quiet, verbose;
    int pattern; /* reads: -1 for none */
} AioRequest;

static void verify_read(const AioRequest *r)
{
    const uint8_t *p = r->v.niov ? r->v.iov[0].iov_base : NULL;

    for (int64_t i = 0; i < r->bytes; i++) {
        if (p[i] != r->pattern) {
            printf("Pattern verification failed at offset %" G_GINT64_FORMAT ", %" G_GINT64_FORMAT " bytes\n",
                   r->offset, r->bytes);
            return;
        }
    }
}

static void finish(AioRequest *r, int ret)
{
    int64_t ns = aio_clock_ns() - r->start;

    if (ret < 0) {
        printf("aio_%s failed: %s\n", r->write ? "write" : "read", strerror(-ret));
    } else {
        if (!r->write && r->pattern >= 0) {
            verify_read(r);
        }
        if (!r->quiet) {
            if (r->verbose && r->bytes > 0) {
                dump_buffer(r->v.iov[0].iov_base, r->offset, (size_t)r->bytes);
            }
            print_report(r->write ? "wrote" : "read", ns, r->offset, r->bytes, r->bytes, 1, r->machine);
        }
    }
    if (!r->zero) {
        free_vector(&r->v);
    }
    g_free(r);
    tool.in_flight--;
}

static void coroutine_fn aio_entry(void *opaque)
{
    AioRequest *r = opaque;
    int ret;

    if (r->zero) {
        ret = blk_co_pwrite_zeroes(r->blk, r->offset, r->bytes, r->flags);
    } else if (r->write) {
        ret = blk_co_pwritev(r->blk, r->offset, &r->v, r->flags);
    } else {
        ret = blk_co_preadv(r->blk, r->offset, &r->v, r->flags);
    }
    finish(r, ret);
}

static void submit(AioRequest *r)
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

/* Common options; 1: go on, 0: done, < 0: told. */
static int aio_options(int argc, char **argv, const char *letters, AioRequest *r, bool *has_pattern)
{
    int c;

    while ((c = getopt(argc, argv, letters)) != -1) {
        switch (c) {
        case 'C':
            r->machine = true;
            break;
        case 'f':
            r->flags |= BLK_REQ_FUA;
            break;
        case 'i':
            printf("injecting invalid %s request\n", r->write ? "write" : "read");
            return 0;
        case 'P':
            r->pattern = parse_pattern(optarg);
            *has_pattern = true;
            if (r->pattern < 0) {
                return -EINVAL;
            }
            break;
        case 'q':
            r->quiet = true;
            break;
        case 'r':
            break;
        case 'u':
            r->flags |= BLK_REQ_MAY_UNMAP;
            break;
        case 'v':
            r->verbose = true;
            break;
        case 'z':
            r->zero = true;
            break;
        default:
            return command_usage(command_find(argv[0]));
        }
    }
    return optind > argc - 2 ? command_usage(command_find(argv[0])) : 1;
}

static int take_offset(AioRequest *r, const char *arg)
{
    r->offset = cvtnum(arg);
    if (r->offset < 0) {
        int ret = (int)r->offset;

        print_cvtnum_err(ret, arg);
        return ret;
    }
    return 0;
}

static int cmd_aio_read(int argc, char **argv)
{
    AioRequest r = { .pattern = -1 };
    bool has_pattern = false;
    int ret = aio_options(argc, argv, "CP:iqrv", &r, &has_pattern);

    if (ret <= 0) {
        return ret;
    }
    ret = take_offset(&r, argv[optind]);
    if (ret < 0) {
        return ret;
    }
    optind++;
    AioRequest *heap = g_memdup2(&r, sizeof(r));

    heap->bytes = make_vector(&heap->v, &argv[optind], argc - optind, 0xab);
    if (heap->bytes < 0) {
        g_free(heap);
        return -EINVAL;
    }
    submit(heap);
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

static int cmd_aio_write(int argc, char **argv)
{
    AioRequest r = { .pattern = 0xcd, .write = true }, *heap;
    bool has_pattern = false;
    int ret = aio_options(argc, argv, "CfiP:qruz", &r, &has_pattern);

    if (ret <= 0) {
        return ret;
    }
    if (r.zero && optind != argc - 2) {
        printf("-z supports only a single length parameter\n");
        return -EINVAL;
    }
    if ((r.flags & BLK_REQ_MAY_UNMAP) && !r.zero) {
        printf("-u requires -z to be specified\n");
        return -EINVAL;
    }
    if (r.zero && has_pattern) {
        printf("-z and -P cannot be specified at the same time\n");
        return -EINVAL;
    }
    ret = take_offset(&r, argv[optind]);
    if (ret < 0) {
        return ret;
    }
    optind++;
    heap = g_memdup2(&r, sizeof(r));
    if (r.zero) {
        heap->bytes = cvtnum(argv[optind]);
        if (heap->bytes < 0) {
            print_cvtnum_err(heap->bytes, argv[optind]);
            g_free(heap);
            return -EINVAL;
        }
    } else {
        heap->bytes = make_vector(&heap->v, &argv[optind], argc - optind, r.pattern);
        if (heap->bytes < 0) {
            g_free(heap);
            return -EINVAL;
        }
    }
    submit(heap);
    return 0;
}

static int cmd_aio_flush(int argc, char **argv)
{
    AIO_WAIT_WHILE(aio_current(), tool.in_flight > 0);
    return 0;
}

const IoCommand aio_commands[] = {
    { "aio_read", NULL, cmd_aio_read, 2, -1, 0, "[-Ciqrv] [-P pattern] off len [len..]",
      "asynchronously reads a number of bytes", aio_read_help },
    { "aio_write", NULL, cmd_aio_write, 2, -1, 0, "[-Cfiqruz] [-P pattern] off len [len..]",
      "asynchronously writes a number of bytes", aio_write_help },
    { "aio_flush", NULL, cmd_aio_flush, 0, 0, 0, NULL, "completes all outstanding aio requests", NULL },
    { NULL }
};
