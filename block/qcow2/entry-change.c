/* SPDX-License-Identifier: MIT */
/* What zero writes and discards share: entries that nobody is about to change, and their change. */
#include "write-int.h"

int coroutine_fn entries_co_get_idle(Qcow2 *q, uint64_t start, uint64_t end, MetaSlice **s,
                                     unsigned *index, uint64_t *room)
{
    const Geometry *g = &q->geo;

    for (;;) {
        int ret = qcow2_co_l2_get_writable(q, start, s, index);

        if (ret < 0) {
            return ret;
        }
        *room = MIN(((start >> g->cluster_bits) + l2_slice_entries(q) - *index) << g->cluster_bits,
                    end);
        if (!qcow2_co_wait_allocs(q, start, *room - start)) {
            return 0;
        }
        meta_cache_put(q->l2_cache, *s); /* meta_lock was let go of */
    }
}

void entry_replace(Qcow2 *q, MetaSlice *s, unsigned index, uint64_t guest, L2Entry e, bool punch)
{
    const Geometry *g = &q->geo;
    L2Entry old = l2_load(g, s->data, index);

    meta_cache_modify_begin(q->l2_cache, s);
    l2_store(g, s->data, index, e);
    meta_cache_modify_end(q->l2_cache, s);
    if (((old.desc & L2E_COMPRESSED) || (l2_has_host(g, old) && !l2_has_host(g, e))) &&
        !l2_defect(g, old, guest)) {
        qcow2_free_entry_later(q, old, punch);
    }
}
