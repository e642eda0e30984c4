/* SPDX-License-Identifier: MIT */
/* Facts for `info`. */
#include "bitmap.h"
#include "callbacks.h"
#include "compress.h"
#include "crypt.h"
#include "snapshot.h"

bool qcow2_unwritten_reads_zero(BlockDriverState *bs)
{
    Qcow2 *q = bs->opaque;

    /* Preallocated entries show what their file has there. */
    return q->opened_empty || (q->data && !bs->encrypted && bdrv_unwritten_reads_zero(q->data->bs));
}

int qcow2_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    Qcow2 *q = bs->opaque;

    info->cluster_size = (uint32_t)q->geo.cluster_size;
    info->subcluster_size = (uint32_t)q->geo.subcluster_size;
    info->is_dirty = (q->hdr.incompatible & QCOW2_INCOMPAT_DIRTY) != 0;
    info->vm_state_offset = (int64_t)geo_state_start(&q->geo, q->hdr.size);
    return 0;
}

Options *qcow2_get_specific_info(BlockDriverState *bs, GError **errp)
{
    Qcow2 *q = bs->opaque;
    const Qcow2Header *h = &q->hdr;
    unsigned level = qcow2_compress_level(h, h->compression_type);
    Options *o = opts_new();

    opts_set(o, "compat", h->version == 2 ? "0.10" : "1.1");
    opts_set(o, "compression-type",
             h->compression_type == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib");
    if (level) { /* (nothing that others do not know, where it is not used) */
        opts_set_int(o, "compression-level", level);
    }
    if (h->version >= 3) {
        opts_set_bool(o, "lazy-refcounts", h->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS);
    }
    if (!qcow2_bitmap_list(q, o, errp)) {
        opts_free(o);
        return NULL;
    }
    opts_set_int(o, "refcount-bits", q->geo.refcount_bits);
    if (h->version >= 3) {
        if (h->data_file) {
            opts_set(o, "data-file", h->data_file);
        }
    }
    qcow2_crypt_describe(q, o);
    if (h->version >= 3) {
        if (q->geo.external_data) {
            opts_set_bool(o, "data-file-raw", h->autoclear & QCOW2_AUTOCLEAR_DATA_RAW);
        }
        opts_set_bool(o, "corrupt", h->incompatible & QCOW2_INCOMPAT_CORRUPT);
        opts_set_bool(o, "extended-l2", q->geo.extended_l2);
    }
    return o;
}

GArray *qcow2_list_snapshots(BlockDriverState *bs)
{
    Qcow2 *q = bs->opaque;
    GArray *a = g_array_new(FALSE, FALSE, sizeof(BlockSnapshotInfo));

    for (uint32_t i = 0; i < q->hdr.nb_snapshots; i++) {
        const Snapshot *s = &q->snapshots[i];
        BlockSnapshotInfo info = {
            .id = s->id,
            .name = s->name,
            .vm_state_size = s->vm_state_size,
            .date_sec = s->date_sec,
            .date_nsec = s->date_nsec,
            .vm_clock_nsec = s->vm_clock_nsec,
            .icount = s->icount,
        };

        g_array_append_val(a, info);
    }
    return a;
}
