/* SPDX-License-Identifier: MIT */
/* May the image be written? See health.h. */
#include "health.h"

#include <errno.h>

void qcow2_health_init(Health *h, BlockDriverState *bs, HeaderFile *header)
{
    h->bs = bs;
    h->header = header;
    atomic_init(&h->corrupt, false);
    atomic_init(&h->write_error, 0);
}

int qcow2_health_may_write(const Health *h)
{
    if (unlikely(atomic_load_explicit(&h->corrupt, memory_order_relaxed))) {
        return -EIO;
    }
    return atomic_load_explicit(&h->write_error, memory_order_relaxed);
}

void qcow2_health_sync_failed(Health *h, int ret)
{
    int none = 0;

    atomic_compare_exchange_strong(&h->write_error, &none, ret); /* INV-FLUSH-3 */
}

int coroutine_fn qcow2_health_co_sync(Health *h, BlockDriverState *bs)
{
    int ret = bdrv_co_flush(bs);

    if (ret < 0) {
        qcow2_health_sync_failed(h, ret);
    }
    return ret;
}

/* Begins and ends as the reference's line does. */
static void report(const Health *h, const char *site, int64_t offset, const char *what)
{
    bool marks = !h->bs->read_only;
    g_autofree char *line = g_strdup_printf(
        "qcow2: %s: %s at offset 0x%" G_GINT64_MODIFIER
        "x of '%s': %s; further %scorruption events will be suppressed",
        marks ? "Marking image as corrupt" : "Image is corrupt", site, (uint64_t)offset,
        h->bs->exact_filename ? h->bs->exact_filename : "", what, marks ? "" : "non-fatal ");

    g_debug("%s", line);
    bdrv_report(h->bs, line);
}

int coroutine_fn qcow2_health_co_corrupt(Health *h, const char *site, int64_t offset,
                                         const char *what)
{
    g_assert(site && what);
    if (!atomic_exchange(&h->corrupt, true)) { /* INV-HEALTH-1 */
        report(h, site, offset, what);
        if (!h->bs->read_only) {
            /* Best effort: the error that we return says it, too. */
            (void)qcow2_header_co_mark_corrupt(h->header);
        }
    }
    return -EIO;
}
