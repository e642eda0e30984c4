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

/* As the reference's line does; reads do not mark what may not be written. */
static void report(const Health *h, const char *reason)
{
    bool marks = !h->bs->read_only;
    g_autofree char *line = g_strdup_printf(
        "qcow2: %s: %s; further %scorruption events will be suppressed",
        marks ? "Marking image as corrupt" : "Image is corrupt", reason, marks ? "" : "non-fatal ");

    g_debug("%s", line);
    bdrv_report(h->bs, line);
}

static int coroutine_fn co_found(Health *h, const char *reason)
{
    if (!atomic_exchange(&h->corrupt, true)) { /* INV-HEALTH-1 */
        report(h, reason);
        if (!h->bs->read_only) {
            /* Best effort: the error that we return says it, too. */
            (void)qcow2_header_co_mark_corrupt(h->header);
        }
    }
    return -EIO;
}

int coroutine_fn qcow2_health_co_corrupt(Health *h, const char *site, int64_t offset,
                                         const char *what)
{
    g_autofree char *reason =
        g_strdup_printf("%s at offset 0x%" G_GINT64_MODIFIER "x of '%s': %s", site,
                        (uint64_t)offset, h->bs->exact_filename ? h->bs->exact_filename : "", what);

    g_assert(site && what);
    return co_found(h, reason);
}

int coroutine_fn qcow2_health_co_corrupt_by(Health *h, const char *fmt, ...)
{
    g_autofree char *reason = NULL;
    va_list ap;

    va_start(ap, fmt);
    reason = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return co_found(h, reason);
}

int coroutine_fn qcow2_health_co_overlaps(Health *h, const char *what)
{
    return qcow2_health_co_corrupt_by(h, "Preventing invalid write on metadata (overlaps with %s)",
                                      what);
}
