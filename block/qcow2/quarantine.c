/* SPDX-License-Identifier: MIT */
/* The quarantine of clusters that were let go of: see quarantine.h. */
#include "quarantine.h"

#include "rules.h"
#include "util/spinlock.h"

struct Quarantine {
    PinState *pins;
    uint64_t cluster_size;
    atomic_uint_fast64_t gen; /* of changes that no flush has sealed yet; changes under meta_lock */
    atomic_uint_fast64_t synced_gen;
    atomic_uint_fast64_t bytes;
    atomic_uint_fast64_t queued_bytes, queued_runs; /* ever; they only grow */
    atomic_uint_fast64_t synced_bytes, synced_runs; /* ... of these, let go of on stable storage */
    SpinLock lock;
    Quarantined *head GUARDED_BY(lock), *tail GUARDED_BY(lock);
};

Quarantine *qcow2_quarantine_new(PinState *pins, uint64_t cluster_size)
{
    Quarantine *qn = g_try_new0(Quarantine, 1);

    if (qn) {
        qn->pins = pins;
        qn->cluster_size = cluster_size;
        atomic_init(&qn->gen, 1);
        spin_init(&qn->lock);
    }
    return qn;
}

void qcow2_quarantine_free(Quarantine *qn) UNCHECKED_LOCKS
{
    while (qn && qn->head) {
        Quarantined *e = qn->head;

        qn->head = e->next;
        g_free(e);
    }
    g_free(qn);
}

/* ---- What waits for a sync ---- */

QuarantineMark qcow2_quarantine_mark(Quarantine *qn)
{
    return (QuarantineMark){ .gen = atomic_fetch_add(&qn->gen, 1),
                             .bytes = atomic_load(&qn->queued_bytes),
                             .runs = atomic_load(&qn->queued_runs) };
}

void qcow2_quarantine_synced(Quarantine *qn, QuarantineMark m)
{
    g_assert(m.gen < atomic_load(&qn->gen));
    atomic_store(&qn->synced_gen, MAX(atomic_load(&qn->synced_gen), m.gen));
    atomic_store(&qn->synced_bytes, m.bytes);
    atomic_store(&qn->synced_runs, m.runs);
}

uint64_t qcow2_quarantine_unsynced(const Quarantine *qn, uint64_t *runs)
{
    uint64_t synced = atomic_load(&qn->synced_bytes), synced_runs = atomic_load(&qn->synced_runs);

    *runs = atomic_load(&qn->queued_runs) - synced_runs; /* in this order it is not below 0 */
    return atomic_load(&qn->queued_bytes) - synced;
}

uint64_t qcow2_quarantine_bytes(const Quarantine *qn)
{
    return atomic_load(&qn->bytes);
}

/* ---- The queue ---- */

#ifdef CONFIG_ORACLES
/* The same of all that lies between. */
static void check_queue(const Quarantine *qn) REQUIRES_LOCK(qn->lock)
{
    uint64_t bytes = 0;

    for (const Quarantined *e = qn->head; e; e = e->next) {
        g_assert(e->bytes > 0 && (e->next || e == qn->tail));
        g_assert(!e->next || (e->gen <= e->next->gen && e->epoch <= e->next->epoch));
        bytes += e->bytes;
    }
    g_assert(bytes == atomic_load(&qn->bytes));
}
#endif

/* INV-PIN-2, and what the counters say of the queue's ends. */
static void check_ends(const Quarantine *qn) REQUIRES_LOCK(qn->lock)
{
    g_assert((qn->head == NULL) == (qn->tail == NULL));
    g_assert(!qn->head || (qn->head->gen <= qn->tail->gen && qn->head->epoch <= qn->tail->epoch));
    g_assert(qn->head || atomic_load(&qn->bytes) == 0);
    g_assert(!qn->tail || (qn->tail->gen <= atomic_load(&qn->gen) && !qn->tail->next));
    ORACLE(check_queue(qn));
}

static bool continues(const Quarantine *qn, const Quarantined *t, const Quarantined *e)
{
    return !t->compressed && !e->compressed && t->offset + t->bytes == e->offset &&
           IS_ALIGNED(t->offset | t->bytes | e->bytes, qn->cluster_size) && t->punch == e->punch &&
           t->gen == e->gen && t->epoch == e->epoch;
}

static void append(Quarantine *qn, Quarantined *e) REQUIRES_LOCK(qn->lock)
{
    if (qn->tail) {
        qn->tail->next = e;
    } else {
        qn->head = e;
    }
    qn->tail = e;
    atomic_fetch_add(&qn->queued_runs, 1);
}

static void add(Quarantine *qn, Quarantined what)
{
    Quarantined *e = g_try_new0(Quarantined, 1);

    g_assert(what.bytes > 0);
    spin_lock(&qn->lock);
    what.gen = atomic_load(&qn->gen);
    what.epoch = qcow2_pin_epoch(qn->pins);
    if (qn->tail && continues(qn, qn->tail, &what)) {
        qn->tail->bytes += what.bytes;
    } else if (e) {
        *e = what;
        append(qn, g_steal_pointer(&e));
    } else {
        what.bytes = 0; /* out of memory: the clusters leak */
    }
    atomic_fetch_add(&qn->bytes, what.bytes);
    atomic_fetch_add(&qn->queued_bytes, what.bytes);
    check_ends(qn);
    spin_unlock(&qn->lock);
    g_free(e);
}

void qcow2_quarantine_add(Quarantine *qn, uint64_t offset, uint64_t bytes, bool punch)
{
    add(qn, (Quarantined){ .offset = offset, .bytes = bytes, .punch = punch });
}

void qcow2_quarantine_add_compressed(Quarantine *qn, uint64_t offset, uint64_t bytes, bool punch)
{
    add(qn, (Quarantined){ .offset = offset, .bytes = bytes, .punch = punch, .compressed = true });
}

static bool is_ready(const Quarantine *qn, const Quarantined *e)
{
    if (e->gen > atomic_load(&qn->synced_gen) && !RULE_BROKEN(QUARANTINE_SYNC)) {
        return false;
    }
    return RULE_BROKEN(QUARANTINE_PINS) || qcow2_pin_has_passed(qn->pins, e->epoch);
}

uint64_t qcow2_quarantine_gen(const Quarantine *qn)
{
    return atomic_load(&qn->gen);
}

Quarantined *qcow2_quarantine_take(Quarantine *qn, uint64_t gen)
{
    Quarantined *e = NULL;

    spin_lock(&qn->lock);
    if (qn->head && qn->head->gen <= gen) {
        qcow2_pin_advance(qn->pins);
        if (is_ready(qn, qn->head)) {
            e = qn->head;
            qn->head = e->next;
            if (!qn->head) {
                qn->tail = NULL;
            }
            atomic_fetch_sub(&qn->bytes, e->bytes);
        }
    }
    check_ends(qn);
    spin_unlock(&qn->lock);
    return e;
}

void qcow2_quarantine_put_back(Quarantine *qn, Quarantined *e)
{
    spin_lock(&qn->lock);
    e->next = qn->head;
    qn->head = e;
    if (!qn->tail) {
        qn->tail = e;
    }
    atomic_fetch_add(&qn->bytes, e->bytes);
    check_ends(qn);
    spin_unlock(&qn->lock);
}
