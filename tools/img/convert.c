/* SPDX-License-Identifier: MIT */
/* convert: what is asked, the sources, the target; copy.c does the work. */
#include "chain.h"
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
    "  -l, --source-snapshot NAME    read an internal snapshot: its id or name, or\n"
    "                                snapshot.id=ID,snapshot.name=NAME\n"
    "  -T, --source-cache MODE       cache mode of the sources (writeback)\n"
    "  -U, --force-share             the sources may be in use\n"
    "  --salvage                     go on after read errors; what cannot be read becomes zero\n"
    "Target:\n"
    "  -O, --target-format FORMAT    format of the target (raw)\n"
    "  -o, --target-options OPTIONS  options of the new image; 'help' lists them\n"
    "  -t, --target-cache MODE       cache mode of the target (unsafe)\n"
    "  -B, --backing FILE            the target is an overlay over FILE\n"
    "  -F, --backing-format FORMAT   format of the backing file\n"
    "  -c, --compress                write compressed clusters; -o compression_level=N: how hard,\n"
    "                                zlib 1 to 9, zstd 1 to 22 (of this conversion only)\n"
    "  -n, --no-create               the target is there already\n"
    "  --target-image-opts           the target is an option string (with -n)\n"
    "  --target-is-zero              the target reads zero already (with -n)\n"
    "  -S, --sparse-size SIZE        look for zeroes in units of SIZE (4k); 0: write everything\n"
    "  --bitmaps                     copy persistent bitmaps too\n"
    "  --skip-broken-bitmaps         ... but the inconsistent ones\n"
    "The copy:\n"
    "  -m, --parallel COUNT          requests in flight, 1 to 16 (8)\n"
    "  -W, --oob-writes              write in any order\n"
    "  -r, --rate SIZE               bytes per second at most\n"
    "  -C, --copy-range-offloading   let the host copy (not supported yet)\n"
    "  -p, --progress                show progress\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
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
    char *level;          /* of compression; NULL: not given */
    const char *snapshot; /* of the first source */
    char *options;
} Convert;

static bool take_sparse(const ToolArg *a, void *record, void *field, const char *value)
{
    Convert *v = record;
    int64_t n = arg_size("buffer size for sparse output", value, 0, INT64_MAX);

    if (n < 0) {
        return false;
    }
    if (n % 512 || n > 16 * MiB) {
        img_error("Invalid buffer size for sparse output specified. Valid sizes are multiples of "
                  "512 up to %d. "
                  "Select 0 to disable sparse detection (fully allocates output).",
                  (int)(16 * MiB));
        return false;
    }
    v->copy.min_sparse = n;
    v->sparse_given = true;
    return true;
}

static bool take_workers(const ToolArg *a, void *record, void *field, const char *value)
{
    char *end;
    long n = strtol(value, &end, 0);

    if (end == value || *end) {
        img_error("Invalid number of coroutines specified: '%s'.", value);
        return false;
    }
    if (n < 1 || n > COPY_MAX_WORKERS) {
        img_error("Invalid number of coroutines specified. Must be between 1 and %d.",
                  COPY_MAX_WORKERS);
        return false;
    }
    ((Convert *)record)->copy.workers = (int)n;
    return true;
}

static bool take_options_text(const ToolArg *a, void *record, void *field, const char *value)
{
    return img_add_options(&((Convert *)record)->options, value);
}

static bool take_snapshot(const ToolArg *a, void *record, void *field, const char *value)
{
    ((Convert *)record)->snapshot = value;
    return img_check_snapshot_name(value);
}

#define FIELD(f) .at = offsetof(Convert, f)
static const ToolArg convert_args[] = {
    { "help", 'h', ARG_DO, .what = help_text, .call = img_show_help },
    { "source-format", 'f', ARG_TEXT, FIELD(src_format) },
    { "source-image-opts", 0, ARG_SET, FIELD(image_opts) },
    { "image-opts", 0, ARG_SET, FIELD(image_opts) },
    { "source-snapshot", 'l', ARG_TAKE, .call = take_snapshot },
    { "source-cache", 'T', ARG_TEXT, FIELD(src_cache) },
    { "target-format", 'O', ARG_TEXT, FIELD(dst_format) },
    { "target-image-opts", 0, ARG_SET, FIELD(target_image_opts) },
    { "target-options", 'o', ARG_TAKE, .call = take_options_text },
    { "compress", 'c', ARG_SET, FIELD(copy.compress) },
    { "target-cache", 't', ARG_TEXT, FIELD(dst_cache) },
    { "backing", 'B', ARG_TEXT, FIELD(base) },
    { "backing-format", 'F', ARG_TEXT, FIELD(base_format) },
    { "no-create", 'n', ARG_SET, FIELD(no_create) },
    { "target-is-zero", 0, ARG_SET, FIELD(target_is_zero) },
    { "sparse-size", 'S', ARG_TAKE, .call = take_sparse },
    { "bitmaps", 0, ARG_SET, FIELD(bitmaps) },
    { "skip-broken-bitmaps", 0, ARG_SET, FIELD(skip_broken) },
    { "force-share", 'U', ARG_SET, FIELD(force_share) },
    { "rate", 'r', ARG_SIZE, FIELD(copy.rate), "rate limit", 0, INT64_MAX },
    { "parallel", 'm', ARG_TAKE, .call = take_workers },
    { "oob-writes", 'W', ARG_SET, FIELD(copy.out_of_order) },
    { "copy-range-offloading", 'C', ARG_SET, FIELD(offload) },
    { "progress", 'p', ARG_SET, FIELD(progress) },
    { "quiet", 'q', ARG_SET, FIELD(copy.quiet) },
    { "salvage", 0, ARG_SET, FIELD(copy.salvage) },
    { "object", 0, ARG_TAKE, .call = object_take },
    { NULL }
};
#undef FIELD

/* What does not go together, in the reference's order; NULL: fine. */
static const char *contradiction(const Convert *v)
{
    if (v->skip_broken && !v->bitmaps) {
        return "Use of --skip-broken-bitmaps requires --bitmaps";
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

static bool load_snapshot(Convert *v, int n)
{
    if (n > 1 && !g_str_has_prefix(v->snapshot, "snapshot.")) {
        img_error("No support for concatenating multiple snapshot");
        return false;
    }
    return img_load_snapshot(v->copy.sources[0].blk, v->snapshot);
}

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
        if (i == 0 && v->snapshot && !load_snapshot(v, n)) {
            return false;
        }
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

static bool takes_option(const char *format, const char *name)
{
    g_autofree BlockCreateOption *list = blk_create_options(NULL, format, NULL);
    const BlockCreateOption *o = list;

    while (o && o->name && strcmp(o->name, name)) {
        o++;
    }
    return o && o->name;
}

static bool is_encrypted(const Options *o)
{
    const char *alias = opts_peek(o, "encryption");

    return opts_has(o, "encrypt.format") || (alias && strcmp(alias, "off"));
}

/* Backing file and compression against the format and the options; false: told. */
static bool check_target(Convert *v, int features)
{
    const char *prealloc = opts_peek(v->opts, "preallocation");

    if (v->base || v->base_format) {
        if (!takes_option(v->dst_format, "backing_file")) {
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
    if (v->copy.compress && !(features & BLK_CAN_COMPRESS)) {
        img_error("Compression not supported for this file format");
        return false;
    }
    if (v->copy.compress && is_encrypted(v->opts)) {
        img_error("Compression and encryption not supported at the same time");
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
    int features = img_creatable(v->dst_format);

    if (features < 0) {
        return false;
    }
    if (v->options && !opts_parse(v->opts, v->options, NULL, &err)) {
        img_error_from(err, NULL);
        return false;
    }
    v->level = takes_option(v->dst_format, "compression_type")
                   ? opts_take_str(v->opts, "compression_level")
                   : NULL;
    if (!blk_check_create_options(v->dst, v->dst_format, v->opts, &err)) {
        img_error_from(err, NULL);
        return false;
    }
    return check_target(v, features);
}

static bool create_target(Convert *v)
{
    GError *err = NULL;

    object_add_secrets(v->opts);
    opts_set_int(v->opts, "size", v->copy.total);
    if (blk_create(v->dst, v->dst_format, opts_copy(v->opts), &err) < 0) {
        g_autofree char *prefix =
            g_strdup_printf("%s: error while converting %s: ", v->dst, v->dst_format);

        img_error_from(err, prefix);
        return false;
    }
    return true;
}

static void add_key_secret(const char *key, const char *value, void *opaque)
{
    if (g_str_has_suffix(key, "key-secret")) {
        opts_set(opaque, key, value);
    }
}

/* How compressed clusters are packed is no matter of the image, but of who writes them. */
static bool set_level(const Convert *v)
{
    Options *o = opts_new();
    GError *err = NULL;

    opts_set(o, "compression-level", v->level);
    if (!blk_reopen(v->copy.target, o, &err)) {
        img_error_from(err, NULL);
        return false;
    }
    return true;
}

/* The new image was asked to have a place for all of its clusters, which zeroes do not give up. */
static bool is_preallocated(const Convert *v)
{
    const char *mode = v->no_create ? NULL : opts_peek(v->opts, "preallocation");

    return mode && strcmp(mode, "off");
}

static bool open_target(Convert *v)
{
    Options *keys = opts_new();
    Copy *c = &v->copy;
    /* Where the target's end is within a block that is written whole, it becomes longer. */
    int flags = BLK_O_RDWR | BLK_O_RESIZE |
                (c->min_sparse && !is_preallocated(v) ? BLK_O_UNMAP : 0);
    bool writethrough;
    int64_t len;

    opts_foreach(v->opts, add_key_secret, keys);
    if (!blk_parse_cache_mode(v->dst_cache, &flags, &writethrough)) {
        img_error("Invalid cache option: %s", v->dst_cache);
        opts_free(keys);
        return false;
    }
    c->target = img_open_with(v->dst, v->target_image_opts ? NULL : v->dst_format, keys, flags,
                              writethrough, v->target_image_opts, false);
    if (!c->target) {
        return false;
    }
    if (c->compress && !(blk_node_facts(blk_bs(c->target)).features & BLK_CAN_COMPRESS)) {
        img_error("Compression not supported for this file format");
        return false;
    }
    if (v->level && !set_level(v)) {
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
    BlockDriverState *base = v->base ? blk_node_backing(blk_bs(c->target)) : NULL;
    BlockDriverState *bs = blk_bs(c->sources[0].blk);
    BlockNodeFacts f;

    if (!base) {
        return true;
    }
    f = blk_node_facts(base);
    c->base_blk =
        img_open(f.filename, *f.exact_filename ? f.driver : NULL, 0, false, false, v->force_share);
    if (!c->base_blk) {
        return false;
    }
    while ((bs = blk_node_backing(bs))) {
        BlockNodeFacts g = blk_node_facts(bs);

        if (*g.exact_filename && *f.exact_filename && !strcmp(g.driver, f.driver) &&
            chain_same_file(g.exact_filename, f.exact_filename)) {
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

    if (!open_sources(v, names, n) ||
        (v->bitmaps && !bitmaps_check_source(c->sources[0].blk, n, v->skip_broken)) ||
        (!v->no_create && !take_options(v))) {
        return false;
    }
    if (n > 1 && v->base) {
        img_error("Having a backing file for the target makes no sense when concatenating multiple "
                  "input images");
        return false;
    }
    return (v->no_create || create_target(v)) && open_target(v) &&
           (!v->bitmaps || bitmaps_check_target(c->target)) && find_base(v) && copy_run(c) &&
           (!v->bitmaps || bitmaps_copy(c->sources[0].blk, c->target));
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

    img_take_args("convert", convert_args, argc, argv, v);
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
    g_free(v.level);
    return ret;
}
