/* SPDX-License-Identifier: MIT */
/* convert --bitmaps: what the source's persistent bitmaps say, in bitmaps of the target. */
#include "img.h"

bool bitmaps_check_source(BlockBackend *source, int n_sources, bool skip_broken)
{
    GError *err = NULL;
    GArray *list;
    bool ok = true;

    if (n_sources > 1) {
        img_error("Copying bitmaps only possible with single source");
        return false;
    }
    if (!blk_bitmap_can_store(source)) {
        img_error("Source lacks bitmap support");
        return false;
    }
    list = blk_bitmap_list(source, &err);
    if (!list) {
        img_error_from(err, NULL);
        return false;
    }
    for (guint i = list->len; i-- > 0 && ok && !skip_broken;) { /* in the reference's order */
        const BlockBitmapInfo *b = &g_array_index(list, BlockBitmapInfo, i);

        ok = !b->inconsistent;
        if (!ok) {
            img_error("Cannot copy inconsistent bitmap '%s'\n"
                      "Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it",
                      b->name);
        }
    }
    g_array_unref(list);
    return ok;
}

bool bitmaps_check_target(BlockBackend *target)
{
    if (!blk_bitmap_can_store(target)) {
        img_error("Format driver '%s' does not support bitmaps", blk_driver_name(blk_bs(target)));
        return false;
    }
    return true;
}

/* A bitmap of the target that is to be. */
typedef struct BitmapCopy {
    BlockBitmapChange change;
    BlockBitmapData data;
} BitmapCopy;

static void forget_bits(gpointer p)
{
    dirty_bits_unref(((BitmapCopy *)p)->data.bits);
}

static bool read_one(BlockBackend *source, const BlockBitmapInfo *b, BitmapCopy *to)
{
    g_autofree char *prefix = NULL;
    GError *err = NULL;

    if (blk_bitmap_read(source, b->name, &to->data, &err) < 0) {
        prefix = g_strdup_printf("Failed to populate bitmap %s: ", b->name);
        img_error_from(err, prefix);
        return false;
    }
    to->change = (BlockBitmapChange){ .action = BLK_BITMAP_ADD,
                                      .name = b->name,
                                      .granularity = b->granularity,
                                      .disabled = !b->enabled };
    return true;
}

/* All in one change, or each would write the list anew, and leave a hole in the file. */
static bool add_all(BlockBackend *target, GArray *copies)
{
    BitmapCopy *first = &g_array_index(copies, BitmapCopy, 0);
    g_autofree char *prefix = NULL;
    GError *err = NULL;

    for (guint i = 0; i < copies->len; i++) {
        first[i].change.source = &first[i].data;
        first[i].change.next = i + 1 < copies->len ? &first[i + 1].change : NULL;
    }
    if (copies->len && blk_bitmap_change(target, &first->change, &err) < 0) {
        prefix = g_strdup_printf("Failed to create bitmap %s: ", first->change.name);
        img_error_from(err, prefix);
        return false;
    }
    return true;
}

static void warn_of_broken(const GArray *list)
{
    for (guint i = list->len; i-- > 0;) {
        const BlockBitmapInfo *b = &g_array_index(list, BlockBitmapInfo, i);

        if (b->inconsistent) {
            img_error("warning: Skipping inconsistent bitmap '%s'", b->name);
        }
    }
}

bool bitmaps_copy(BlockBackend *source, BlockBackend *target)
{
    g_autoptr(GArray) copies = g_array_new(FALSE, FALSE, sizeof(BitmapCopy));
    GError *err = NULL;
    GArray *list = blk_bitmap_list(source, &err);
    bool ok = true;

    g_array_set_clear_func(copies, forget_bits);
    if (!list) {
        img_error_from(err, NULL);
        return false;
    }
    warn_of_broken(list);
    for (guint i = 0; i < list->len && ok; i++) {
        const BlockBitmapInfo *b = &g_array_index(list, BlockBitmapInfo, i);
        BitmapCopy copy = { .data = { NULL } };

        if (!b->inconsistent) {
            ok = read_one(source, b, &copy);
            g_array_append_val(copies, copy);
        }
    }
    ok = ok && add_all(target, copies);
    g_array_unref(list);
    return ok;
}
