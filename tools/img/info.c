/* SPDX-License-Identifier: MIT */
/* info: human and JSON, of one image or of its chain. */
#include "img.h"

#include "util/size.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char help_text[] =
    "info [OPTIONS] FILE\n"
    "Tells facts about an image, or about each image of its backing chain.\n"
    "\n"
    "  -f, --format FORMAT           format of the image (probed)\n"
    "  --image-opts                  the name is an option string (driver=qcow2,file.filename=x)\n"
    "  -b, --backing-chain           the images below it too\n"
    "  --output human|json           how it is printed (human)\n"
    "  -U, --force-share             the image may be in use, by a writer too\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -h, --help                    this text\n";

#define MAX_CHAIN 200

/* ---- Facts of a node ---- */

static JsonNode *specific_value(const Options *o, const char *key)
{
    JsonNode *node = json_node_new(JSON_NODE_VALUE);
    const char *value = opts_peek(o, key);

    switch (opts_kind(o, key)) {
    case OPT_BOOL:
        json_node_set_boolean(node, !strcmp(value, "on"));
        break;
    case OPT_INT:
        json_node_set_int(node, g_ascii_strtoll(value, NULL, 10));
        break;
    case OPT_STRING:
    case OPT_NULL:
        json_node_set_string(node, value);
        break;
    }
    return node;
}

/* Member @name of @o (an object or an array), made if it is not there: an array if @array. */
static JsonNode *container(JsonNode *o, const char *name, bool array)
{
    JsonNode *node;

    if (JSON_NODE_HOLDS_ARRAY(o)) {
        JsonArray *a = json_node_get_array(o);
        guint64 i = g_ascii_strtoull(name, NULL, 10);

        if (i < json_array_get_length(a)) {
            return json_array_get_element(a, (guint)i);
        }
    } else if (json_object_has_member(json_node_get_object(o), name)) {
        return json_object_get_member(json_node_get_object(o), name);
    }
    node = json_node_new(array ? JSON_NODE_ARRAY : JSON_NODE_OBJECT);
    if (array) {
        json_node_take_array(node, json_array_new());
    } else {
        json_node_take_object(node, json_object_new());
    }
    if (JSON_NODE_HOLDS_ARRAY(o)) {
        json_array_add_element(json_node_get_array(o), node);
    } else {
        json_object_set_member(json_node_get_object(o), name, node);
    }
    return node;
}

typedef struct Specific {
    const Options *from;
    JsonNode *to;
} Specific;

/* "a.0.b" is member b of the first element of array a. */
static void add_specific(const char *key, const char *value, void *opaque)
{
    const Specific *s = opaque;
    g_auto(GStrv) parts = g_strsplit(key, ".", -1);
    JsonNode *at = s->to;
    int i = 0;

    for (; parts[i + 1]; i++) {
        at = container(at, parts[i], g_ascii_isdigit(*parts[i + 1]));
    }
    if (!strcmp(parts[i], "flags")) {
        container(at, parts[i], true); /* an empty list */
    } else if (JSON_NODE_HOLDS_ARRAY(at)) {
        json_array_add_element(json_node_get_array(at), specific_value(s->from, key));
    } else {
        json_object_set_member(json_node_get_object(at), parts[i], specific_value(s->from, key));
    }
}

static JsonObject *specific_object(BlockDriverState *bs)
{
    Options *o = blk_get_specific_info(bs, NULL);
    JsonObject *spec;
    JsonNode *data;

    if (!o && strcmp(blk_driver_name(bs), "file")) {
        return NULL;
    }
    spec = json_object_new();
    data = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(data, json_object_new());
    if (o) {
        Specific s = { .from = o, .to = data };

        opts_foreach(o, add_specific, &s);
    }
    json_object_set_string_member(spec, "type", blk_driver_name(bs));
    json_object_set_member(spec, "data", data);
    opts_free(o);
    return spec;
}

static void add_snapshots(BlockDriverState *bs, JsonObject *o)
{
    g_autoptr(GArray) list = blk_list_snapshots(bs);
    JsonArray *a;

    if (list->len == 0) {
        return;
    }
    a = json_array_new();
    for (guint i = 0; i < list->len; i++) {
        const BlockSnapshotInfo *s = &g_array_index(list, BlockSnapshotInfo, i);
        JsonObject *e = json_object_new();

        if (s->icount != UINT64_MAX) {
            json_object_set_int_member(e, "icount", (gint64)s->icount);
        }
        json_object_set_int_member(e, "vm-clock-nsec", (gint64)(s->vm_clock_nsec % 1000000000));
        json_object_set_string_member(e, "name", s->name);
        json_object_set_int_member(e, "date-sec", s->date_sec);
        json_object_set_int_member(e, "date-nsec", s->date_nsec);
        json_object_set_int_member(e, "vm-clock-sec", (gint64)(s->vm_clock_nsec / 1000000000));
        json_object_set_string_member(e, "id", s->id);
        json_object_set_int_member(e, "vm-state-size", (gint64)s->vm_state_size);
        json_array_add_object_element(a, e);
    }
    json_object_set_array_member(o, "snapshots", a);
}

static JsonObject *node_object(BlockDriverState *bs)
{
    JsonObject *o = json_object_new();
    JsonArray *children = json_array_new();
    BlockNodeFacts f = blk_node_facts(bs);
    BlockDriverInfo info = { 0 };
    int64_t allocated = blk_allocated_size(bs);
    g_autofree char *backing = blk_backing_path(bs, NULL);
    JsonObject *spec;
    bool has_info;

    for (unsigned i = 0; i < f.children; i++) {
        const char *name;
        bool is_file;
        BlockDriverState *child = blk_node_child(bs, i, &name, &is_file);

        if (is_file) {
            JsonObject *e = json_object_new();

            json_object_set_string_member(e, "name", name);
            json_object_set_object_member(e, "info", node_object(child));
            json_array_add_object_element(children, e);
        }
    }
    json_object_set_array_member(o, "children", children);
    add_snapshots(bs, o);
    if (f.backing_file && f.backing_format) {
        json_object_set_string_member(o, "backing-filename-format", f.backing_format);
    }
    json_object_set_int_member(o, "virtual-size", f.length);
    json_object_set_string_member(o, "filename", f.filename);
    has_info = blk_get_info(bs, &info) >= 0;
    if (info.cluster_size) {
        json_object_set_int_member(o, "cluster-size", info.cluster_size);
    }
    json_object_set_string_member(o, "format", blk_driver_name(bs));
    if (allocated >= 0) {
        json_object_set_int_member(o, "actual-size", allocated);
    }
    spec = specific_object(bs);
    if (spec) {
        json_object_set_object_member(o, "format-specific", spec);
    }
    if (f.backing_file) {
        json_object_set_string_member(o, "full-backing-filename",
                                      backing ? backing : f.backing_file);
    }
    if (f.encrypted) {
        json_object_set_boolean_member(o, "encrypted", true);
    }
    if (f.backing_file) {
        json_object_set_string_member(o, "backing-filename", f.backing_file);
    }
    if (has_info) {
        json_object_set_boolean_member(o, "dirty-flag", info.is_dirty);
    }
    return o;
}

/* ---- Human ---- */

static void print_specific(BlockDriverState *bs, int depth)
{
    Options *o = blk_get_specific_info(bs, NULL);
    g_autofree char *text = o && opts_count(o) > 0 ? opts_to_text(o, depth + 1) : NULL;

    if (text) {
        printf("%*sFormat specific information:\n%s", depth * 4, "", text);
    }
    opts_free(o);
}

static void print_node(BlockDriverState *bs, const char *path, int depth);

static void print_children(BlockDriverState *bs, const char *path, int depth)
{
    unsigned n = blk_node_facts(bs).children;

    for (unsigned i = 0; i < n; i++) {
        const char *name;
        bool is_file;
        BlockDriverState *child = blk_node_child(bs, i, &name, &is_file);
        g_autofree char *sub = g_strdup_printf("%s%s", path, name);

        if (is_file) {
            g_autofree char *slash = g_strdup_printf("%s/", sub);

            printf("%*sChild node '%s':\n", depth * 4, "", sub);
            print_node(child, slash, depth + 1);
        }
    }
}

static void print_size(const char *in, const char *what, int64_t bytes)
{
    g_autofree char *s = size_to_human((uint64_t)MAX(bytes, 0));

    printf("%s%s: %s (%" G_GINT64_FORMAT " bytes)\n", in, what, s, bytes);
}

static void print_allocated(BlockDriverState *bs, const char *in)
{
    int64_t n = blk_allocated_size(bs);
    g_autofree char *s = n >= 0 ? size_to_human((uint64_t)n) : g_strdup("unavailable");

    printf("%sdisk size: %s\n", in, s);
}

static void print_backing(BlockDriverState *bs, const char *in)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *full = NULL;
    BlockNodeFacts f = blk_node_facts(bs);

    if (!f.backing_file) {
        return;
    }
    full = blk_backing_path(bs, &err);
    printf("%sbacking file: %s", in, f.backing_file);
    if (!full) {
        printf(" (cannot determine actual path)");
    } else if (strcmp(full, f.backing_file)) {
        printf(" (actual path: %s)", full);
    }
    printf("\n");
    if (f.backing_format) {
        printf("%sbacking file format: %s\n", in, f.backing_format);
    }
}

static void print_node(BlockDriverState *bs, const char *path, int depth)
{
    g_autofree char *in = g_strnfill((gsize)depth * 4, ' ');
    BlockDriverInfo info = { 0 };
    BlockNodeFacts f = blk_node_facts(bs);
    bool protocol = depth > 0 && !f.is_format && f.children == 0;

    printf("%s%s: %s\n", in, protocol ? "filename" : "image", f.filename);
    printf("%s%s: %s\n", in, protocol ? "protocol type" : "file format", blk_driver_name(bs));
    print_size(in, protocol ? "file length" : "virtual size", f.length);
    print_allocated(bs, in);
    if (f.encrypted) {
        printf("%sencrypted: yes\n", in);
    }
    if (blk_get_info(bs, &info) >= 0 && info.cluster_size) {
        printf("%scluster_size: %u\n", in, info.cluster_size);
    }
    if (info.is_dirty) {
        printf("%scleanly shut down: no\n", in);
    }
    print_backing(bs, in);
    img_print_snapshots(bs);
    print_specific(bs, depth);
    print_children(bs, path, depth);
}

/* ---- The command ---- */

typedef struct InfoArgs {
    const char *format;
    bool json, image_opts, force_share, chain;
} InfoArgs;

/* Open @filename and, if that is asked for, what it is backed by, into @images; false: told. */
static bool open_chain(const char *filename, const InfoArgs *a, GPtrArray *images)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *name = g_strdup(filename), *format = g_strdup(a->format);
    GError *err = NULL;

    while (name) {
        BlockBackend *blk;
        BlockDriverState *bs;
        BlockNodeFacts f;

        if (images->len >= MAX_CHAIN || !g_hash_table_add(seen, g_strdup(name))) {
            img_error("Backing file '%s' creates an infinite loop.", name);
            return false;
        }
        blk = img_open(name, format, BLK_O_NO_BACKING | BLK_O_NO_IO, false,
                       images->len == 0 && a->image_opts, a->force_share);
        if (!blk) {
            return false;
        }
        g_ptr_array_add(images, blk);
        bs = blk_bs(blk);
        opts_free(blk_get_specific_info(bs, &err));
        if (err) {
            img_error_from(err, NULL);
            return false;
        }
        g_free(name);
        g_free(format);
        f = blk_node_facts(bs);
        name = a->chain && f.backing_file ? blk_backing_path(bs, NULL) : NULL;
        format = g_strdup(f.backing_format);
    }
    return true;
}

static void print_json(const GPtrArray *images, bool chain)
{
    g_autoptr(JsonNode) node = json_node_new(chain ? JSON_NODE_ARRAY : JSON_NODE_OBJECT);

    if (!chain) {
        json_node_take_object(node, node_object(blk_bs(g_ptr_array_index(images, 0))));
    } else {
        JsonArray *array = json_array_new();

        for (guint i = 0; i < images->len; i++) {
            json_array_add_object_element(array, node_object(blk_bs(g_ptr_array_index(images, i))));
        }
        json_node_take_array(node, array);
    }
    img_print_json(node);
}

/* Nothing is printed unless all of the chain is there. */
static int run(const char *filename, const InfoArgs *a)
{
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func((GDestroyNotify)blk_close_reader);

    if (!open_chain(filename, a, images)) {
        return 1;
    }
    if (a->json) {
        print_json(images, a->chain);
        return 0;
    }
    for (guint i = 0; i < images->len; i++) {
        printf("%s", i == 0 ? "" : "\n");
        print_node(blk_bs(g_ptr_array_index(images, i)), "/", 0);
    }
    return 0;
}

#define FIELD(f) .at = offsetof(InfoArgs, f)
static const ToolArg info_args[] = {
    { "help", 'h', ARG_DO, .what = help_text, .call = img_show_help },
    { "format", 'f', ARG_TEXT, FIELD(format) },
    { "output", 0, ARG_TAKE, FIELD(json), "info", .call = img_take_output },
    { "backing-chain", 'b', ARG_SET, FIELD(chain) },
    { "object", 0, ARG_TAKE, .call = object_take },
    { "image-opts", 0, ARG_SET, FIELD(image_opts) },
    { "force-share", 'U', ARG_SET, FIELD(force_share) },
    { NULL }
};
#undef FIELD

int img_info(int argc, char **argv)
{
    InfoArgs a = { 0 };

    img_take_args("info", info_args, argc, argv, &a);
    img_expect_one_image("info", argc);
    if (a.image_opts && a.format) {
        img_error("--image-opts and --format are mutually exclusive");
        return 1;
    }
    return run(argv[optind], &a);
}
