/* SPDX-License-Identifier: MIT */
/* What users may know of a node, and the breakpoints below it. */
#include "block/backend/backend-int.h"
#include "block/graph/graph.h"

int blk_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    BlockDriverInfo i = { 0 };
    int ret = bs->drv->get_info(bs, &i);

    if (ret >= 0) {
        *info = i;
    }
    return ret;
}

Options *blk_get_specific_info(BlockDriverState *bs, GError **errp)
{
    return bs->drv->get_specific_info(bs, errp);
}

BlockNodeFacts blk_node_facts(BlockDriverState *bs)
{
    return (BlockNodeFacts){ .filename = bs->filename ? bs->filename : "",
                             .exact_filename = bs->exact_filename ? bs->exact_filename : "",
                             .driver = bs->drv->format_name,
                             .backing_file = bs->backing_file,
                             .backing_format = bs->backing_format,
                             .length = atomic_load(&bs->total_bytes),
                             .features = bs->drv->features,
                             .is_format = bs->drv->is_format,
                             .encrypted = bs->encrypted,
                             .children = bs->children->len,
                             .alignment = bs->limits.request_alignment };
}

BlockDriverState *blk_node_child(BlockDriverState *bs, unsigned n, const char **name, bool *is_file)
{
    BdrvChild *c = g_ptr_array_index(bs->children, n);

    *name = c->name;
    *is_file = c->role == BDRV_ROLE_FILE;
    return c->bs;
}

BlockDriverState *blk_node_backing(BlockDriverState *bs)
{
    return bdrv_backing_bs(bdrv_skip_filters(bs));
}

GArray *blk_list_snapshots(BlockDriverState *bs)
{
    return bs->drv->list_snapshots(bs);
}

int blk_format_features(const char *format)
{
    const BlockDriver *drv = bdrv_find_format(format);

    return drv ? (int)drv->features : -1;
}

bool blk_unwritten_reads_zero(BlockDriverState *bs)
{
    return bdrv_unwritten_reads_zero(bs);
}

const char *blk_probed_raw(BlockBackend *blk)
{
    return blk->writable && blk->bs->probed ? blk->bs->file->bs->filename : NULL;
}

/* Files before what stands on them. */
static void collect_warnings(BlockDriverState *bs, GPtrArray *all)
{
    for (guint i = 0; i < bs->children->len; i++) {
        collect_warnings(((BdrvChild *)g_ptr_array_index(bs->children, i))->bs, all);
    }
    if (bs->warning) {
        g_ptr_array_add(all, g_strdup(bs->warning));
    }
}

char **blk_warnings(BlockBackend *blk)
{
    GPtrArray *all = g_ptr_array_new();

    collect_warnings(blk->bs, all);
    g_ptr_array_add(all, NULL);
    return (char **)g_ptr_array_free(all, FALSE);
}

static __thread bool reporting; /* this thread calls a report, and holds the graph's lock */

void blk_set_report(BlockBackend *blk, BlockReportFunc *report, void *opaque) UNCHECKED_LOCKS
{
    bool locked = reporting;

    if (!locked) {
        bdrv_graph_lock();
    }
    blk->report = report;
    blk->report_opaque = opaque;
    if (!locked) {
        bdrv_graph_unlock();
    }
}

static void report_up(BlockDriverState *bs, const char *line) REQUIRES_LOCK(bdrv_graph_mutex)
{
    for (guint i = 0; i < bs->core->parents->len; i++) {
        BdrvChild *c = g_ptr_array_index(bs->core->parents, i);

        if (c->ops) {
            c->ops->report(c->owner, line);
        } else if (c->parent) {
            report_up(c->parent, line);
        }
    }
}

void bdrv_report(BlockDriverState *bs, const char *line)
{
    bdrv_graph_lock();
    reporting = true;
    report_up(bs, line);
    reporting = false;
    bdrv_graph_unlock();
}

const char *blk_driver_name(BlockDriverState *bs)
{
    return bs->drv->format_name;
}

/* ---- blkdebug below ---- */

int blk_debug_breakpoint(BlockBackend *blk, const char *event, const char *tag)
{
    return blk->bs->drv->debug_breakpoint(blk->bs, event, tag);
}

int blk_debug_remove_breakpoint(BlockBackend *blk, const char *tag)
{
    return blk->bs->drv->debug_remove_breakpoint(blk->bs, tag);
}

int blk_debug_resume(BlockBackend *blk, const char *tag)
{
    return blk->bs->drv->debug_resume(blk->bs, tag);
}

bool blk_debug_is_suspended(BlockBackend *blk, const char *tag)
{
    return blk->bs->drv->debug_is_suspended(blk->bs, tag);
}
