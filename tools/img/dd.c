/* SPDX-License-Identifier: MIT */
/* dd: convert for those who think in blocks; the operands are those of dd(1). */
#include "copy.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "dd [OPTIONS] [bs=SIZE] [count=N] [skip=N] if=FILE of=FILE\n"
    "Copies blocks of an image into a new one.\n"
    "\n"
    "  if=FILE                      the image to read\n"
    "  of=FILE                      the image to create\n"
    "  bs=SIZE                      bytes in a block (512)\n"
    "  count=N                      look at the first N blocks alone, those skipped among them\n"
    "  skip=N                       leave out the first N blocks\n"
    "  -f, --format FORMAT          format of the image to read (probed)\n"
    "  --image-opts                 the image to read is an option string\n"
    "  -O, --output-format FORMAT   format of the new image (raw)\n"
    "  -U, --force-share            the image to read may be in use\n"
    "  --object DEFINITION          a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -h, --help                   this text\n"
    "\n"
    "Sizes are in bytes, or with a suffix k, M, G, T, P or E for powers of 1024.\n";

typedef struct Dd {
    Copy copy;
    CopySource source;
    const char *in, *out, *in_format, *out_format;
    bool image_opts, force_share;
    int64_t bs, count, skip; /* count: -1 if not given */
} Dd;

#define FIELD(f) .at = offsetof(Dd, f)
static const ToolArg dd_args[] = {
    { "help", 'h', ARG_DO, .what = help_text, .call = img_show_help },
    { "format", 'f', ARG_TEXT, FIELD(in_format) },
    { "image-opts", 0, ARG_SET, FIELD(image_opts) },
    { "output-format", 'O', ARG_TEXT, FIELD(out_format) },
    { "force-share", 'U', ARG_SET, FIELD(force_share) },
    { "object", 0, ARG_TAKE, .call = object_take },
    { NULL }
};
#undef FIELD

/* ---- Operands ---- */

static const char *value_of(const char *operand, const char *name)
{
    size_t n = strlen(name);

    return strncmp(operand, name, n) == 0 && operand[n] == '=' ? operand + n + 1 : NULL;
}

/* One operand; false and told. */
static bool take_operand(Dd *d, const char *operand)
{
    const char *v;

    if ((v = value_of(operand, "if"))) {
        d->in = v;
    } else if ((v = value_of(operand, "of"))) {
        d->out = v;
    } else if ((v = value_of(operand, "bs"))) {
        d->bs = arg_size("bs", v, 1, INT32_MAX);
        return d->bs > 0;
    } else if ((v = value_of(operand, "count"))) {
        d->count = arg_number("count", v, 0, INT64_MAX);
        return d->count >= 0;
    } else if ((v = value_of(operand, "skip"))) {
        d->skip = arg_number("skip", v, 0, INT64_MAX);
        return d->skip >= 0;
    } else {
        img_error("unrecognized operand %.*s", (int)strcspn(operand, "="), operand);
        return false;
    }
    return true;
}

static bool take_operands(Dd *d, int n, char **operands)
{
    for (int i = 0; i < n; i++) {
        if (!take_operand(d, operands[i])) {
            return false;
        }
    }
    if (!d->in || !d->out) {
        img_error("Must specify both input and output files");
        return false;
    }
    return true;
}

/* ---- The copy ---- */

static bool open_source(Dd *d)
{
    int flags = d->force_share ? 0 : BLK_O_NO_SHARE;

    d->source.blk = img_open(d->in, d->in_format, flags, false, d->image_opts, d->force_share);
    if (!d->source.blk) {
        return false;
    }
    d->copy.sources = &d->source;
    d->copy.n_sources = 1;
    return true;
}

/* What of the source is copied. Nothing, after a word, where more is skipped than there is: not an
 * error, as for dd(1). */
static bool set_range(Dd *d)
{
    int64_t len = blk_getlength(d->source.blk), skip;

    if (len < 0) {
        img_error("Failed to get size for '%s'", d->in);
        return false;
    }
    if (d->count >= 0 && d->count <= len / d->bs) {
        len = d->count * d->bs;
    }
    skip = d->skip <= len / d->bs ? d->skip * d->bs : INT64_MAX;
    if (skip > len) {
        img_error("%s: cannot skip to specified offset", d->in);
        skip = len;
    }
    d->source.skip = skip;
    d->source.bytes = d->copy.total = len - skip;
    return true;
}

static bool create_target(Dd *d)
{
    GError *err = NULL;
    Options *o = opts_new();

    opts_set_int(o, "size", d->copy.total);
    if (blk_create(d->out, d->out_format, o, &err) < 0) {
        g_autofree char *prefix =
            g_strdup_printf("%s: error while creating output image: ", d->out);

        img_error_from(err, prefix);
        return false;
    }
    return true;
}

static bool open_target(Dd *d)
{
    /* Where the target's end is within a block that is written whole, it becomes longer. */
    d->copy.target = img_open(d->out, d->out_format, BLK_O_RDWR | BLK_O_RESIZE | BLK_O_UNMAP, false,
                              false, false);
    if (!d->copy.target) {
        return false;
    }
    d->copy.reads_zero = blk_unwritten_reads_zero(blk_bs(d->copy.target));
    return true;
}

static bool check_format(const Dd *d)
{
    if (blk_format_features(d->out_format) < 0) {
        img_error("Unknown file format");
        return false;
    }
    return img_creatable(d->out_format) >= 0;
}

static int run(Dd *d, int argc, char **argv)
{
    bool ok;

    img_take_args("dd", dd_args, argc, argv, d);
    if (!take_operands(d, argc - optind, argv + optind)) {
        return 1;
    }
    if (d->image_opts && d->in_format) {
        img_error("--image-opts and --format are mutually exclusive");
        return 1;
    }
    ok = open_source(d) && check_format(d) && set_range(d) && create_target(d) &&
         open_target(d) && copy_run(&d->copy);
    ok = img_close(d->copy.target, d->out, ok) && ok;
    blk_close_reader(d->source.blk);
    return ok ? 0 : 1;
}

int img_dd(int argc, char **argv)
{
    Dd d = { .copy = { .min_sparse = 4096, .workers = 8 },
             .out_format = "raw",
             .bs = 512,
             .count = -1 };

    return run(&d, argc, argv);
}
