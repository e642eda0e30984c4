/* SPDX-License-Identifier: MIT */
/* Internal snapshots of a program: see snapshots.h. */
#include "snapshots.h"

#include "content.h"

#include <errno.h>

int coroutine_fn snapshots_co_op(BlockBackend *blk, const Op *op)
{
    g_autofree char *name = g_strdup_printf("k%u", (unsigned)op->offset);
    const BlockSnapshotInfo info = { .name = name };

    switch (op->type) {
    case OP_SNAPSHOT:
        return blk_co_snapshot_create(blk, &info, NULL);
    case OP_APPLY:
        return blk_co_snapshot_apply(blk, name, NULL);
    default:
        return blk_co_snapshot_delete(blk, NULL, name, NULL);
    }
}

uint32_t snapshots_bit(const Op *op)
{
    bool is_one = op->type == OP_SNAPSHOT || op->type == OP_APPLY || op->type == OP_DELETE;

    return is_one && op->offset < SNAPSHOTS_MAX ? UINT32_C(1) << op->offset : 0;
}

const Event *snapshots_find(const Program *p, const Log *l, uint64_t k)
{
    for (guint i = 1; i < l->events->len; i++) { /* (the first is nobody's) */
        const Event *e = log_event(l, i);

        if (e->type == EV_OBSERVED && program_op(p, e->ref)->type == OP_SNAPSHOT &&
            program_op(p, e->ref)->offset == k) {
            return e;
        }
    }
    return NULL;
}

static char *compare(BlockBackend *blk, const char *name, const Event *e)
{
    g_autofree uint8_t *buf = g_malloc(MAX(e->bytes, 1));

    if ((uint64_t)blk_getlength(blk) != e->bytes) {
        return g_strdup_printf("snapshot %s has another size", name);
    }
    if (e->bytes && blk_pread(blk, 0, (int64_t)e->bytes, buf, 0) < 0) {
        return g_strdup_printf("snapshot %s cannot be read", name);
    }
    for (uint64_t i = 0; i < e->bytes / SECTOR; i++) {
        uint64_t was, is;

        memcpy(&was, e->data + i * 8, 8);
        if (!content_read(buf + i * SECTOR, &is) || is != was) {
            return g_strdup_printf("sector %" G_GUINT64_FORMAT " of snapshot %s has changed", i,
                                   name);
        }
    }
    return NULL;
}

char *snapshots_check(BlockBackend *blk, unsigned k, bool must, const Event *e)
{
    g_autofree char *name = g_strdup_printf("k%u", k);
    g_autoptr(GError) err = NULL;
    int ret = blk_snapshot_load(blk, NULL, name, &err);

    if (ret == -ENOENT) {
        return must ? g_strdup_printf("snapshot %s is not there", name) : NULL;
    }
    if (ret < 0) {
        return g_strdup_printf("snapshot %s: %s", name, err->message);
    }
    return e ? compare(blk, name, e) : NULL;
}
