/* SPDX-License-Identifier: MIT */
/*
 * Flush: a node's caches into its children, the children, the disk, and the word back to the node.
 *
 * INV-SYNC-1  unsynced is set after a write ended and cleared before the sync begins that covers
 *              it; syncs of a node follow one another, so a flush that finds it clear need not sync
 *              again.
 * INV-SYNC-2  It is set from the open on: a process that died may have written what the file shows
 *              now and never synced it, and who reads that and flushes relies on it.
 */
#include "block/request/request.h"

static int coroutine_fn sync_to_disk(BlockDriverState *bs)
{
    int ret = 0;

    if (bs->open_flags & BLK_O_NO_FLUSH) {
        return 0;
    }
    if (bs->debug_below) { /* rules count each one */
        return bs->drv->co_flush_to_disk(bs);
    }
    co_mutex_lock(&bs->core->sync_lock);
    if (atomic_exchange(&bs->unsynced, false)) {
        ret = bs->drv->co_flush_to_disk(bs);
        if (ret < 0) {
            atomic_store(&bs->unsynced, true);
        }
    }
    co_mutex_unlock(&bs->core->sync_lock);
    return ret;
}

static void coroutine_fn event(BlockDriverState *bs, BlkdebugEvent e)
{
    if (unlikely(bs->debug_below) && bs->file) {
        bdrv_co_debug_event(bs->file, e);
    }
}

int coroutine_fn bdrv_co_flush(BlockDriverState *bs)
{
    int ret;

    if (bs->read_only) {
        return 0;
    }
    event(bs, BLKDBG_FLUSH_TO_OS);
    ret = bs->drv->co_flush_to_os(bs);
    if (ret < 0) {
        return ret;
    }
    event(bs, BLKDBG_FLUSH_TO_DISK);
    ret = sync_to_disk(bs);
    for (guint i = 0; i < bs->children->len && ret >= 0; i++) {
        BdrvChild *c = g_ptr_array_index(bs->children, i);

        if (c->role != BDRV_ROLE_BACKING) {
            ret = bdrv_co_flush(c->bs);
        }
    }
    return MIN(ret, 0);
}
