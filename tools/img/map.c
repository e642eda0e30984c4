/* SPDX-License-Identifier: MIT */
/* map: which layer and which place of it each run of the disk comes from. */
#include "img.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "map [OPTIONS] FILE\n"
    "Tells the runs of an image and its backing chain: what they are, and where they lie.\n"
    "\n"
    "  -f, --format FORMAT           format of the image (probed)\n"
    "  --image-opts                  the name is an option string (driver=qcow2,file.filename=x)\n"
    "  -s, --start-offset OFFSET     where to begin (0)\n"
    "  -l, --max-length LENGTH       how far to go (to the end)\n"
    "  --output human|json           how it is printed (human)\n"
    "  -U, --force-share             the image may be in use, by a writer too\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -h, --help                    this text\n"
    "\n"
    "Sizes are in bytes, or with a suffix k, M, G, T, P or E for powers of 1024.\n";

typedef struct Entry {
    int64_t start, length, offset;
    int depth;
    bool present, zero, data, compressed, has_offset;
    const char *filename;
} Entry;

static const char *bool_name(bool b)
{
    return b ? "true" : "false";
}

/* Print @e; @last: nothing follows. False: it cannot be told in human form. */
static bool print_entry(const Entry *e, bool json, bool last)
{
    if (json) {
        printf("{ \"start\": %" G_GINT64_FORMAT ", \"length\": %" G_GINT64_FORMAT
               ", \"depth\": %d, \"present\": %s, "
               "\"zero\": %s, \"data\": %s, \"compressed\": %s",
               e->start, e->length, e->depth, bool_name(e->present), bool_name(e->zero),
               bool_name(e->data), bool_name(e->compressed));
        if (e->has_offset) {
            printf(", \"offset\": %" G_GINT64_FORMAT, e->offset);
        }
        printf(last ? "}" : "},\n");
        return true;
    }
    if (e->data && !e->has_offset) {
        img_error("File contains external, encrypted or compressed clusters.");
        return false;
    }
    if (e->data && !e->zero) {
        printf("%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER
               "x%s\n",
               e->start, e->length, e->offset, e->filename ? e->filename : "");
    }
    return true;
}

/* Layer by layer: the first that has data or knows of zeroes, though it may not hold them itself
 * (past the end of its backing file). */
static int get_entry(BlockBackend *blk, int64_t offset, int64_t bytes, Entry *e)
{
    BlockDriverState *file = NULL, *layer = blk_bs(blk);
    int64_t map = 0, num = bytes;
    int depth = 0, ret;

    for (;;) {
        BlockDriverState *below = blk_node_backing(layer);

        ret = blk_block_status_above(blk, layer, below, offset, num, &num, &map, &file, NULL);
        if (ret < 0) {
            return ret;
        }
        if ((ret & (BLK_ZERO | BLK_DATA)) || !below) {
            break;
        }
        layer = below;
        depth++;
    }
    if (!(ret & (BLK_DATA | BLK_ZERO))) { /* no layer knows */
        ret = 0;
    }
    *e = (Entry){
        .start = offset,
        .length = num,
        .depth = depth,
        .present = (ret & BLK_ALLOCATED) != 0,
        .zero = (ret & BLK_ZERO) != 0,
        .data = (ret & BLK_DATA) != 0,
        .compressed = (ret & BLK_COMPRESSED) != 0,
        .has_offset = (ret & BLK_OFFSET_VALID) != 0,
        .offset = map,
        .filename = file && (ret & BLK_OFFSET_VALID) ? blk_node_facts(file).filename : NULL,
    };
    return num > 0 ? 0 : -EIO;
}

static bool mergeable(const Entry *a, const Entry *b)
{
    return a->start + a->length == b->start && a->zero == b->zero && a->data == b->data &&
           a->compressed == b->compressed && a->depth == b->depth && a->present == b->present &&
           a->has_offset == b->has_offset && a->filename == b->filename &&
           (!a->has_offset || a->offset + a->length == b->offset);
}

static int map_range(BlockBackend *blk, int64_t start, int64_t end, bool json)
{
    Entry cur = { .start = start }, next;
    int ret;

    printf(json ? "[" : "%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    while (start < end) {
        ret = get_entry(blk, start, MIN(end - start, INT64_C(1) << 30), &next);
        if (ret < 0) {
            img_error("Could not read file metadata: %s", strerror(-ret));
            return 1;
        }
        start += next.length;
        if (cur.length && mergeable(&cur, &next)) {
            cur.length += next.length;
            continue;
        }
        if (cur.length && !print_entry(&cur, json, false)) {
            return 1;
        }
        cur = next;
    }
    if ((cur.length || json) &&
        !print_entry(&cur, json, true)) { /* an empty range is one empty entry */
        return 1;
    }
    if (json) {
        printf("]\n");
    }
    return 0;
}

typedef struct MapArgs {
    const char *format;
    bool json, image_opts, force_share;
    int64_t start, max;
} MapArgs;

#define FIELD(f) .at = offsetof(MapArgs, f)
static const ToolArg map_args[] = {
    { "help", 'h', ARG_DO, .what = help_text, .call = img_show_help },
    { "format", 'f', ARG_TEXT, FIELD(format) },
    { "output", 0, ARG_TAKE, FIELD(json), "map", .call = img_take_output },
    { "object", 0, ARG_TAKE, .call = object_take },
    { "image-opts", 0, ARG_SET, FIELD(image_opts) },
    { "force-share", 'U', ARG_SET, FIELD(force_share) },
    { "start-offset", 's', ARG_SIZE, FIELD(start), "start offset", 0, INT64_MAX },
    { "max-length", 'l', ARG_SIZE, FIELD(max), "max length", 0, INT64_MAX },
    { NULL }
};
#undef FIELD

int img_map(int argc, char **argv)
{
    MapArgs a = { .max = -1 };
    int64_t length;
    BlockBackend *blk;
    int ret;

    img_take_args("map", map_args, argc, argv, &a);
    img_expect_one_image("map", argc);
    blk = img_open(argv[optind], a.format, 0, false, a.image_opts, a.force_share);
    if (!blk) {
        return 1;
    }
    length = blk_getlength(blk);
    if (length < 0) {
        img_error("Failed to get size for '%s'", argv[optind]);
        blk_close_reader(blk);
        return 1;
    }
    if (a.max >= 0) {
        length = MIN(length, a.max > INT64_MAX - a.start ? INT64_MAX : a.start + a.max);
    }
    ret = map_range(blk, a.start, length, a.json);
    blk_close_reader(blk);
    return ret;
}
