/* SPDX-License-Identifier: MIT */
/*
 * Pins and the quarantine of freed clusters.
 *
 * A request pins the image from before its lookup to after its last I/O. A cluster that a
 * table lets go of goes to quarantine with its refcount untouched, so no allocation can find it,
 * and leaves when (a) every request that was pinned when it was let go has left: such a request may
 * have looked the cluster up before; later ones cannot reach it any more, and (b) the change that
 * let go of it is on stable storage (INV-W-4). Then it is punched, if wanted and nobody else counts
 * on it, still with its refcount; then the refcount drops.
 *
 * Pins are counted per epoch parity, in stripes against cache line bouncing.
 *
 * INV-PIN-1  The epoch moves from E to E+1 only when no pin of E-1 is left, so two parities do.
 * INV-PIN-2  Entries are queued under meta_lock after the table's change, in the same hold of the
 *            lock; their epochs and generations never decrease, so the queue is FIFO.
 * INV-PIN-3  A request pins (a sequentially consistent add) before it reads a table; so whoever
 *            sees a count of zero after the change of the table knows that no request holds the old
 *            mapping.
 */
#include "refcount-int.h"
#include "rules.h"

#define STRIPES 16

typedef struct Quarantined {
    struct Quarantined *next;
    uint64_t offset, bytes; /* cluster aligned, or a compressed range */
    uint64_t epoch, gen;
    bool punch, compressed;
} Quarantined;

typedef struct PinStripe {
    _Alignas(64) atomic_long n;
} PinStripe;

struct PinState {
    PinStripe count[2][STRIPES];
    _Alignas(64) atomic_uint_fast64_t epoch;
    atomic_uint_fast64_t synced_gen;
    atomic_uint_fast64_t bytes;
    atomic_uint_fast64_t queued_bytes, queued_runs; /* ever; they only grow */
    atomic_uint_fast64_t synced_bytes, synced_runs; /* ... of these, let go of on stable storage */
    SpinLock lock;                                  /* guards the fields below */
    Quarantined *head, *tail;
    GSList *retired;
};

PinState *qcow2_pin_new(void)
{
    PinState *p = mem_align_try(64, sizeof(*p));

    if (p) {
        memset(p, 0, sizeof(*p));
        atomic_init(&p->epoch, 1);
        spin_init(&p->lock);
    }
    return p;
}

void qcow2_pin_free(PinState *p)
{
    if (!p) {
        return;
    }
    while (p->head) {
        Quarantined *e = p->head;

        p->head = e->next;
        g_free(e);
    }
    g_slist_free_full(p->retired, g_free);
    mem_align_free(p);
}

void qcow2_pin_retire(Qcow2 *q, void *mem)
{
    GSList *node = g_slist_prepend(NULL, mem);

    spin_lock(&q->pin->lock);
    node->next = q->pin->retired;
    q->pin->retired = node;
    spin_unlock(&q->pin->lock);
}

static unsigned my_stripe(void)
{
    static atomic_uint next;
    static __thread unsigned mine; /* + 1 */

    if (unlikely(!mine)) {
        mine = atomic_fetch_add(&next, 1) % STRIPES + 1;
    }
    return mine - 1;
}

unsigned qcow2_pin_enter(Qcow2 *q)
{
    PinState *p = q->pin;
    unsigned stripe = my_stripe();

    for (;;) {
        uint64_t e = atomic_load(&p->epoch);

        atomic_fetch_add(&p->count[e & 1][stripe].n, 1);
        if (likely(atomic_load(&p->epoch) == e)) {
            return (e & 1) * STRIPES + stripe;
        }
        atomic_fetch_sub(&p->count[e & 1][stripe].n, 1); /* the epoch moved on in between */
    }
}

void qcow2_pin_leave(Qcow2 *q, unsigned token)
{
    atomic_fetch_sub(&q->pin->count[token / STRIPES][token % STRIPES].n, 1);
}

/* Each stripe is seen zero at some moment after the call began; pins of a past epoch only go. */
static bool parity_empty(PinState *p, uint64_t epoch)
{
    for (unsigned i = 0; i < STRIPES; i++) {
        if (atomic_load(&p->count[epoch & 1][i].n) != 0) {
            return false;
        }
    }
    return true;
}

/* Under p->lock. INV-PIN-1 */
static void advance_epoch(PinState *p)
{
    uint64_t e = atomic_load(&p->epoch);

    if (parity_empty(p, e + 1)) { /* the parity of e - 1 */
        atomic_store(&p->epoch, e + 1);
    }
}

/* Under p->lock. */
static bool is_ready(PinState *p, const Quarantined *q)
{
    uint64_t e = atomic_load(&p->epoch);

    if (q->gen > atomic_load(&p->synced_gen) && !RULE_BROKEN(QUARANTINE_SYNC)) {
        return false;
    }
    return RULE_BROKEN(QUARANTINE_PINS) || e >= q->epoch + 2 ||
           (e == q->epoch + 1 && parity_empty(p, q->epoch));
}

QuarantineMark qcow2_pin_mark(Qcow2 *q)
{
    return (QuarantineMark){ .gen = q->meta_gen++,
                             .bytes = atomic_load(&q->pin->queued_bytes),
                             .runs = atomic_load(&q->pin->queued_runs) };
}

/* Flushes, which follow one another, are all that calls this. */
void qcow2_pin_synced(Qcow2 *q, QuarantineMark m)
{
    atomic_store(&q->pin->synced_gen, MAX(atomic_load(&q->pin->synced_gen), m.gen));
    atomic_store(&q->pin->synced_bytes, m.bytes);
    atomic_store(&q->pin->synced_runs, m.runs);
}

uint64_t qcow2_pin_unsynced(Qcow2 *q, uint64_t *runs)
{
    PinState *p = q->pin;
    uint64_t synced = atomic_load(&p->synced_bytes), synced_runs = atomic_load(&p->synced_runs);

    *runs = atomic_load(&p->queued_runs) - synced_runs; /* in this order it is not below 0 */
    return atomic_load(&p->queued_bytes) - synced;
}

uint64_t qcow2_pin_waiting_bytes(Qcow2 *q)
{
    return atomic_load(&q->pin->bytes);
}

static void free_later(Qcow2 *q, uint64_t offset, uint64_t bytes, bool punch, bool compressed)
{
    PinState *p = q->pin;
    uint64_t cs = q->geo.cluster_size;
    bool whole = !compressed && IS_ALIGNED(offset, cs) && IS_ALIGNED(bytes, cs);
    Quarantined *e, *t;

    g_assert(bytes > 0);
    e = g_try_new0(Quarantined, 1);
    spin_lock(&p->lock);
    t = p->tail;
    if (t && whole && !t->compressed && IS_ALIGNED(t->offset | t->bytes, cs) &&
        t->offset + t->bytes == offset && t->punch == punch && t->gen == q->meta_gen &&
        t->epoch == atomic_load(&p->epoch)) {
        t->bytes += bytes;
        atomic_fetch_add(&p->bytes, bytes);
        atomic_fetch_add(&p->queued_bytes, bytes);
    } else if (e) {
        *e = (Quarantined){ .offset = offset,
                            .bytes = bytes,
                            .gen = q->meta_gen,
                            .epoch = atomic_load(&p->epoch),
                            .punch = punch,
                            .compressed = compressed };
        if (t) {
            t->next = e;
        } else {
            p->head = e;
        }
        p->tail = e;
        e = NULL;
        atomic_fetch_add(&p->bytes, bytes);
        atomic_fetch_add(&p->queued_bytes, bytes);
        atomic_fetch_add(&p->queued_runs, 1);
    } /* else: out of memory, the clusters leak */
    spin_unlock(&p->lock);
    g_free(e);
}

void qcow2_free_later(Qcow2 *q, uint64_t offset, uint64_t bytes, bool punch)
{
    free_later(q, offset, bytes, punch, false);
}

void qcow2_free_compressed_later(Qcow2 *q, uint64_t offset, uint64_t bytes, bool punch)
{
    free_later(q, offset, bytes, punch, true);
}

static Quarantined *take_ready(PinState *p)
{
    Quarantined *e = NULL;

    spin_lock(&p->lock);
    if (p->head) {
        advance_epoch(p);
        if (is_ready(p, p->head)) {
            e = p->head;
            p->head = e->next;
            if (!p->head) {
                p->tail = NULL;
            }
            atomic_fetch_sub(&p->bytes, e->bytes);
        }
    }
    spin_unlock(&p->lock);
    return e;
}

/* It could not be released now: first in the queue, for the next reap. */
static void put_back(PinState *p, Quarantined *e)
{
    spin_lock(&p->lock);
    e->next = p->head;
    p->head = e;
    if (!p->tail) {
        p->tail = e;
    }
    atomic_fetch_add(&p->bytes, e->bytes);
    spin_unlock(&p->lock);
}

/* May cluster @c be punched: one count is left, ours, and none will be added. Under meta_lock. */
static bool coroutine_fn may_punch(Qcow2 *q, uint64_t c)
{
    uint64_t count;

    if (qcow2_co_refcount_get(q, c, &count) < 0 || (count != 1 && !RULE_BROKEN(PUNCH_UNSHARED))) {
        return false;
    }
    if (q->compress_next && q->compress_next >> q->geo.cluster_bits == c) {
        q->compress_next = 0; /* INV-ALLOC-3: nobody packs data behind what is about to go */
    }
    return true;
}

/* Punch the clusters of [first, last] that nobody else uses; their refcount is still 1. */
static void coroutine_fn punch_range(Qcow2 *q, uint64_t first, uint64_t last)
{
    unsigned cb = q->geo.cluster_bits;

    for (uint64_t c = first; c <= last;) {
        uint64_t run = 0;

        co_mutex_lock(&q->meta_lock);
        while (c + run <= last && may_punch(q, c + run)) {
            run++;
        }
        co_mutex_unlock(&q->meta_lock);
        if (run) {
            /* Best effort: the space stays allocated on the host if this fails. */
            (void)bdrv_co_pdiscard(q->file, c << cb, run << cb);
        }
        c += run + 1;
    }
}

static int coroutine_fn release(Qcow2 *q, const Quarantined *e)
{
    uint64_t first = e->offset >> q->geo.cluster_bits;
    uint64_t last = (e->offset + e->bytes - 1) >> q->geo.cluster_bits;
    int ret;

    if (e->compressed) {
        /* What was unpacked from there is no longer valid. Not before: a request that found the
         * entry before it was let go of may have kept it until now. */
        atomic_fetch_add(&q->compressed_gen, 1);
    }
    if (e->punch && !RULE_BROKEN(PUNCH_COUNTED)) {
        punch_range(q, first, last);
    }
    co_mutex_lock(&q->meta_lock);
    bdrv_co_debug_event(q->file, BLKDBG_CLUSTER_FREE);
    ret = qcow2_co_refcount_add(q, first, last - first + 1, -1);
    co_mutex_unlock(&q->meta_lock);
    if (e->punch && RULE_BROKEN(PUNCH_COUNTED) &&
        IS_ALIGNED(e->offset | e->bytes, q->geo.cluster_size)) {
        (void)bdrv_co_pdiscard(q->file, e->offset, e->bytes);
    }
    return ret;
}

int coroutine_fn qcow2_co_pin_reap(Qcow2 *q)
{
    while (atomic_load(&q->pin->bytes)) {
        g_autofree Quarantined *e = take_ready(q->pin);
        int ret;

        if (!e) {
            break;
        }
        if (qcow2_may_write(q) < 0) {
            continue; /* a leak; nothing is written to a broken image any more */
        }
        ret = release(q, e);
        if (ret < 0) {
            put_back(q->pin, g_steal_pointer(&e)); /* nothing of it was released */
            return ret;
        }
    }
    return 0;
}
