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

/* One that is enabled is so after it was filled. */
static bool copy_one(BlockBackend *source, BlockBackend *target, const BlockBitmapInfo *b)
{
    BlockBitmapData data = { NULL };
    BlockBitmapChange c = {
        .name = b->name, .granularity = b->granularity, .disabled = !b->enabled, .source = &data
    };
    g_autofree char *prefix = NULL;
    GError *err = NULL;
    int ret;

    c.action = BLK_BITMAP_ADD;
    ret = blk_bitmap_change(target, &c, &err);
    if (ret < 0) {
        prefix = g_strdup_printf("Failed to create bitmap %s: ", b->name);
        img_error_from(err, prefix);
        return false;
    }
    c.action = BLK_BITMAP_MERGE;
    ret = blk_bitmap_read(source, b->name, &data, &err);
    ret = ret < 0 ? ret : blk_bitmap_change(target, &c, &err);
    dirty_bits_unref(data.bits);
    if (ret < 0) {
        prefix = g_strdup_printf("Failed to populate bitmap %s: ", b->name);
        img_error_from(err, prefix);
    }
    return ret == 0;
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
    GError *err = NULL;
    GArray *list = blk_bitmap_list(source, &err);
    bool ok = true;

    if (!list) {
        img_error_from(err, NULL);
        return false;
    }
    warn_of_broken(list);
    for (guint i = 0; i < list->len && ok; i++) {
        const BlockBitmapInfo *b = &g_array_index(list, BlockBitmapInfo, i);

        ok = b->inconsistent || copy_one(source, target, b);
    }
    g_array_unref(list);
    return ok;
}
