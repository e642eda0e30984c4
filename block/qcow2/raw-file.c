/* SPDX-License-Identifier: MIT */
/*
 * A raw external data file is the disk: whoever reads it without the image sees what the guest
 * sees.
 *
 * So the file is what changes, and entries only show it:
 *
 * INV-RAW-1  What reads zero by its entry is zero in the file.
 * INV-RAW-2  An entry begins to show a part of the file before the guest's data gets there, and
 *            after the part was made zero; it ceases to show one only after that was made zero. So
 *            neither a write that fails in its middle nor an entry that never reached the disk
 *            parts the two.
 *
 * We make such images with entries that show all of the file, so that these do not change at all.
 * Others may leave entries that show nothing; there, what a power loss takes of the entries is read
 * as zero by the guest until it is written again.
 *
 * Zero by entry would part the two as well, when a write that found the entry before ends between
 * the file's change and the entry's.
 */
#include "raw-file.h"

#include "map.h"
#include "rules.h"

bool qcow2_raw_file_is_disk(const Qcow2 *q)
{
    return q->geo.data_raw && !q->bs->backing;
}

int coroutine_fn qcow2_raw_file_co_zero(Qcow2 *q, uint64_t start, uint64_t end, unsigned flags)
{
    uint64_t size = atomic_load(&q->bs->total_bytes);

    g_assert(q->geo.external_data && start <= end);
    if (start >= size) {
        return 0;
    }
    return bdrv_co_pwrite_zeroes(q->data, start, MIN(end, size) - start,
                                 flags & (BLK_REQ_MAY_UNMAP | BLK_REQ_NO_FALLBACK));
}

int coroutine_fn qcow2_raw_file_co_prepare(Qcow2 *q, const WriteRun *r)
{
    uint64_t at = r->cow_start;
    int ret = 0;

    g_assert(qcow2_raw_file_is_disk(q));
    while (at < r->cow_end && ret == 0) {
        Extent x;

        ret = qcow2_map_co_find(q, at, r->cow_end - at, &x);
        if (ret == 0 && x.kind != SC_NORMAL) {
            CASE_MET(RAW_PREPARED);
            ret = qcow2_raw_file_co_zero(q, at, at + x.bytes, 0);
        }
        at += ret < 0 ? 0 : x.bytes;
    }
    return ret;
}
