/* SPDX-License-Identifier: MIT */
/* The driver's table. */
#include "callbacks.h"
#include "header-layout.h"
#include "qcow2.h"

#include "util/bytes.h"

static int qcow2_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= 8 && ldbe32(buf) == HEADER_MAGIC && ldbe32(buf + HEADER_AT(version)) >= 2 ? 100
                                                                                            : 0;
}

static void qcow2_refresh_limits(BlockDriverState *bs)
{
    Qcow2 *q = bs->opaque;

    bs->limits.request_alignment = bs->encrypted ? CRYPT_VOLUME_SECTOR : 1;
    bs->limits.min_mem_alignment = 1;
    bs->limits.opt_mem_alignment = q->file->bs->limits.opt_mem_alignment;
    bs->limits.pwrite_zeroes_alignment = (uint32_t)q->geo.subcluster_size;
    bs->limits.pdiscard_alignment = (uint32_t)q->geo.cluster_size;
}

static const char *const strong_options[] = { "encrypt.key-secret", "snapshot.id", "snapshot.name",
                                              NULL };

const BlockDriver bdrv_qcow2 = {
    BLOCK_DRIVER_TABLE,
    .format_name = "qcow2",
    .instance_size = sizeof(Qcow2),
    .is_format = true,
    .supports_backing = true,
    .probe = qcow2_probe,
    .co_open = qcow2_co_open,
    .co_close = qcow2_co_close,
    .co_reopen_prepare = qcow2_co_reopen_prepare,
    .reopen_commit = qcow2_reopen_commit,
    .reopen_abort = qcow2_reopen_abort,
    .refresh_limits = qcow2_refresh_limits,
    .strong_options = strong_options,
    .create_options = qcow2_create_options,
    .co_create = qcow2_co_create,
    .co_measure = qcow2_co_measure,
    .unwritten_reads_zero = qcow2_unwritten_reads_zero,
    .co_preadv = qcow2_co_preadv,
    .co_pwritev = qcow2_co_pwritev,
    .co_pwrite_zeroes = qcow2_co_pwrite_zeroes,
    .co_pdiscard = qcow2_co_pdiscard,
    .co_pwritev_compressed = qcow2_co_pwritev_compressed,
    .co_block_status = qcow2_co_block_status,
    .co_flush_to_os = qcow2_co_flush_to_os,
    .co_truncate = qcow2_co_truncate,
    .co_truncate_beside = qcow2_co_truncate_beside,
    .co_vmstate = qcow2_co_vmstate,
    .co_check = qcow2_co_check,
    .amend_options = qcow2_amend_options,
    .co_amend = qcow2_co_amend,
    .bitmaps = &qcow2_bitmap_ops,
    .co_change_backing_file = qcow2_co_change_backing_file,
    .co_compact = qcow2_co_compact,
    .co_make_empty = qcow2_co_make_empty,
    .list_snapshots = qcow2_list_snapshots,
    .snapshot = &qcow2_snapshot_ops,
    .get_info = qcow2_get_info,
    .get_specific_info = qcow2_get_specific_info,
};
