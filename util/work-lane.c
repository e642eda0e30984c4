/* SPDX-License-Identifier: MIT */
/*
 * WorkLane: jobs for the thread pool, one at a time, in order.
 *
 * INV-LANE-1  While `running`, one worker drains the queue and holds a reference; it clears
 *             `running` under the lock that also guards the queue, so a job is never left without a
 *             worker.
 * INV-LANE-2  A job lives on the stack of its coroutine: nothing reads it after the wake.
 */
#include "util/work-lane.h"

#include "util/aio-int.h"
#include "util/spinlock.h"

#define SKIP_MIN 16
#define SKIP_MAX 1024

typedef struct LaneJob LaneJob;

struct LaneJob {
    ThreadPoolFunc *fn;
    void *opaque;
    Coroutine *co;
    LaneJob *next;
    int ret;
};

struct WorkLane {
    atomic_int refs;
    atomic_uint active; /* jobs queued or running */
    SpinLock lock;      /* guards the fields below */
    LaneJob *head, **tail;
    bool running;
    unsigned begun;       /* jobs so far */
    unsigned skip, skips; /* short jobs still to be done by callers; and how many the last time */
};

WorkLane *work_lane_new(void)
{
    WorkLane *l = g_try_new0(WorkLane, 1);

    if (l) {
        atomic_init(&l->refs, 1);
        spin_init(&l->lock);
        l->tail = &l->head;
    }
    return l;
}

void work_lane_unref(WorkLane *l)
{
    if (l && atomic_fetch_sub(&l->refs, 1) == 1) {
        g_assert(!l->head && !l->running);
        g_free(l);
    }
}

/* NULL: none is left, and the worker goes. */
static LaneJob *next_job(WorkLane *l)
{
    LaneJob *j;

    spin_lock(&l->lock);
    j = l->head;
    if (j) {
        l->head = j->next;
        if (!l->head) {
            l->tail = &l->head;
        }
    } else {
        l->running = false;
    }
    spin_unlock(&l->lock);
    return j;
}

static int drain(void *opaque)
{
    WorkLane *l = opaque;
    LaneJob *j;

    while ((j = next_job(l))) {
        Coroutine *co = j->co;

        j->ret = j->fn(j->opaque);
        atomic_fetch_sub(&l->active, 1);
        aio_co_schedule(coroutine_home(co), co); /* INV-LANE-2 */
    }
    work_lane_unref(l);
    return 0;
}

/* Queue @j; true if the caller must start a worker. */
static bool push(WorkLane *l, LaneJob *j, unsigned *ticket)
{
    bool start;

    atomic_fetch_add(&l->active, 1);
    spin_lock(&l->lock);
    *l->tail = j;
    l->tail = &j->next;
    *ticket = ++l->begun;
    start = !l->running;
    l->running = true;
    spin_unlock(&l->lock);
    return start;
}

int coroutine_fn work_lane_co_run(WorkLane *l, ThreadPoolFunc *fn, void *opaque)
{
    LaneJob j = { .fn = fn, .opaque = opaque, .co = coroutine_self() };
    unsigned ticket;

    if (push(l, &j, &ticket)) {
        atomic_fetch_add(&l->refs, 1);
        thread_pool_push(drain, l);
    }
    coroutine_yield();
    spin_lock(&l->lock);
    if (l->begun == ticket) { /* nobody came while we waited: two threads were of no use */
        l->skips = CLAMP(l->skips * 2, SKIP_MIN, SKIP_MAX);
        l->skip = l->skips;
    } else {
        l->skips = l->skip = 0;
    }
    spin_unlock(&l->lock);
    return j.ret;
}

unsigned work_lane_backlog(const WorkLane *l)
{
    return atomic_load_explicit(&l->active, memory_order_relaxed);
}

bool work_lane_pays(WorkLane *l)
{
    bool pays;

    spin_lock(&l->lock);
    pays = atomic_load(&l->active) > 0 || l->skip == 0;
    l->skip -= !pays;
    spin_unlock(&l->lock);
    return pays;
}
