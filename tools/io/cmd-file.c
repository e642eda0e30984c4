/* SPDX-License-Identifier: MIT */
/* open, close. */
#include "io.h"

#include "tools/lib/object.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

int io_open(const char *name, int flags, bool writethrough, bool force_share, Options *opts)
{
    g_autoptr(Options) o = opts ? opts : opts_new();
    GError *err = NULL;

    if (tool.blk) {
        tool_error("file open already, try 'help close'");
        return -EINVAL;
    }
    object_add_secrets(o);
    if (force_share) {
        flags |= BLK_O_FORCE_SHARE;
    }
    tool_warn_options(o);
    tool.blk = blk_open(name, g_steal_pointer(&o), flags, &err);
    if (!tool.blk) {
        tool_error("can't open%s%s: %s", name ? " device " : "", name ? name : "", err->message);
        g_error_free(err);
        return -EINVAL;
    }
    tool_watch(tool.blk);
    blk_set_write_cache(tool.blk, !writethrough);
    return 0;
}

int io_flush(void)
{
    int ret;

    AIO_WAIT_WHILE(aio_current(), tool.in_flight > 0);
    ret = tool.blk ? blk_flush(tool.blk) : 0;
    if (ret < 0) {
        tool_error("Error flushing drive: %s", strerror(-ret));
    }
    return ret;
}

int io_close(void)
{
    int ret = io_flush(), close_ret = blk_close(g_steal_pointer(&tool.blk));

    if (close_ret < 0 && ret == 0) {
        tool_error("Error closing drive: %s", strerror(-close_ret));
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

bool io_take_cache(const ToolArg *a, void *record, void *field, const char *value)
{
    IoMode *m = field;

    if (!blk_parse_cache_mode(value, &m->flags, &m->writethrough)) {
        tool_error("Invalid cache option: %s", value);
        return false;
    }
    return true;
}

bool io_take_nocache(const ToolArg *a, void *record, void *field, const char *value)
{
    IoMode *m = field;

    m->flags |= BLK_O_NOCACHE;
    m->writethrough = false;
    return true;
}

typedef struct OpenArgs {
    Options *o;
    IoMode mode;
    int bad; /* what a bad value ends with: -errno */
} OpenArgs;

static bool take_read_only(const ToolArg *a, void *record, void *field, const char *value)
{
    *(int *)field &= ~BLK_O_RDWR;
    return true;
}

static bool take_options(const ToolArg *a, void *record, void *field, const char *value)
{
    return parse_options(((OpenArgs *)record)->o, value);
}

#define FIELD(f) .at = offsetof(OpenArgs, f)
static const ToolArg open_args[] = {
    { NULL, 's', ARG_BITS, FIELD(mode.flags), .bits = BLK_O_TEMPORARY },
    { NULL, 'n', ARG_DO, FIELD(mode), .call = io_take_nocache },
    { NULL, 'C', ARG_BITS, FIELD(mode.flags), .bits = BLK_O_COPY_ON_READ },
    { NULL, 'r', ARG_DO, FIELD(mode.flags), .call = take_read_only },
    { NULL, 'o', ARG_TAKE, .call = take_options },
    { NULL, 'k', ARG_DO, FIELD(mode.flags), .call = arg_native_aio },
    { NULL, 'i', ARG_TAKE, FIELD(mode.flags), .call = arg_take_aio },
    { NULL, 't', ARG_TAKE, FIELD(mode), .call = io_take_cache },
    { NULL, 'd', ARG_TAKE, FIELD(mode.flags), .call = arg_take_discard },
    { NULL, 'U', ARG_SET, FIELD(mode.force_share) },
    { NULL }
};
#undef FIELD

static int cmd_open(int argc, char **argv)
{
    g_autoptr(Options) o = opts_new();
    OpenArgs a = { .o = o,
                   .mode = { .flags = BLK_O_UNMAP | BLK_O_RDWR, .writethrough = true },
                   .bad = -EINVAL };
    ArgsResult r = args_take(open_args, argc, argv, &a);

    if (r == ARGS_BAD) {
        return a.bad;
    }
    if (r == ARGS_UNKNOWN || optind < argc - 1 || (optind == argc && opts_count(o) == 0)) {
        return command_usage(command_find("open"));
    }
    return io_open(optind < argc ? argv[optind] : NULL, a.mode.flags, a.mode.writethrough,
                   a.mode.force_share, g_steal_pointer(&o));
}

const IoCommand file_commands[] = { { "open", "o", cmd_open, 1, -1, CMD_NOFILE_OK,
                                      "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
                                      "open the file specified by path", open_help },
                                    { "close", "c", cmd_close, 0, 0, 0, NULL,
                                      "close the current open file", NULL },
                                    { NULL } };
