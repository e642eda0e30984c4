/* SPDX-License-Identifier: MIT */
/* read, write, readv, writev, discard: one request at a time, with its figures. */
#include "io.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A vector made from the lengths of a command line; the total, or -errno (told). */
int64_t make_vector(IOVector *v, char **argv, int nr, int pattern);
void free_vector(IOVector *v);

int64_t make_vector(IOVector *v, char **argv, int nr, int pattern)
{
    int64_t total = 0;
    uint8_t *buf;

    for (int i = 0; i < nr; i++) {
        int64_t len = cvtnum(argv[i]);

        if (len < 0) {
            print_cvtnum_err(len, argv[i]);
            return -EINVAL;
        }
        if (check_length(len, argv[i], false) < 0) {
            return -EINVAL;
        }
        if (total > INT64_C(2147483136) - len) {
            printf("The total number of bytes exceed the maximum size %" G_GINT64_FORMAT "\n",
                   INT64_C(2147483136));
            return -EINVAL;
        }
        total += len;
    }
    buf = io_alloc((size_t)total, pattern);
    if (!buf) {
        printf("out of memory\n");
        return -ENOMEM;
    }
    iov_init(v);
    for (int i = 0; i < nr; i++) {
        int64_t len = cvtnum(argv[i]);

        (void)iov_add(v, buf, (size_t)len);
        buf += len;
    }
    if (total == 0) {
        io_free(buf);
    }
    return total;
}

void free_vector(IOVector *v)
{
    if (v->niov) {
        io_free(v->iov[0].iov_base);
    }
    iov_clear(v);
}

/* ---- One request through the sync runner ---- */

typedef struct Rw {
    int64_t offset;
    IOVector *v;
    unsigned flags;
    bool write, compressed;
} Rw;

static int coroutine_fn rw_fn(void *opaque)
{
    Rw *r = opaque;

    if (r->compressed) {
        return blk_co_pwritev_compressed(tool.blk, r->offset, r->v);
    }
    return r->write ? blk_co_pwritev(tool.blk, r->offset, r->v, r->flags)
                    : blk_co_preadv(tool.blk, r->offset, r->v, r->flags);
}

static int verify(const void *buf, int64_t offset, int64_t vstart, int64_t vlen, int pattern)
{
    const uint8_t *p = (const uint8_t *)buf + vstart;

    for (int64_t i = 0; i < vlen; i++) {
        if (p[i] != pattern) {
            printf("Pattern verification failed at offset %" G_GINT64_FORMAT ", %" G_GINT64_FORMAT " bytes\n",
                   offset + vstart, vlen);
            return -EINVAL;
        }
    }
    return 0;
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

static int cmd_read(int argc, char **argv)
{
    bool machine = false, quiet = false, verbose = false, vmstate = false, has_len = false;
    int64_t offset, count, vstart = 0, vlen = 0, start;
    int c, pattern = -1, ret;
    IOVector v;
    Rw r = { .v = &v };
    char *buf;

    while ((c = getopt(argc, argv, "bCl:pP:qrs:v")) != -1) {
        switch (c) {
        case 'b':
            vmstate = true;
            break;
        case 'C':
            machine = true;
            break;
        case 'l':
            has_len = true;
            vlen = cvtnum(optarg);
            if (vlen < 0) {
                print_cvtnum_err(vlen, optarg);
                return (int)vlen;
            }
            break;
        case 'p':
        case 'r':
            break;
        case 'P':
            pattern = parse_pattern(optarg);
            if (pattern < 0) {
                return -EINVAL;
            }
            break;
        case 'q':
            quiet = true;
            break;
        case 's':
            vstart = cvtnum(optarg);
            if (vstart < 0) {
                print_cvtnum_err(vstart, optarg);
                return (int)vstart;
            }
            break;
        case 'v':
            verbose = true;
            break;
        default:
            return command_usage(command_find("read"));
        }
    }
    if (optind != argc - 2) {
        return command_usage(command_find("read"));
    }
    offset = cvtnum(argv[optind]);
    if (offset < 0) {
        print_cvtnum_err(offset, argv[optind]);
        return (int)offset;
    }
    count = cvtnum(argv[++optind]);
    if (count < 0) {
        print_cvtnum_err(count, argv[optind]);
        return (int)count;
    }
    if (check_length(count, argv[optind], false) < 0) {
        return -EINVAL;
    }
    if (pattern < 0 && (has_len || vstart)) {
        return command_usage(command_find("read"));
    }
    if (!has_len) {
        vlen = count - vstart;
    }
    if (vlen < 0 || vlen + vstart > count) {
        printf("pattern verification range exceeds end of read data\n");
        return -EINVAL;
    }
    if (vmstate) {
        printf("read failed: %s\n", strerror(ENOTSUP));
        return -ENOTSUP;
    }
    buf = io_alloc((size_t)count, 0xab);
    if (!buf) {
        printf("read failed: %s\n", strerror(ENOMEM));
        return -ENOMEM;
    }
    iov_init_buf(&v, buf, (size_t)count);
    r.offset = offset;
    start = aio_clock_ns();
    ret = co_run_sync(rw_fn, &r);
    start = aio_clock_ns() - start;
    if (ret < 0) {
        printf("read failed: %s\n", strerror(-ret));
        io_free(buf);
        return ret;
    }
    if (pattern >= 0) {
        ret = verify(buf, offset, vstart, vlen, pattern);
    }
    if (!quiet) {
        if (verbose) {
            dump_buffer(buf, offset, (size_t)count);
        }
        print_report("read", start, offset, count, count, 1, machine);
    }
    io_free(buf);
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
    bool machine = false, quiet = false, verbose = false;
    int64_t offset, total, start;
    int c, pattern = -1, ret;
    IOVector v;
    Rw r = { .v = &v };

    while ((c = getopt(argc, argv, "CP:qrv")) != -1) {
        switch (c) {
        case 'C':
            machine = true;
            break;
        case 'P':
            pattern = parse_pattern(optarg);
            if (pattern < 0) {
                return -EINVAL;
            }
            break;
        case 'q':
            quiet = true;
            break;
        case 'r':
            break;
        case 'v':
            verbose = true;
            break;
        default:
            return command_usage(command_find("readv"));
        }
    }
    if (optind > argc - 2) {
        return command_usage(command_find("readv"));
    }
    offset = cvtnum(argv[optind]);
    if (offset < 0) {
        print_cvtnum_err(offset, argv[optind]);
        return (int)offset;
    }
    optind++;
    total = make_vector(&v, &argv[optind], argc - optind, 0xab);
    if (total < 0) {
        return (int)total;
    }
    r.offset = offset;
    start = aio_clock_ns();
    ret = co_run_sync(rw_fn, &r);
    start = aio_clock_ns() - start;
    if (ret < 0) {
        printf("readv failed: %s\n", strerror(-ret));
        free_vector(&v);
        return ret;
    }
    if (pattern >= 0 && total > 0) {
        ret = verify(v.iov[0].iov_base, offset, 0, total, pattern);
    }
    if (!quiet) {
        if (verbose && total > 0) {
            dump_buffer(v.iov[0].iov_base, offset, (size_t)total);
        }
        print_report("read", start, offset, total, total, 1, machine);
    }
    free_vector(&v);
    return ret;
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

typedef struct WriteOpts {
    bool vmstate, compressed, machine, quiet, zero, has_pattern;
    unsigned flags;
    int pattern;
    const char *source;
} WriteOpts;

static int write_options(int argc, char **argv, WriteOpts *w)
{
    int c;

    while ((c = getopt(argc, argv, "bcCfnpP:qrs:uz")) != -1) {
        switch (c) {
        case 'b':
            w->vmstate = true;
            break;
        case 'c':
            w->compressed = true;
            break;
        case 'C':
            w->machine = true;
            break;
        case 'f':
            w->flags |= BLK_REQ_FUA;
            break;
        case 'n':
            w->flags |= BLK_REQ_NO_FALLBACK;
            break;
        case 'p':
        case 'r':
            break;
        case 'q':
            w->quiet = true;
            break;
        case 'u':
            w->flags |= BLK_REQ_MAY_UNMAP;
            break;
        case 'P':
            w->has_pattern = true;
            w->pattern = parse_pattern(optarg);
            if (w->pattern < 0) {
                return -EINVAL;
            }
            break;
        case 's':
            w->source = optarg;
            break;
        case 'z':
            w->zero = true;
            break;
        default:
            return command_usage(command_find("write"));
        }
    }
    if (optind != argc - 2) {
        return command_usage(command_find("write"));
    }
    return 0;
}

static int write_check(const WriteOpts *w)
{
    if (w->vmstate && w->zero) {
        printf("-b and -z cannot be specified at the same time\n");
        return -EINVAL;
    }
    if ((w->flags & BLK_REQ_FUA) && (w->vmstate || w->compressed)) {
        printf("-f and -b or -c cannot be specified at the same time\n");
        return -EINVAL;
    }
    if ((w->flags & BLK_REQ_NO_FALLBACK) && !w->zero) {
        printf("-n requires -z to be specified\n");
        return -EINVAL;
    }
    if ((w->flags & BLK_REQ_MAY_UNMAP) && !w->zero) {
        printf("-u requires -z to be specified\n");
        return -EINVAL;
    }
    if (w->zero + w->has_pattern + (w->source != NULL) > 1) {
        printf("Only one of -z, -P, and -s can be specified at the same time\n");
        return -EINVAL;
    }
    return 0;
}

/* The file's content, again and again; NULL: told. */
static void *buffer_from_file(const char *name, size_t len)
{
    FILE *f = fopen(name, "r");
    uint8_t *buf;
    size_t n;

    if (!f) {
        printf("%s: %s\n", name, strerror(errno));
        return NULL;
    }
    buf = io_alloc(len, 0);
    n = buf ? fread(buf, 1, len, f) : 0;
    if (buf && ferror(f)) {
        printf("%s: %s\n", name, strerror(errno));
        io_free(buf);
        buf = NULL;
    } else if (buf && n == 0 && len > 0) {
        printf("%s: file is empty\n", name);
        io_free(buf);
        buf = NULL;
    }
    fclose(f);
    for (size_t done = n; buf && done < len; done += n) {
        memcpy(buf + done, buf, MIN(n, len - done));
    }
    return buf;
}

static int cmd_write(int argc, char **argv)
{
    WriteOpts w = { .pattern = 0xcd };
    int64_t offset, count, start;
    void *buf = NULL;
    IOVector v;
    Rw r = { .v = &v, .write = true };
    int ret = write_options(argc, argv, &w);

    ret = ret < 0 ? ret : write_check(&w);
    if (ret < 0) {
        return ret;
    }
    offset = cvtnum(argv[optind]);
    if (offset < 0) {
        print_cvtnum_err(offset, argv[optind]);
        return (int)offset;
    }
    count = cvtnum(argv[++optind]);
    if (count < 0) {
        print_cvtnum_err(count, argv[optind]);
        return (int)count;
    }
    if (count > INT64_C(2147483136) && !(w.flags & BLK_REQ_NO_FALLBACK)) {
        printf("length cannot exceed %" G_GINT64_FORMAT " without -n, given %s\n", INT64_C(2147483136),
               argv[optind]);
        return -EINVAL;
    }
    if (w.vmstate) {
        printf("write failed: %s\n", strerror(ENOTSUP));
        return -ENOTSUP;
    }
    if (!w.zero) {
        buf = w.source ? buffer_from_file(w.source, (size_t)count) : io_alloc((size_t)count, w.pattern);
        if (!buf) {
            return -EINVAL;
        }
        iov_init_buf(&v, buf, (size_t)count);
    }
    r.offset = offset;
    r.flags = w.flags;
    r.compressed = w.compressed;
    start = aio_clock_ns();
    ret = w.zero ? blk_pwrite_zeroes(tool.blk, offset, count, w.flags) : co_run_sync(rw_fn, &r);
    start = aio_clock_ns() - start;
    if (ret < 0) {
        printf("write failed: %s\n", strerror(-ret));
    } else if (!w.quiet) {
        print_report("wrote", start, offset, count, count, 1, w.machine);
    }
    io_free(buf);
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
    bool machine = false, quiet = false;
    int64_t offset, total, start;
    int c, pattern = 0xcd, ret;
    IOVector v;
    Rw r = { .v = &v, .write = true };

    while ((c = getopt(argc, argv, "CfqrP:")) != -1) {
        switch (c) {
        case 'C':
            machine = true;
            break;
        case 'f':
            r.flags |= BLK_REQ_FUA;
            break;
        case 'q':
            quiet = true;
            break;
        case 'r':
            break;
        case 'P':
            pattern = parse_pattern(optarg);
            if (pattern < 0) {
                return -EINVAL;
            }
            break;
        default:
            return command_usage(command_find("writev"));
        }
    }
    if (optind > argc - 2) {
        return command_usage(command_find("writev"));
    }
    offset = cvtnum(argv[optind]);
    if (offset < 0) {
        print_cvtnum_err(offset, argv[optind]);
        return (int)offset;
    }
    optind++;
    total = make_vector(&v, &argv[optind], argc - optind, pattern);
    if (total < 0) {
        return (int)total;
    }
    r.offset = offset;
    start = aio_clock_ns();
    ret = co_run_sync(rw_fn, &r);
    start = aio_clock_ns() - start;
    if (ret < 0) {
        printf("writev failed: %s\n", strerror(-ret));
    } else if (!quiet) {
        print_report("wrote", start, offset, total, total, 1, machine);
    }
    free_vector(&v);
    return ret;
}

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
    bool machine = false, quiet = false;
    int64_t offset, bytes, start;
    int c, ret;

    while ((c = getopt(argc, argv, "Cq")) != -1) {
        switch (c) {
        case 'C':
            machine = true;
            break;
        case 'q':
            quiet = true;
            break;
        default:
            return command_usage(command_find("discard"));
        }
    }
    if (optind != argc - 2) {
        return command_usage(command_find("discard"));
    }
    offset = cvtnum(argv[optind]);
    if (offset < 0) {
        print_cvtnum_err(offset, argv[optind]);
        return (int)offset;
    }
    bytes = cvtnum(argv[++optind]);
    if (bytes < 0) {
        print_cvtnum_err(bytes, argv[optind]);
        return (int)bytes;
    }
    if (check_length(bytes, argv[optind], false) < 0) {
        return -EINVAL;
    }
    start = aio_clock_ns();
    ret = blk_pdiscard(tool.blk, offset, bytes);
    start = aio_clock_ns() - start;
    if (ret < 0) {
        printf("discard failed: %s\n", strerror(-ret));
        return ret;
    }
    if (!quiet) {
        print_report("discard", start, offset, bytes, bytes, 1, machine);
    }
    return 0;
}

const IoCommand rw_commands[] = {
    { "read", "r", cmd_read, 2, -1, 0, "[-abCqrv] [-P pattern [-s off] [-l len]] off len",
      "reads a number of bytes at a specified offset", read_help },
    { "readv", NULL, cmd_readv, 2, -1, 0, "[-Cqrv] [-P pattern] off len [len..]",
      "reads a number of bytes at a specified offset", readv_help },
    { "write", "w", cmd_write, 2, -1, 0, "[-bcCfnqruz] [-P pattern | -s source_file] off len",
      "writes a number of bytes at a specified offset", write_help },
    { "writev", NULL, cmd_writev, 2, -1, 0, "[-Cfqr] [-P pattern] off len [len..]",
      "writes a number of bytes at a specified offset", writev_help },
    { "discard", "d", cmd_discard, 2, -1, 0, "[-Cq] off len",
      "discards a number of bytes at a specified offset", discard_help },
    { NULL }
};
