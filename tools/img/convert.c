/* SPDX-License-Identifier: MIT */
/* convert: what is asked, the sources, the target; copy.c does the work. */
#include "copy.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help_text[] =
    "convert [OPTIONS] SOURCE [SOURCE…] TARGET\n"
    "Copies an image, or several end to end, into a new one.\n"
    "\n"
    "Sources:\n"
    "  -f, --source-format FORMAT    format of the sources (probed)\n"
    "  --source-image-opts, --image-opts\n"
    "                                the sources are option strings\n"
    "  -l, --source-snapshot NAME    read an internal snapshot (not supported yet)\n"
    "  -T, --source-cache MODE       cache mode of the sources (writeback)\n"
    "  -U, --force-share             the sources may be in use\n"
    "  --salvage                     go on after read errors; what cannot be read becomes zero\n"
    "Target:\n"
    "  -O, --target-format FORMAT    format of the target (raw)\n"
    "  -o, --target-options OPTIONS  options of the new image; 'help' lists them\n"
    "  -t, --target-cache MODE       cache mode of the target (unsafe)\n"
    "  -B, --backing FILE            the target is an overlay over FILE\n"
    "  -F, --backing-format FORMAT   format of the backing file\n"
    "  -c, --compress                write compressed clusters\n"
    "  -n, --no-create               the target is there already\n"
    "  --target-image-opts           the target is an option string (with -n)\n"
    "  --target-is-zero              the target reads zero already (with -n)\n"
    "  -S, --sparse-size SIZE        look for zeroes in units of SIZE (4k); 0: write everything\n"
    "  --bitmaps                     copy persistent bitmaps too (not supported yet)\n"
    "  --skip-broken-bitmaps         ... but the broken ones (not supported yet)\n"
    "The copy:\n"
    "  -m, --parallel COUNT          requests in flight, 1 to 16 (8)\n"
    "  -W, --oob-writes              write in any order\n"
    "  -r, --rate SIZE               bytes per second at most\n"
    "  -C, --copy-range-offloading   let the host copy (not supported yet)\n"
    "  -p, --progress                show progress\n"
    "  --object DEFINITION           objects such as secrets: refused, there are none yet\n"
    "  -q, --quiet                   print errors only\n"
    "  -h, --help                    this text\n"
    "\n"
    "Sizes are in bytes, or with a suffix k, M, G, T, P or E for powers of 1024.\n"
    "Cache modes: none, writeback, writethrough, directsync, unsafe.\n";

typedef struct Convert {
    Copy copy;
    Options *opts;
    const char *src_format, *dst_format, *src_cache, *dst_cache, *base, *base_format, *dst;
    bool image_opts, target_image_opts, no_create, target_is_zero, force_share, progress, offload,
        sparse_given;
    bool bitmaps, skip_broken;
    char *options;
} Convert;

static void sparse_arg(Convert *v, const char *arg)
{
    int64_t n = img_size_arg("buffer size for sparse output", arg, 0, INT64_MAX);

    if (n < 0) {
        exit(1);
    }
    if (n % 512 || n > 16 * MiB) {
        img_error("Invalid buffer size for sparse output specified. Valid sizes are multiples of "
                  "512 up to %d. "
                  "Select 0 to disable sparse detection (fully allocates output).",
                  (int)(16 * MiB));
        exit(1);
    }
    v->copy.min_sparse = n;
    v->sparse_given = true;
}

static void workers_arg(Convert *v, const char *arg)
{
    char *end;
    long n = strtol(arg, &end, 0);

    if (end == arg || *end) {
        img_error("Invalid number of coroutines specified: '%s'.", arg);
        exit(1);
    }
    if (n < 1 || n > COPY_MAX_WORKERS) {
        img_error("Invalid number of coroutines specified. Must be between 1 and %d.",
                  COPY_MAX_WORKERS);
        exit(1);
    }
    v->copy.workers = (int)n;
}

static void refuse(const char *what)
{
    img_error("%s is not supported", what);
    exit(1);
}

static const struct option longs[] = {
    { "help", no_argument, NULL, 'h' },
    { "source-format", required_argument, NULL, 'f' },
    { "source-image-opts", no_argument, NULL, OPT_IMAGE_OPTS },
    { "image-opts", no_argument, NULL, OPT_IMAGE_OPTS },
    { "source-snapshot", required_argument, NULL, 'l' },
    { "source-cache", required_argument, NULL, 'T' },
    { "target-format", required_argument, NULL, 'O' },
    { "target-image-opts", no_argument, NULL, OPT_TARGET_IMAGE_OPTS },
    { "target-options", required_argument, NULL, 'o' },
    { "compress", no_argument, NULL, 'c' },
    { "target-cache", required_argument, NULL, 't' },
    { "backing", required_argument, NULL, 'B' },
    { "backing-format", required_argument, NULL, 'F' },
    { "no-create", no_argument, NULL, 'n' },
    { "target-is-zero", no_argument, NULL, OPT_TARGET_IS_ZERO },
    { "sparse-size", required_argument, NULL, 'S' },
    { "bitmaps", no_argument, NULL, OPT_BITMAPS },
    { "skip-broken-bitmaps", no_argument, NULL, OPT_SKIP_BROKEN },
    { "force-share", no_argument, NULL, 'U' },
    { "rate", required_argument, NULL, 'r' },
    { "parallel", required_argument, NULL, 'm' },
    { "oob-writes", no_argument, NULL, 'W' },
    { "copy-range-offloading", no_argument, NULL, 'C' },
    { "progress", no_argument, NULL, 'p' },
    { "quiet", no_argument, NULL, 'q' },
    { "salvage", no_argument, NULL, OPT_SALVAGE },
    { "object", required_argument, NULL, OPT_OBJECT },
    { NULL }
};

static void one_option(Convert *v, int o)
{
    switch (o) {
    case 'h':
        img_help(help_text);
    case 'f':
        v->src_format = optarg;
        break;
    case 'O':
        v->dst_format = optarg;
        break;
    case 'B':
        v->base = optarg;
        break;
    case 'F':
        v->base_format = optarg;
        break;
    case 'c':
        v->copy.compress = true;
        break;
    case 'o':
        if (!img_add_options(&v->options, optarg)) {
            exit(1);
        }
        break;
    case 'l':
        refuse("Reading an internal snapshot (-l)");
        break;
    case 'S':
        sparse_arg(v, optarg);
        break;
    case 'p':
        v->progress = true;
        break;
    case 't':
        v->dst_cache = optarg;
        break;
    case 'T':
        v->src_cache = optarg;
        break;
    case 'q':
        v->copy.quiet = true;
        break;
    case 'n':
        v->no_create = true;
        break;
    case 'm':
        workers_arg(v, optarg);
        break;
    case 'W':
        v->copy.out_of_order = true;
        break;
    case 'C':
        v->offload = true;
        break;
    case 'U':
        v->force_share = true;
        break;
    case 'r':
        v->copy.rate = img_size_arg("rate limit", optarg, 0, INT64_MAX);
        if (v->copy.rate < 0) {
            exit(1);
        }
        break;
    case OPT_OBJECT:
        img_refuse_object(optarg, 1);
    case OPT_IMAGE_OPTS:
        v->image_opts = true;
        break;
    case OPT_SALVAGE:
        v->copy.salvage = true;
        break;
    case OPT_TARGET_IMAGE_OPTS:
        v->target_image_opts = true;
        break;
    case OPT_TARGET_IS_ZERO:
        v->target_is_zero = true;
        break;
    case OPT_BITMAPS:
        v->bitmaps = true;
        break;
    case OPT_SKIP_BROKEN:
        v->skip_broken = true;
        break;
    default:
        img_unknown_option("convert");
    }
}

/* What does not go together, in the reference's order; NULL: fine. */
static const char *contradiction(const Convert *v)
{
    if (v->skip_broken && !v->bitmaps) {
        return "Use of --skip-broken-bitmaps requires --bitmaps";
    }
    if (v->bitmaps) {
        return "Copying bitmaps (--bitmaps) is not supported";
    }
    if (v->target_image_opts && !v->no_create) {
        return "--target-image-opts requires use of -n flag";
    }
    if (v->target_is_zero && !v->no_create) {
        return "--target-is-zero requires use of -n flag";
    }
    if (v->target_is_zero && v->base) {
        return "Cannot use --target-is-zero when the destination image has a backing file";
    }
    if (v->offload && v->sparse_given) {
        return "Cannot enable copy offloading when -S is used";
    }
    if (v->offload && v->copy.compress) {
        return "Cannot enable copy offloading when -c is used";
    }
    if (v->offload && v->copy.salvage) {
        return "Cannot use copy offloading in salvaging mode";
    }
    if (v->offload) {
        return "Copy offloading (-C) is not supported";
    }
    if (v->no_create && v->options) {
        return "-o has no effect when skipping image creation";
    }
    if (v->target_image_opts && v->dst_format) {
        return "--image-opts and --format are mutually exclusive";
    }
    return NULL;
}

/* ---- Sources ---- */

static bool open_sources(Convert *v, char **names, int n)
{
    Copy *c = &v->copy;
    int flags = v->force_share
                    ? 0
                    : BLK_O_NO_SHARE; /* a copy of what is being written is a copy of nothing */
    bool writethrough;

    if (!blk_parse_cache_mode(v->src_cache, &flags, &writethrough)) {
        img_error("Invalid source cache option: %s", v->src_cache);
        return false;
    }
    c->sources = g_new0(CopySource, n);
    for (int i = 0; i < n; i++) {
        CopySource *s = &c->sources[i];

        s->blk =
            img_open(names[i], v->src_format, flags, writethrough, v->image_opts, v->force_share);
        if (!s->blk) {
            return false;
        }
        c->n_sources++;
        s->start = c->total;
        s->bytes = blk_getlength(s->blk);
        if (s->bytes < 0) {
            img_error("Could not get size of %s: %s", names[i], strerror((int)-s->bytes));
            return false;
        }
        c->total += s->bytes;
    }
    return true;
}

/* ---- Target ---- */

static const BlockDriver *target_driver(Convert *v, GError **errp)
{
    const BlockDriver *drv = bdrv_find_format(v->dst_format);

    if (!drv) {
        error_set(errp, EINVAL, "Unknown file format '%s'", v->dst_format);
        return NULL;
    }
    if (!(drv->features & BDRV_CAN_CREATE)) {
        error_set(errp, EINVAL, "Format driver '%s' does not support image creation",
                  v->dst_format);
        return NULL;
    }
    return drv;
}

static bool takes_option(const BlockDriver *drv, const char *name)
{
    for (const BlockCreateOption *o = drv->create_options; o->name; o++) {
        if (!strcmp(o->name, name)) {
            return true;
        }
    }
    return false;
}

/* Backing file and compression against the format and the options; false: told. */
static bool check_target(Convert *v, const BlockDriver *drv)
{
    const char *prealloc = opts_peek(v->opts, "preallocation");

    if (v->base || v->base_format) {
        if (!takes_option(drv, "backing_file")) {
            img_error("Backing file not supported for file format '%s'", v->dst_format);
            return false;
        }
        if (v->base) {
            opts_set(v->opts, "backing_file", v->base);
        }
        if (v->base_format) {
            opts_set(v->opts, "backing_fmt", v->base_format);
        }
    }
    v->base = opts_peek(v->opts, "backing_file");
    if (v->base && !opts_peek(v->opts, "backing_fmt")) {
        img_error("Use of backing file requires explicit backing format");
        return false;
    }
    if (v->copy.compress && !(drv->features & BDRV_CAN_COMPRESS)) {
        img_error("Compression not supported for this file format");
        return false;
    }
    if (v->copy.compress && prealloc && strcmp(prealloc, "off")) {
        img_error("Compression and preallocation not supported at the same time");
        return false;
    }
    return true;
}

/* The options of the new image: known, well formed, and not against each other. */
static bool take_options(Convert *v)
{
    GError *err = NULL;
    const BlockDriver *drv = target_driver(v, &err);

    if (!drv || (v->options && !opts_parse(v->opts, v->options, NULL, &err)) ||
        !blk_check_create_options(v->dst, v->dst_format, v->opts, &err)) {
        img_error_from(err, NULL);
        return false;
    }
    return check_target(v, drv);
}

static bool create_target(Convert *v)
{
    GError *err = NULL;

    opts_set_int(v->opts, "size", v->copy.total);
    if (blk_create(v->dst, v->dst_format, opts_copy(v->opts), &err) < 0) {
        g_autofree char *prefix =
            g_strdup_printf("%s: error while converting %s: ", v->dst, v->dst_format);

        img_error_from(err, prefix);
        return false;
    }
    return true;
}

static bool open_target(Convert *v)
{
    Copy *c = &v->copy;
    /* Where the target's end is within a block that is written whole, it becomes longer. */
    int flags = BLK_O_RDWR | BLK_O_RESIZE | (c->min_sparse ? BLK_O_UNMAP : 0);
    bool writethrough;
    int64_t len;

    if (!blk_parse_cache_mode(v->dst_cache, &flags, &writethrough)) {
        img_error("Invalid cache option: %s", v->dst_cache);
        return false;
    }
    c->target = img_open(v->dst, v->target_image_opts ? NULL : v->dst_format, flags, writethrough,
                         v->target_image_opts, false);
    if (!c->target) {
        return false;
    }
    if (c->compress && !(blk_bs(c->target)->drv->features & BDRV_CAN_COMPRESS)) {
        img_error("Compression not supported for this file format");
        return false;
    }
    len = blk_getlength(c->target);
    if (len < 0) {
        img_error("unable to get output image length: %s", strerror((int)-len));
        return false;
    }
    if (len < c->total) {
        img_error("output file is smaller than input file");
        return false;
    }
    c->target_has_data = v->no_create;
    c->reads_zero = v->no_create ? v->target_is_zero : blk_unwritten_reads_zero(blk_bs(c->target));
    return true;
}

/* With -B: the backing file of the new image, and where it is in the source's chain. */
static bool find_base(Convert *v)
{
    Copy *c = &v->copy;
    BlockDriverState *base =
        v->base && blk_bs(c->target)->backing ? blk_bs(c->target)->backing->bs : NULL;
    BlockDriverState *bs = blk_bs(c->sources[0].blk);

    if (!base) {
        return true;
    }
    c->base_blk = img_open(base->filename, base->exact_filename[0] ? base->drv->format_name : NULL,
                           0, false, false, v->force_share);
    if (!c->base_blk) {
        return false;
    }
    while ((bs = bs->backing ? bs->backing->bs : NULL)) {
        g_autofree char *a = realpath(bs->exact_filename, NULL),
                        *b = realpath(base->exact_filename, NULL);

        if (a && b && !strcmp(a, b) && bs->drv == base->drv) {
            c->shared_base = bs;
            break;
        }
    }
    return true;
}

/* ---- The command ---- */

static bool convert(Convert *v, char **names, int n)
{
    Copy *c = &v->copy;

    if (!open_sources(v, names, n) || (!v->no_create && !take_options(v))) {
        return false;
    }
    if (n > 1 && v->base) {
        img_error("Having a backing file for the target makes no sense when concatenating multiple "
                  "input images");
        return false;
    }
    return (v->no_create || create_target(v)) && open_target(v) && find_base(v) && copy_run(c);
}

/* What the target cannot store is told before success is; @ok: no other error was told. */
static bool close_all(Convert *v, bool ok)
{
    Copy *c = &v->copy;

    ok = img_close(c->target, v->dst, ok) && ok;
    blk_close_reader(c->base_blk);
    for (int i = 0; i < c->n_sources; i++) {
        blk_close_reader(c->sources[i].blk);
    }
    g_free(c->sources);
    return ok;
}

static int run(Convert *v, int argc, char **argv)
{
    const char *wrong;
    bool ok;
    int o;

    while ((o = getopt_long(argc, argv, "hf:O:B:CcF:o:l:S:pt:T:qnm:WUr:", longs, NULL)) != -1) {
        one_option(v, o);
    }
    wrong = contradiction(v);
    if (wrong) {
        img_error("%s", wrong);
        return 1;
    }
    if (!v->dst_format && !v->target_image_opts) {
        v->dst_format = "raw";
    }
    v->dst = optind + 1 < argc ? argv[argc - 1] : NULL;
    if (v->options && img_is_help(v->options)) {
        return img_print_create_options(v->dst, v->dst_format);
    }
    if (!v->dst) {
        img_error("Must specify image file name");
        return 1;
    }
    progress_init(v->progress && !v->copy.quiet, 1.0);
    progress_set(0);
    ok = convert(v, argv + optind, argc - optind - 1);
    ok = close_all(v, ok);
    if (ok) {
        progress_set(100);
    }
    progress_end();
    return ok ? 0 : 1;
}

int img_convert(int argc, char **argv)
{
    Convert v = { .copy = { .min_sparse = 4096, .workers = 8 },
                  .src_cache = "writeback",
                  .dst_cache = "unsafe",
                  .opts = opts_new() };
    int ret = run(&v, argc, argv);

    opts_free(v.opts);
    g_free(v.options);
    return ret;
}
