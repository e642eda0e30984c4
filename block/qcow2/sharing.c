/* SPDX-License-Identifier: MIT */
/* Tables that a snapshot is about to share: see sharing.h. */
#include "sharing.h"

#include "l1.h"
#include "rules.h"
#include "share.h"

#include <errno.h>

enum { SHARING_NOT, SHARING_PENDING, SHARING_COUNTED };

int qcow2_sharing_begin(Qcow2 *q, const uint64_t *l1, uint32_t n)
{
    SharingState *s = &q->sharing;

    g_assert(!atomic_load(&s->on));
    g_free((void *)s->state); /* nobody reads it: requests are held back */
    s->n = n;
    s->failed = 0;
    s->state = (void *)g_try_malloc0(MAX(n, 1));
    if (!s->state) {
        s->n = 0;
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        atomic_init(&s->state[i], l1[i] ? SHARING_PENDING : SHARING_NOT);
    }
    atomic_store(&s->on, true);
    return 0;
}

void coroutine_fn qcow2_sharing_co_end(Qcow2 *q)
{
    co_mutex_lock(&q->alloc.meta_lock);
    atomic_store(&q->sharing.on, false);
    co_mutex_unlock(&q->alloc.meta_lock);
}

void qcow2_sharing_fini(Qcow2 *q)
{
    g_clear_pointer((void **)&q->sharing.state, g_free);
}

static unsigned state_of(const Qcow2 *q, uint64_t l1_index)
{
    return l1_index < q->sharing.n ? atomic_load(&q->sharing.state[l1_index]) : SHARING_NOT;
}

bool qcow2_sharing_looks_pending(const Qcow2 *q, uint64_t l1_index)
{
    return state_of(q, l1_index) == SHARING_PENDING;
}

bool qcow2_sharing_has_counted(const Qcow2 *q, uint64_t l1_index)
{
    return state_of(q, l1_index) == SHARING_COUNTED;
}

/* INV-SH-2: counts rise before flags go, and a flush writes them in that order. The flags of the
 * table go first, and the L1 entry's last: the table is pending until all is done. */
static int coroutine_fn co_count(Qcow2 *q, uint64_t l1_index) REQUIRES_LOCK(q->alloc.meta_lock)
{
    uint64_t e = atomic_load(&q->l1[l1_index]);
    int ret = qcow2_share_co_add(q, l1_index, e & QCOW2_OFFSET_MASK);

    if (ret < 0) {
        q->sharing.failed = ret;
        q->sharing.failed_at = (uint32_t)l1_index;
        atomic_store(&q->sharing.on, false);
        return ret;
    }
    if ((e & L2E_COPIED) && !RULE_BROKEN(FLAGS_BEFORE_SNAPSHOT)) {
        qcow2_l1_set(q, (uint32_t)l1_index, e & ~L2E_COPIED);
    }
    atomic_store(&q->sharing.state[l1_index], SHARING_COUNTED);
    return 0;
}

void coroutine_fn qcow2_sharing_co_settle(Qcow2 *q, uint64_t l1_index)
{
    if (!qcow2_sharing_is_pending(q, l1_index) || RULE_BROKEN(COUNTED_BEFORE_CHANGED)) {
        return;
    }
    CASE_MET(COUNTED_FOR_REQUEST);
    (void)co_count(q, l1_index); /* the maker of the snapshot hears of a failure */
}

int coroutine_fn qcow2_sharing_co_count(Qcow2 *q, uint64_t l1_index)
{
    return q->sharing.failed || !qcow2_sharing_is_pending(q, l1_index) ? q->sharing.failed
                                                                       : co_count(q, l1_index);
}

int qcow2_sharing_failure(const Qcow2 *q)
{
    return q->sharing.failed;
}
