/* SPDX-License-Identifier: MIT */
/* cowlet-io: single requests on an image, from the command line or standard input. */
#include "io.h"

#include "config-host.h"
#include "tools/lib/process.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

IoTool tool;

static void usage(void)
{
    printf("Usage: %s [OPTIONS] [-c COMMAND]... [FILE]\n"
           "Sends single requests to an image, from -c or from standard input.\n"
           "\n"
           "  -c, --cmd COMMAND    run it; several run in their order\n"
           "  -f, --format FORMAT  format of the image (probed)\n"
           "  --image-opts         the name is an option string (driver=qcow2,file.filename=x)\n"
           "  -r, --read-only      open for reading only\n"
           "  -s, --snapshot       what is written goes to a file that is thrown away\n"
           "  -n, --nocache        the same as -t none\n"
           "  -t, --cache MODE     none, writeback, writethrough, directsync or unsafe "
           "(writethrough)\n"
           "  -d, --discard MODE   unmap (on) or ignore (off) (unmap)\n"
           "  -i, --aio MODE       threads, native or io_uring (io_uring where there is one)\n"
           "  -k, --native-aio     the same as -i native\n"
           "  -m, --misalign       buffers start off their alignment\n"
           "  -U, --force-share    the image may be in use, by a writer too (with -r)\n"
           "  -C, --copy-on-read   not supported yet\n"
           "  --object DEFINITION  objects such as secrets: refused, there are none yet\n"
           "  -T, --trace TRACE    accepted; there are no trace events\n"
           "  -h, --help           this text\n"
           "  -V, --version        the version\n"
           "\n"
           "'%s -c help' lists the commands.\n",
           tool.progname, tool.progname);
}

static void told(const char *tag, bool suspended, void *opaque)
{
    printf("blkdebug: %s request '%s'\n", suspended ? "Suspended" : "Resuming", tag);
}

typedef struct Args {
    GPtrArray *commands;
    Options *opts;
    const char *format;
    int flags;
    bool read_only, image_opts, writethrough, force_share;
} Args;

static void fail(const char *fmt, const char *arg)
{
    io_error(fmt, arg);
    exit(1);
}

/* There are no trace events: each that is named is unknown. */
static void warn_trace(const char *arg)
{
    g_autoptr(Options) o = opts_new();
    const char *pattern;

    if (!opts_parse(o, arg, "enable", NULL)) {
        return;
    }
    pattern = opts_peek(o, "enable");
    if (pattern) {
        io_error("warning: trace event '%s' does not exist", pattern);
    }
}

static void parse_args(int argc, char **argv, Args *a)
{
    enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS };
    static const struct option longs[] = { { "help", no_argument, NULL, 'h' },
                                           { "version", no_argument, NULL, 'V' },
                                           { "cmd", required_argument, NULL, 'c' },
                                           { "format", required_argument, NULL, 'f' },
                                           { "read-only", no_argument, NULL, 'r' },
                                           { "snapshot", no_argument, NULL, 's' },
                                           { "nocache", no_argument, NULL, 'n' },
                                           { "copy-on-read", no_argument, NULL, 'C' },
                                           { "misalign", no_argument, NULL, 'm' },
                                           { "native-aio", no_argument, NULL, 'k' },
                                           { "aio", required_argument, NULL, 'i' },
                                           { "discard", required_argument, NULL, 'd' },
                                           { "cache", required_argument, NULL, 't' },
                                           { "trace", required_argument, NULL, 'T' },
                                           { "force-share", no_argument, NULL, 'U' },
                                           { "object", required_argument, NULL, OPT_OBJECT },
                                           { "image-opts", no_argument, NULL, OPT_IMAGE_OPTS },
                                           { NULL } };
    int c;

    while ((c = getopt_long(argc, argv, "hVc:d:f:rsnCmki:t:T:U", longs, NULL)) != -1) {
        switch (c) {
        case 's':
            a->flags |= BLK_O_TEMPORARY;
            break;
        case 'C':
            fail("%s is not supported", "-C (--copy-on-read)");
            break;
        case 'n':
            a->flags |= BLK_O_NOCACHE;
            a->writethrough = false;
            break;
        case 'd':
            if (!blk_parse_discard(optarg, &a->flags)) {
                fail("Invalid discard option: %s", optarg);
            }
            break;
        case 'f':
            a->format = optarg;
            break;
        case 'c':
            g_ptr_array_add(a->commands, optarg);
            break;
        case 'r':
            a->read_only = true;
            break;
        case 'm':
            tool.misalign = true;
            break;
        case 'k':
            (void)blk_parse_aio("native", &a->flags);
            break;
        case 'i':
            if (!blk_parse_aio(optarg, &a->flags)) {
                fail("Invalid aio option: %s", optarg);
            }
            break;
        case 't':
            if (!blk_parse_cache_mode(optarg, &a->flags, &a->writethrough)) {
                fail("Invalid cache option: %s", optarg);
            }
            break;
        case 'T':
            warn_trace(optarg);
            break;
        case 'V':
            printf("%s version " COWLET_VERSION "\n", tool.progname);
            exit(0);
        case 'h':
            usage();
            exit(0);
        case 'U':
            a->force_share = true;
            break;
        case OPT_OBJECT:
            fail("Objects are not supported: --object %s", optarg);
            break;
        case OPT_IMAGE_OPTS:
            a->image_opts = true;
            break;
        default:
            usage();
            exit(1);
        }
    }
    if (argc - optind > 1) {
        usage();
        exit(1);
    }
    if (a->format && a->image_opts) {
        io_error("--image-opts and -f are mutually exclusive");
        exit(1);
    }
}

static int open_image(Args *a, const char *arg)
{
    if (!a->read_only) {
        a->flags |= BLK_O_RDWR;
    }
    if (a->format) {
        opts_set(a->opts, "driver", a->format);
    }
    if (!a->image_opts) {
        return io_open(arg, a->flags, a->writethrough, a->force_share, g_steal_pointer(&a->opts));
    }
    if (!parse_options(a->opts, arg)) {
        return -EINVAL;
    }
    return io_open(NULL, a->flags, a->writethrough, a->force_share, g_steal_pointer(&a->opts));
}

int main(int argc, char **argv)
{
    Args a = { .flags = BLK_O_UNMAP, .writethrough = true };
    int ret = 0;

    tool.progname = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    process_init(tool.progname);
    a.commands = g_ptr_array_new();
    a.opts = opts_new();
    blkdebug_set_notify(told, NULL);
    parse_args(argc, argv, &a);
    if (optind == argc - 1 && open_image(&a, argv[optind]) < 0) {
        ret = 1;
        tool.quit = true;
    }
    for (guint i = 0; i < a.commands->len && !tool.quit; i++) {
        if (command_run(g_ptr_array_index(a.commands, i)) < 0) {
            ret = 1;
        }
    }
    if (a.commands->len == 0 && !tool.quit && run_input() < 0) {
        ret = 1;
    }
    if (io_close() < 0 || tool.aio_failed) {
        ret = 1;
    }
    g_ptr_array_unref(a.commands);
    opts_free(a.opts);
    opts_free(tool.opts);
    g_free(tool.name);
    return ret;
}
