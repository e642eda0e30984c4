/* SPDX-License-Identifier: MIT */
/* map: which layer and which place of it each run of the disk comes from. */
#include "img.h"

#include "block/io.h"

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
    "  --object DEFINITION           objects such as secrets: refused, there are none yet\n"
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
 * (behind the end of its backing file). */
static int get_entry(BlockBackend *blk, int64_t offset, int64_t bytes, Entry *e)
{
    BlockDriverState *file = NULL, *layer = blk_bs(blk);
    int64_t map = 0, num = bytes;
    int depth = 0, ret;

    for (;;) {
        BlockDriverState *below = bdrv_backing_bs(bdrv_skip_filters(layer));

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
        .filename = file && (ret & BLK_OFFSET_VALID) ? file->filename : NULL,
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
            img_error("Failed to read image metadata: %s", strerror(-ret));
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

int img_map(int argc, char **argv)
{
    static const struct option longs[] = {
        { "help", no_argument, NULL, 'h' },
        { "format", required_argument, NULL, 'f' },
        { "output", required_argument, NULL, OPT_OUTPUT },
        { "object", required_argument, NULL, OPT_OBJECT },
        { "image-opts", no_argument, NULL, OPT_IMAGE_OPTS },
        { "force-share", no_argument, NULL, 'U' },
        { "start-offset", required_argument, NULL, OPT_START_OFFSET },
        { "max-length", required_argument, NULL, OPT_MAX_LENGTH },
        { NULL }
    };
    const char *format = NULL;
    bool json = false, image_opts = false, force_share = false;
    int64_t start = 0, max = -1, length;
    BlockBackend *blk;
    int c, ret;

    while ((c = getopt_long(argc, argv, "f:s:l:hU", longs, NULL)) != -1) {
        switch (c) {
        case 'h':
            img_help(help_text);
        case 'f':
            format = optarg;
            break;
        case 'U':
            force_share = true;
            break;
        case OPT_OUTPUT:
            json = img_output_json("map", optarg);
            break;
        case OPT_OBJECT:
            img_refuse_object(optarg, 1);
        case OPT_IMAGE_OPTS:
            image_opts = true;
            break;
        case 's':
        case OPT_START_OFFSET:
            start = img_size_arg("start offset", optarg, 0, INT64_MAX);
            if (start < 0) {
                return 1;
            }
            break;
        case 'l':
        case OPT_MAX_LENGTH:
            max = img_size_arg("max length", optarg, 0, INT64_MAX);
            if (max < 0) {
                return 1;
            }
            break;
        default:
            img_unknown_option("map");
        }
    }
    img_expect_one_image("map", argc);
    blk = img_open(argv[optind], format, 0, false, image_opts, force_share);
    if (!blk) {
        return 1;
    }
    length = blk_getlength(blk);
    if (length < 0) {
        img_error("Failed to get size for '%s'", argv[optind]);
        blk_close_reader(blk);
        return 1;
    }
    if (max >= 0) {
        length = MIN(length, max > INT64_MAX - start ? INT64_MAX : start + max);
    }
    ret = map_range(blk, start, length, json);
    blk_close_reader(blk);
    return ret;
}
