/* SPDX-License-Identifier: MIT */
/* cowlet-io: single requests on an image, from the command line or standard input. */
#include "io.h"

#include "config-host.h"
#include "tools/lib/object.h"
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
           "  -C, --copy-on-read   what is read of a backing file becomes the image's own\n"
           "  --object DEFINITION  a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
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
    IoMode mode;
    bool read_only, image_opts;
} Args;

/* There are no trace events: each that is named is unknown. */
static bool warn_trace(const ToolArg *a, void *record, void *field, const char *arg)
{
    g_autoptr(Options) o = opts_new();
    const char *pattern;

    if (!opts_parse(o, arg, "enable", NULL)) {
        return true;
    }
    pattern = opts_peek(o, "enable");
    if (pattern) {
        tool_error("warning: trace event '%s' does not exist", pattern);
    }
    return true;
}

static bool take_command(const ToolArg *a, void *record, void *field, const char *value)
{
    g_ptr_array_add(((Args *)record)->commands, (void *)(uintptr_t)value);
    return true;
}

static bool take_misalign(const ToolArg *a, void *record, void *field, const char *value)
{
    tool.misalign = true;
    return true;
}

static bool show_help(const ToolArg *a, void *record, void *field, const char *value)
{
    usage();
    exit(0);
}

static bool show_version(const ToolArg *a, void *record, void *field, const char *value)
{
    printf("%s version " COWLET_VERSION "\n", tool.progname);
    exit(0);
}

#define FIELD(f) .at = offsetof(Args, f)
static const ToolArg io_args[] = {
    { "help", 'h', ARG_DO, .call = show_help },
    { "version", 'V', ARG_DO, .call = show_version },
    { "cmd", 'c', ARG_TAKE, .call = take_command },
    { "format", 'f', ARG_TEXT, FIELD(format) },
    { "read-only", 'r', ARG_SET, FIELD(read_only) },
    { "snapshot", 's', ARG_BITS, FIELD(mode.flags), .bits = BLK_O_TEMPORARY },
    { "nocache", 'n', ARG_DO, FIELD(mode), .call = io_take_nocache },
    { "copy-on-read", 'C', ARG_BITS, FIELD(mode.flags), .bits = BLK_O_COPY_ON_READ },
    { "misalign", 'm', ARG_DO, .call = take_misalign },
    { "native-aio", 'k', ARG_DO, FIELD(mode.flags), .call = arg_native_aio },
    { "aio", 'i', ARG_TAKE, FIELD(mode.flags), .call = arg_take_aio },
    { "discard", 'd', ARG_TAKE, FIELD(mode.flags), .call = arg_take_discard },
    { "cache", 't', ARG_TAKE, FIELD(mode), .call = io_take_cache },
    { "trace", 'T', ARG_TAKE, .call = warn_trace },
    { "force-share", 'U', ARG_SET, FIELD(mode.force_share) },
    { "object", 0, ARG_TAKE, .call = object_take },
    { "image-opts", 0, ARG_SET, FIELD(image_opts) },
    { NULL }
};
#undef FIELD

static void parse_args(int argc, char **argv, Args *a)
{
    ArgsResult r = args_take(io_args, argc, argv, a);

    if (r == ARGS_BAD) {
        exit(1);
    }
    if (r == ARGS_UNKNOWN || argc - optind > 1) {
        usage();
        exit(1);
    }
    if (a->format && a->image_opts) {
        tool_error("--image-opts and -f are mutually exclusive");
        exit(1);
    }
}

static int open_image(Args *a, const char *arg)
{
    if (!a->read_only) {
        a->mode.flags |= BLK_O_RDWR;
    }
    if (a->format) {
        opts_set(a->opts, "driver", a->format);
    }
    if (!a->image_opts) {
        return io_open(arg, a->mode.flags, a->mode.writethrough, a->mode.force_share,
                       g_steal_pointer(&a->opts));
    }
    if (!parse_options(a->opts, arg)) {
        return -EINVAL;
    }
    return io_open(NULL, a->mode.flags, a->mode.writethrough, a->mode.force_share,
                   g_steal_pointer(&a->opts));
}

int main(int argc, char **argv)
{
    Args a = { .mode = { .flags = BLK_O_UNMAP, .writethrough = true } };
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
    return ret;
}
