/* SPDX-License-Identifier: MIT */
/* open, close. */
#include "io.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static void print_event(const char *line, void *opaque)
{
    fprintf(stderr, "%s\n", line);
}

static void print_warnings(BlockBackend *blk)
{
    g_auto(GStrv) warnings = blk_warnings(blk);
    const char *file = blk_probed_raw(blk);

    blk_set_report(blk, print_event, NULL);
    for (int i = 0; warnings[i]; i++) {
        io_error("%s", warnings[i]);
    }
    if (file) {
        fprintf(stderr,
                "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
                "         Automatically detecting the format is dangerous for raw images, write "
                "operations on block 0 will be restricted.\n"
                "         Specify the 'raw' format explicitly to remove the restrictions.\n",
                file);
    }
}

int io_open(const char *name, int flags, bool writethrough, bool force_share, Options *opts)
{
    g_autoptr(Options) o = opts ? opts : opts_new();
    GError *err = NULL;

    if (tool.blk) {
        io_error("file open already, try 'help close'");
        return -EINVAL;
    }
    if (force_share) {
        flags |= BLK_O_FORCE_SHARE;
    }
    tool.blk = blk_open(name, opts_copy(o), flags, &err);
    if (!tool.blk) {
        io_error("can't open%s%s: %s", name ? " device " : "", name ? name : "", err->message);
        g_error_free(err);
        return -EINVAL;
    }
    print_warnings(tool.blk);
    blk_set_write_cache(tool.blk, !writethrough);
    if (name != tool.name) {
        g_free(tool.name);
        tool.name = g_strdup(name);
    }
    opts_free(tool.opts);
    tool.opts = g_steal_pointer(&o);
    tool.flags = flags;
    tool.writethrough = writethrough;
    tool.force_share = force_share;
    return 0;
}

int io_flush(void)
{
    int ret;

    AIO_WAIT_WHILE(aio_current(), tool.in_flight > 0);
    ret = tool.blk ? blk_flush(tool.blk) : 0;
    if (ret < 0) {
        io_error("Error flushing drive: %s", strerror(-ret));
    }
    return ret;
}

int io_close(void)
{
    int ret = io_flush(), close_ret = blk_close(g_steal_pointer(&tool.blk));

    if (close_ret < 0 && ret == 0) {
        io_error("Error closing drive: %s", strerror(-close_ret));
        ret = close_ret;
    }
    return ret;
}

static int cmd_close(int argc, char **argv)
{
    return io_close();
}

static void open_help(void)
{
    printf("\n"
           " opens a new file in the requested mode\n"
           "\n"
           " Example:\n"
           " 'open -n -o driver=raw /tmp/data' - opens raw data file read-write, uncached\n"
           "\n"
           " Opens a file for subsequent use by all of the other %s commands.\n"
           " -r, -- open file read-only\n"
           " -s, -- use snapshot file\n"
           " -C, -- use copy-on-read\n"
           " -n, -- disable host cache, short for -t none\n"
           " -U, -- force shared permissions\n"
           " -k, -- use kernel AIO implementation (Linux only, prefer use of -i)\n"
           " -i, -- use AIO mode (threads, native or io_uring)\n"
           " -t, -- use the given cache mode for the image\n"
           " -d, -- use the given discard mode for the image\n"
           " -o, -- options to be given to the block driver\n",
           tool.progname);
}

static int cmd_open(int argc, char **argv)
{
    g_autoptr(Options) o = opts_new();
    int flags = BLK_O_UNMAP | BLK_O_RDWR, c;
    bool writethrough = true, force_share = false;

    while ((c = getopt(argc, argv, "snCro:ki:t:d:U")) != -1) {
        switch (c) {
        case 's':
            flags |= BLK_O_TEMPORARY;
            break;
        case 'C':
            io_error("-%c is not supported", c);
            return -ENOTSUP;
        case 'n':
            flags |= BLK_O_NOCACHE;
            writethrough = false;
            break;
        case 'r':
            flags &= ~BLK_O_RDWR;
            break;
        case 'k':
            (void)blk_parse_aio("native", &flags);
            break;
        case 'i':
            if (!blk_parse_aio(optarg, &flags)) {
                io_error("Invalid aio option: %s", optarg);
                return -EINVAL;
            }
            break;
        case 't':
            if (!blk_parse_cache_mode(optarg, &flags, &writethrough)) {
                io_error("Invalid cache option: %s", optarg);
                return -EINVAL;
            }
            break;
        case 'd':
            if (!blk_parse_discard(optarg, &flags)) {
                io_error("Invalid discard option: %s", optarg);
                return -EINVAL;
            }
            break;
        case 'o':
            if (!parse_options(o, optarg)) {
                return -EINVAL;
            }
            break;
        case 'U':
            force_share = true;
            break;
        default:
            return command_usage(command_find("open"));
        }
    }
    if (optind == argc - 1) {
        return io_open(argv[optind], flags, writethrough, force_share, g_steal_pointer(&o));
    }
    if (optind == argc && opts_count(o) > 0) {
        return io_open(NULL, flags, writethrough, force_share, g_steal_pointer(&o));
    }
    return command_usage(command_find("open"));
}

const IoCommand file_commands[] = { { "open", "o", cmd_open, 1, -1, CMD_NOFILE_OK,
                                      "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
                                      "open the file specified by path", open_help },
                                    { "close", "c", cmd_close, 0, 0, 0, NULL,
                                      "close the current open file", NULL },
                                    { NULL } };
