/* SPDX-License-Identifier: MIT */
/* snapshot: internal snapshots listed, created, applied, deleted. */
#include "img.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "snapshot [OPTIONS] [-l | -c NAME | -a SNAPSHOT | -d SNAPSHOT] FILE\n"
    "Lists, creates, applies or deletes internal snapshots of an image.\n"
    "\n"
    "  -l, --list                    list them (what is done when nothing else is asked)\n"
    "  -c, --create NAME             make one of the disk as it is\n"
    "  -a, --apply SNAPSHOT          the disk becomes what it was then; an id, or a name\n"
    "  -d, --delete SNAPSHOT         delete the first with this name\n"
    "  -f, --format FORMAT           format of the image (probed)\n"
    "  --image-opts                  the name is an option string (driver=qcow2,file.filename=x)\n"
    "  -U, --force-share             the image may be in use; only to list\n"
    "  --object DEFINITION           a secret: secret,id=ID,data=TEXT (or file=NAME)\n"
    "  -q, --quiet                   print errors only\n"
    "  -h, --help                    this text\n";

#define MAX_NAME 255 /* bytes; longer ones are cut */

typedef struct SnapshotArgs {
    const char *format, *name;
    char action; /* the option's letter; 0: none given */
    bool image_opts, force_share, quiet;
} SnapshotArgs;

static bool take_action(const ToolArg *a, void *record, void *field, const char *value)
{
    SnapshotArgs *s = record;

    if (s->action) {
        img_usage_error("snapshot", "Cannot mix '-l', '-a', '-c', '-d'");
    }
    s->action = (char)a->letter;
    s->name = value;
    return true;
}

#define FIELD(f) .at = offsetof(SnapshotArgs, f)
static const ToolArg snapshot_args[] = { { "help", 'h', ARG_DO, .what = help_text,
                                           .call = img_show_help },
                                         { "list", 'l', ARG_DO, .call = take_action },
                                         { "create", 'c', ARG_TAKE, .call = take_action },
                                         { "apply", 'a', ARG_TAKE, .call = take_action },
                                         { "delete", 'd', ARG_TAKE, .call = take_action },
                                         { "format", 'f', ARG_TEXT, FIELD(format) },
                                         { "image-opts", 0, ARG_SET, FIELD(image_opts) },
                                         { "force-share", 'U', ARG_SET, FIELD(force_share) },
                                         { "object", 0, ARG_TAKE, .call = object_take },
                                         { "quiet", 'q', ARG_SET, FIELD(quiet) },
                                         { NULL } };
#undef FIELD

static bool create(BlockBackend *blk, const char *name, GError **errp)
{
    g_autofree char *cut = g_strndup(name, MAX_NAME);
    int64_t now = g_get_real_time(); /* us */
    BlockSnapshotInfo info = { .name = cut,
                               .date_sec = (uint32_t)(now / 1000000),
                               .date_nsec = (uint32_t)(now % 1000000) * 1000 };

    return blk_snapshot_create(blk, &info, errp) == 0;
}

static bool delete_one(BlockBackend *blk, const char *name, GError **errp)
{
    g_autoptr(GArray) list = blk_list_snapshots(blk_bs(blk));

    for (guint i = 0; i < list->len; i++) {
        const BlockSnapshotInfo *s = &g_array_index(list, BlockSnapshotInfo, i);

        if (!strcmp(s->name, name)) {
            g_autofree char *own_id = g_strdup(s->id), *own_name = g_strdup(s->name);

            return blk_snapshot_delete(blk, own_id, own_name, errp) == 0;
        }
    }
    g_set_error_literal(errp, g_quark_from_static_string("cowlet-img"), 0, "snapshot not found");
    return false;
}

static bool act(BlockBackend *blk, const SnapshotArgs *a)
{
    const char *verb = "delete";
    g_autofree char *prefix = NULL;
    GError *err = NULL;
    bool ok;

    switch (a->action) {
    case 'c':
        verb = "create";
        ok = create(blk, a->name, &err);
        break;
    case 'a':
        verb = "apply";
        ok = blk_snapshot_apply(blk, a->name, &err) == 0;
        break;
    case 'd':
        ok = delete_one(blk, a->name, &err);
        break;
    default:
        img_print_snapshots(blk_bs(blk));
        return true;
    }
    if (!ok) {
        prefix = g_strdup_printf("Could not %s snapshot '%s': ", verb, a->name);
        img_error_from(err, prefix);
    }
    return ok;
}

int img_snapshot(int argc, char **argv)
{
    SnapshotArgs a = { 0 };
    BlockBackend *blk;
    bool changes, ok;
    int flags;

    img_take_args("snapshot", snapshot_args, argc, argv, &a);
    img_expect_one_image("snapshot", argc);
    changes = a.action && a.action != 'l';
    flags = changes ? BLK_O_RDWR | BLK_O_UNMAP | BLK_O_RESIZE : 0;
    blk = img_open(argv[optind], a.format, flags, false, a.image_opts, a.force_share);
    if (!blk) {
        return 1;
    }
    ok = act(blk, &a);
    return img_close(blk, argv[optind], ok) && ok ? 0 : 1;
}
