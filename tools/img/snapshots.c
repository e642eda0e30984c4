/* SPDX-License-Identifier: MIT */
/* Internal snapshots, for several commands: how they are listed, and named to be read. */
#include "img.h"

#include "util/size.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

void img_print_snapshots(BlockDriverState *bs)
{
    g_autoptr(GArray) list = blk_list_snapshots(bs);

    if (list->len == 0) {
        return;
    }
    printf("Snapshot list:\n");
    printf("%-7s %-16s %8s %19s %15s %10s\n", "ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT");
    for (guint i = 0; i < list->len; i++) {
        const BlockSnapshotInfo *s = &g_array_index(list, BlockSnapshotInfo, i);
        g_autofree char *size = size_to_human(s->vm_state_size);
        uint64_t sec = s->vm_clock_nsec / 1000000000;
        g_autofree char *clock =
            g_strdup_printf("%04d:%02d:%02d.%03d", (int)(sec / 3600), (int)(sec / 60 % 60),
                            (int)(sec % 60), (int)(s->vm_clock_nsec / 1000000 % 1000));
        char date[64] = "", icount[32] = "";
        time_t t = s->date_sec;
        struct tm tm;

        localtime_r(&t, &tm);
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
        if (s->icount != UINT64_MAX) {
            g_snprintf(icount, sizeof(icount), "%" G_GUINT64_FORMAT, s->icount);
        }
        printf("%-7s %-16s %8s %19s %15s %10s\n", s->id, s->name, size, date, clock, icount);
    }
}

/* ---- -l of commands that read ---- */

typedef struct SnapshotName {
    const char *id, *name, *unknown;
} SnapshotName;

static void take_part(const char *key, const char *value, void *opaque)
{
    SnapshotName *n = opaque;

    if (!strcmp(key, "snapshot.id")) {
        n->id = value;
    } else if (!strcmp(key, "snapshot.name")) {
        n->name = value;
    } else if (!n->unknown) {
        n->unknown = key;
    }
}

static bool is_list(const char *text)
{
    return g_str_has_prefix(text, "snapshot.");
}

bool img_check_snapshot_name(const char *text)
{
    g_autoptr(Options) o = opts_new();
    GError *err = NULL;
    SnapshotName n = { NULL };

    if (!is_list(text)) {
        return true;
    }
    if (!opts_parse(o, text, NULL, &err)) {
        img_error_from(err, NULL);
        n.unknown = text;
    } else {
        opts_foreach(o, take_part, &n);
        if (n.unknown) {
            img_error("Invalid parameter '%s'", n.unknown);
        }
    }
    if (n.unknown) {
        img_error("Failed in parsing snapshot param '%s'", text);
    }
    return !n.unknown;
}

static bool has_id(BlockDriverState *bs, const char *id)
{
    g_autoptr(GArray) list = blk_list_snapshots(bs);

    for (guint i = 0; i < list->len; i++) {
        if (!strcmp(g_array_index(list, BlockSnapshotInfo, i).id, id)) {
            return true;
        }
    }
    return false;
}

bool img_load_snapshot(BlockBackend *blk, const char *text)
{
    g_autoptr(Options) o = opts_new();
    SnapshotName n = { NULL };
    GError *err = NULL;

    if (is_list(text)) {
        (void)opts_parse(o, text, NULL, NULL); /* checked before */
        opts_foreach(o, take_part, &n);
    } else if (has_id(blk_bs(blk), text)) {
        n.id = text;
    } else {
        n.name = text;
    }
    if (blk_snapshot_load(blk, n.id, n.name, &err) < 0) {
        img_error_from(err, "Failed to load snapshot: ");
        return false;
    }
    return true;
}
