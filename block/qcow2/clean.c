/* SPDX-License-Identifier: MIT */
/*
 * cache-clean-interval: metadata that was not used for so long leaves the memory.  A timer of the
 * loop that opened the image does it, as long as a thread runs that loop; where none does, whoever
 * uses the image does it, when it has to wait for the disk anyway.
 */
#include "clean.h"

#include "cow-buffer.h"

void qcow2_clean_if_due(Qcow2 *q)
{
    int_fast64_t due = atomic_load_explicit(&q->clean_due, memory_order_relaxed), now;

    if (!q->cache_clean_interval_ns) {
        return;
    }
    now = aio_clock_ns();
    if (now >= due && atomic_compare_exchange_strong(&q->clean_due, &due,
                                                     now + (int64_t)q->cache_clean_interval_ns)) {
        qcow2_cache_clean(q->l2_cache);
        qcow2_cache_clean(q->alloc.ref_cache);
        qcow2_cow_buffer_trim(q);
    }
}

static void timer_fired(void *opaque)
{
    Qcow2 *q = opaque;

    qcow2_clean_if_due(q);
    aio_timer_mod(q->clean_timer, aio_clock_ns() + (int64_t)q->cache_clean_interval_ns);
}

void qcow2_clean_start(Qcow2 *q, uint64_t interval_s)
{
    int64_t first;

    q->cache_clean_interval_ns = interval_s * UINT64_C(1000000000);
    if (interval_s) {
        first = aio_clock_ns() + (int64_t)q->cache_clean_interval_ns;
        atomic_store(&q->clean_due, first);
        q->clean_timer = aio_timer_new(aio_current(), timer_fired, q);
        aio_timer_mod(q->clean_timer, first);
    }
}

void qcow2_clean_stop(Qcow2 *q)
{
    g_clear_pointer(&q->clean_timer, aio_timer_free);
}
