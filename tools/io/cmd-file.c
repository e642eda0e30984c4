/* SPDX-License-Identifier: MIT */
/* open, close, reopen. */
#include "io.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static void warn_probed(BlockBackend *blk)
{
    const char *file = blk_probed_raw(blk);

    if (file) {
        fprintf(stderr,
                "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
                "         Automatically detecting the format is dangerous for raw images, write "
                "operations on block 0 will be restricted.\n"
                "         Specify the 'raw' format explicitly to remove the restrictions.\n", file);
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
    warn_probed(tool.blk);
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

void io_close(void)
{
    AIO_WAIT_WHILE(aio_current(), tool.in_flight > 0);
    blk_close(tool.blk);
    tool.blk = NULL;
}

static int cmd_close(int argc, char **argv)
{
    io_close();
    return 0;
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
           " -o, -- options to be given to the block driver\n"
           "\n", tool.progname);
}

static int cmd_open(int argc, char **argv)
{
    g_autoptr(Options) o = opts_new();
    int flags = BLK_O_UNMAP | BLK_O_RDWR, c;
    bool writethrough = true, force_share = false;
    GError *err = NULL;

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
            opts_set(o, "file.aio", "native");
            break;
        case 'i':
            if (strcmp(optarg, "threads") && strcmp(optarg, "native") && strcmp(optarg, "io_uring")) {
                io_error("Invalid aio option: %s", optarg);
                return -EINVAL;
            }
            opts_set(o, "file.aio", optarg);
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
            if (!opts_parse(o, optarg, NULL, &err)) {
                print_error(err);
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

static void reopen_help(void)
{
    printf("\n"
           " Changes the open options of an already opened image\n"
           "\n"
           " Example:\n"
           " 'reopen -o lazy-refcounts=on' - activates lazy refcount writeback on a qcow2 image\n"
           "\n"
           " -r, -- Reopen the image read-only\n"
           " -w, -- Reopen the image read-write\n"
           " -c, -- Change the cache mode to the given value\n"
           " -o, -- Changes block driver options (cf. 'open' command)\n"
           "\n");
}

/* Closed and opened again with the changed options; as it was, should that fail. */
static int cmd_reopen(int argc, char **argv)
{
    g_autoptr(Options) o = opts_copy(tool.opts);
    g_autoptr(Options) old = opts_copy(tool.opts);
    g_autofree char *name = g_strdup(tool.name);
    int flags = tool.flags, old_flags = tool.flags, c, ret;
    bool writethrough = tool.writethrough, old_writethrough = writethrough, has_rw = false;
    GError *err = NULL;

    while ((c = getopt(argc, argv, "c:o:rw")) != -1) {
        switch (c) {
        case 'c':
            if (!blk_parse_cache_mode(optarg, &flags, &writethrough)) {
                io_error("Invalid cache option: %s", optarg);
                return -EINVAL;
            }
            break;
        case 'o':
            if (!opts_parse(o, optarg, NULL, &err)) {
                print_error(err);
                return -EINVAL;
            }
            break;
        case 'r':
        case 'w':
            if (has_rw) {
                io_error("Only one -r/-w option may be given");
                return -EINVAL;
            }
            flags &= ~BLK_O_RDWR;
            flags |= c == 'w' ? BLK_O_RDWR | BLK_O_RESIZE : 0;
            has_rw = true;
            break;
        default:
            return command_usage(command_find("reopen"));
        }
    }
    if (optind != argc) {
        return command_usage(command_find("reopen"));
    }
    io_close();
    ret = io_open(name, flags, writethrough, tool.force_share, g_steal_pointer(&o));
    if (ret < 0) {
        (void)io_open(name, old_flags, old_writethrough, tool.force_share, g_steal_pointer(&old));
    }
    return ret;
}

const IoCommand file_commands[] = {
    { "open", "o", cmd_open, 1, -1, CMD_NOFILE_OK, "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
      "open the file specified by path", open_help },
    { "close", "c", cmd_close, 0, 0, 0, NULL, "close the current open file", NULL },
    { "reopen", NULL, cmd_reopen, 0, -1, 0, "[(-r|-w)] [-c cache] [-o options]",
      "reopens an image with new options", reopen_help },
    { NULL }
};
