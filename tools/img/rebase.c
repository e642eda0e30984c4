/* SPDX-License-Identifier: MIT */
/*
 * rebase: another backing file, with what the image shows kept: where the old one and the new one
 * differ, the image itself gets what it shows. What both chains have below is not looked at.
 *
 * All of that changes nothing that a reader sees, and is flushed before the header names another
 * file: stopped at any moment, the image reads as it did.
 */
#include "chain.h"
#include "copy.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "rebase [OPTIONS] FILE\n"
    "Puts an image over another backing file, and keeps what it shows.\n"
    "\n"
    "  -b, --backing FILE          the new backing file; '': none any more\n"
    "  -F, --backing-format FORMAT its format\n"
    "  -u, --backing-unsafe        change the name alone, and open neither backing file\n"
    "  -c, --compress              write compressed clusters\n"
    "  -f, --format FORMAT         format of the image (probed)\n"
    "  --image-opts                the image is an option string\n"
    "  -t, --cache MODE            cache mode of the image (writeback)\n"
    "  -T, --backing-cache MODE    cache mode of the new backing file (writeback)\n"
    "  -U, --force-share           the new backing file may be in use\n"
    "  -p, --progress              show progress\n"
    "  --object DEFINITION         a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -q, --quiet                 print errors only\n"
    "  -h, --help                  this text\n"
    "\n"
    "Cache modes: none, writeback, writethrough, directsync, unsafe.\n";

typedef struct Rebase {
    Copy copy; /* first: from the image into itself */
    CopySource source;
    const char *name, *format, *backing, *backing_format, *cache, *backing_cache;
    bool image_opts, unsafe, compress, force_share, progress, quiet;
    BlockBackend *top, *below; /* below: the new backing file; NULL: none */
    BlockDriverState *old;     /* the old one; NULL: none */
    /* From here on the chains are the same: as a node of the old one, and of the new one. NULL:
     * they never are. */
    BlockDriverState *old_common, *new_common;
} Rebase;

#define FIELD(f) .at = offsetof(Rebase, f)
static const ToolArg rebase_args[] = {
    { "help", 'h', ARG_DO, .what = help_text, .call = img_show_help },
    { "quiet", 'q', ARG_SET, FIELD(quiet) },
    { "progress", 'p', ARG_SET, FIELD(progress) },
    { "format", 'f', ARG_TEXT, FIELD(format) },
    { "image-opts", 0, ARG_SET, FIELD(image_opts) },
    { "cache", 't', ARG_TEXT, FIELD(cache) },
    { "compress", 'c', ARG_SET, FIELD(compress) },
    { "backing", 'b', ARG_TEXT, FIELD(backing) },
    { "backing-format", 'F', ARG_TEXT, FIELD(backing_format) },
    { "backing-cache", 'T', ARG_TEXT, FIELD(backing_cache) },
    { "backing-unsafe", 'u', ARG_SET, FIELD(unsafe) },
    { "force-share", 'U', ARG_SET, FIELD(force_share) },
    { "object", 0, ARG_TAKE, .call = object_take },
    { NULL }
};
#undef FIELD

/* ---- What is to be copied ---- */

/* Does @layer of @blk's chain, or one below it but above @common, hold anything at p->offset?
 * Shortens the piece to what is alike. */
static int coroutine_fn co_held_above(BlockBackend *blk, BlockDriverState *layer,
                                      BlockDriverState *common, CopyPiece *p)
{
    int64_t len = layer ? blk_node_facts(layer).length : 0, map, n;
    BlockDriverState *file;
    int ret;

    if (!layer || layer == common) {
        return 0;
    }
    if (p->offset >= len) { /* it ends there, whatever is below it */
        return BLK_ALLOCATED | BLK_ZERO;
    }
    n = MIN(p->bytes, len - p->offset);
    ret = blk_co_block_status_above(blk, layer, common, p->offset, n, &p->bytes, &map, &file, NULL);
    if (ret < 0) {
        return ret;
    }
    return ret & BLK_ZERO && ret & BLK_ALLOCATED ? BLK_ALLOCATED | BLK_ZERO : ret & BLK_ALLOCATED;
}

static int coroutine_fn co_kind_below(Rebase *r, CopyPiece *p)
{
    int old = co_held_above(r->top, r->old, r->old_common, p), new;

    if (old < 0) {
        return old;
    }
    new = r->below ? co_held_above(r->below, blk_bs(r->below), r->new_common, p) : 0;
    if (new < 0) {
        return new;
    }
    /* Without a common part what is held nowhere reads zero on that side. */
    if (!old && !new) {
        p->kind = PIECE_BASE;
    } else if (!r->old_common && (!old || old & BLK_ZERO) && (!new || new & BLK_ZERO)) {
        p->kind = PIECE_BASE;
    } else {
        p->kind = PIECE_DIFF;
    }
    return 0;
}

/* The image holds parts of a cluster: those that are packed hold it whole. */
static int coroutine_fn co_is_mixed(const Rebase *r, CopyPiece *p)
{
    int64_t cluster = r->copy.cluster, start = ALIGN_DOWN(p->offset, cluster), n;
    int64_t end = MIN(start + cluster, r->copy.total);
    int ret = blk_co_is_allocated(r->top, start, end - start, &n);

    p->plain = ret > 0 || n < end - start;
    if (p->plain) { /* the next one may be packed again */
        p->bytes = MIN(p->bytes, end - p->offset);
    }
    return ret < 0 ? ret : 0;
}

static int coroutine_fn co_classify(Copy *c, CopyPiece *p)
{
    Rebase *r = (Rebase *)c;
    int ret = blk_co_is_allocated(r->top, p->offset, p->bytes, &p->bytes);

    if (ret != 0) {
        p->kind = PIECE_BASE;
        p->plain = true; /* nothing is done with it */
        return ret < 0 ? ret : 0;
    }
    ret = c->compress ? co_is_mixed(r, p) : 0;
    return ret < 0 ? ret : co_kind_below(r, p);
}

/* ---- The images ---- */

static bool open_top(Rebase *r)
{
    int flags = BLK_O_RDWR | BLK_O_UNMAP | (r->unsafe ? BLK_O_NO_BACKING : 0);
    bool writethrough;

    if (!blk_parse_cache_mode(r->cache, &flags, &writethrough)) {
        img_error("Invalid cache option: %s", r->cache);
        return false;
    }
    r->top = img_open(r->name, r->format, flags, writethrough, r->image_opts, false);
    return r->top != NULL;
}

static bool check_format(const Rebase *r)
{
    if (r->backing_format && blk_format_features(r->backing_format) < 0) {
        img_error("Invalid format name: '%s'", r->backing_format);
        return false;
    }
    return true;
}

static bool open_below(Rebase *r, int flags, bool writethrough)
{
    BlockNodeFacts f = blk_node_facts(blk_bs(r->top));
    g_autofree char *path = blk_path_combine(f.exact_filename, r->backing);
    Options *o = opts_new();
    GError *err = NULL;

    object_add_secrets(o);
    if (r->backing_format) {
        opts_set(o, "driver", r->backing_format);
    }
    r->below = blk_open(path, o, flags | (r->force_share ? BLK_O_FORCE_SHARE : 0), &err);
    if (!r->below) {
        g_autofree char *prefix =
            g_strdup_printf("Could not open new backing file '%s': ", r->backing);

        img_error_from(err, prefix);
        return false;
    }
    blk_set_write_cache(r->below, !writethrough);
    return true;
}

/* Where the two chains meet. */
static void find_common(Rebase *r)
{
    for (BlockDriverState *n = blk_bs(r->below); n; n = blk_node_backing(n)) {
        BlockNodeFacts a = blk_node_facts(n);

        for (BlockDriverState *o = r->old; o && *a.exact_filename; o = blk_node_backing(o)) {
            BlockNodeFacts b = blk_node_facts(o);

            if (*b.exact_filename && !strcmp(a.driver, b.driver) &&
                chain_same_file(a.exact_filename, b.exact_filename)) {
                r->old_common = o;
                r->new_common = n;
                return;
            }
        }
    }
}

/* Version 2 has no zeroes but as data: in an image without a backing file a zero write is nothing,
 * and the new one would show. */
static bool has_zero_flag(const Rebase *r)
{
    g_autoptr(Options) info = blk_get_specific_info(blk_bs(r->top), NULL);

    return info && g_strcmp0(opts_peek(info, "compat"), "0.10");
}

static bool copy_differences(Rebase *r)
{
    BlockDriverInfo info = { 0 };
    int ret = blk_get_info(blk_bs(r->top), &info);

    r->source = (CopySource){ .blk = r->top, .bytes = blk_getlength(r->top) };
    r->copy = (Copy){ .sources = &r->source,
                      .n_sources = 1,
                      .total = r->source.bytes,
                      .target = r->top,
                      .base_blk = r->below,
                      .reads_zero = !r->below,
                      .compress = r->compress,
                      .out_of_order = true,
                      .min_sparse = 4096,
                      .workers = 8,
                      .co_classify = co_classify };
    if (ret == 0 && info.subcluster_size > r->copy.min_sparse) {
        r->copy.min_sparse = info.subcluster_size; /* what the image holds, it holds whole */
    }
    if (!has_zero_flag(r)) {
        r->copy.min_sparse = 0; /* zeroes are data */
    }
    if (r->copy.total < 0) {
        img_error("Could not get size of '%s': %s", r->name, g_strerror((int)-r->copy.total));
        return false;
    }
    return copy_run(&r->copy);
}

static bool keep_content(Rebase *r)
{
    int ret, flags = 0;
    bool writethrough;

    if (!blk_parse_cache_mode(r->backing_cache, &flags, &writethrough)) {
        img_error("Invalid source cache option: %s", r->backing_cache);
        return false;
    }
    r->old = blk_node_backing(blk_bs(r->top));
    if (*r->backing && !open_below(r, flags, writethrough)) {
        return false;
    }
    if (r->below) {
        find_common(r);
    }
    if (!copy_differences(r)) {
        return false;
    }
    ret = blk_flush(r->top);
    if (ret < 0) {
        img_error("Could not flush '%s': %s", r->name, g_strerror(-ret));
    }
    return ret == 0;
}

/* Told before anything is copied, with the words of the change that follows. */
static bool check_change(const Rebase *r)
{
    if (r->backing && *r->backing && !r->backing_format) {
        img_error("Could not change the backing file to '%s': backing format must be specified",
                  r->backing);
        return false;
    }
    return true;
}

static bool change_name(const Rebase *r)
{
    bool none = !r->backing || !*r->backing;
    GError *err = NULL;

    if (blk_change_backing_file(r->top, none ? NULL : r->backing, none ? NULL : r->backing_format,
                                &err) < 0) {
        g_autofree char *prefix =
            g_strdup_printf("Could not change the backing file to '%s': ", none ? "" : r->backing);

        img_error_from(err, prefix);
        return false;
    }
    return true;
}

static bool rebase(Rebase *r)
{
    return open_top(r) && check_format(r) && check_change(r) && (r->unsafe || keep_content(r)) &&
           change_name(r);
}

int img_rebase(int argc, char **argv)
{
    Rebase r = { .cache = "writeback", .backing_cache = "writeback" };
    bool ok;

    img_take_args("rebase", rebase_args, argc, argv, &r);
    img_expect_one_image("rebase", argc);
    if (!r.unsafe && !r.backing) {
        img_usage_error("rebase", "Must specify backing file (-b) or use unsafe mode (-u)");
    }
    if (r.image_opts && r.format) {
        img_error("--image-opts and --format are mutually exclusive");
        return 1;
    }
    r.name = argv[optind];
    progress_init(r.progress && !r.quiet, 1.0);
    progress_set(0);
    ok = rebase(&r);
    blk_close_reader(r.below);
    ok = img_close(r.top, r.name, ok) && ok;
    if (ok) {
        progress_set(100);
    }
    progress_end();
    return ok ? 0 : 1;
}
