/* SPDX-License-Identifier: MIT */
/* Bad bytes in an image: said once, marked on the image, and no more writes. */
#include "qcow2.h"

#include <errno.h>
#include <string.h>

int qcow2_may_write(Qcow2 *q)
{
    if (unlikely(atomic_load_explicit(&q->corrupt, memory_order_relaxed) || !q->data)) {
        return -EIO; /* (no data file: BLK_O_NO_IO) */
    }
    return atomic_load_explicit(&q->write_error, memory_order_relaxed);
}

/* The corrupt bit alone, where the header has it: nothing else of the header is touched. */
static void coroutine_fn co_mark(Qcow2 *q)
{
    uint8_t field[8];
    uint64_t v;

    if (q->geo.version < 3 || q->bs->read_only) {
        return;
    }
    co_mutex_lock(&q->feature_lock);
    if (bdrv_co_pread(q->file, 72, sizeof(field), field, 0) < 0) {
        co_mutex_unlock(&q->feature_lock);
        return;
    }
    memcpy(&v, field, sizeof(v));
    v = GUINT64_FROM_BE(v) | QCOW2_INCOMPAT_CORRUPT;
    v = GUINT64_TO_BE(v);
    memcpy(field, &v, sizeof(v));
    if (bdrv_co_pwrite(q->file, 72, sizeof(field), field, 0) == 0) {
        (void)bdrv_co_flush(q->file->bs); /* best effort: the error that we return says it too */
    }
    co_mutex_unlock(&q->feature_lock);
}

/* As the reference begins and ends it. */
static void tell(Qcow2 *q, const char *site, int64_t offset, const char *what)
{
    bool marks = !q->bs->read_only;
    g_autofree char *line = g_strdup_printf(
        "qcow2: %s: %s at offset 0x%" G_GINT64_MODIFIER
        "x of '%s': %s; further %scorruption events will be suppressed",
        marks ? "Marking image as corrupt" : "Image is corrupt", site, (uint64_t)offset,
        q->bs->exact_filename ? q->bs->exact_filename : "", what, marks ? "" : "non-fatal ");

    g_debug("%s", line);
    bdrv_report(q->bs, line);
}

int coroutine_fn qcow2_co_corrupt(Qcow2 *q, const char *site, int64_t offset, const char *what)
{
    if (!atomic_exchange(&q->corrupt, true)) {
        tell(q, site, offset, what);
        co_mark(q);
    }
    return -EIO;
}
