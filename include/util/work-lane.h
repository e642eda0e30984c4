/* SPDX-License-Identifier: MIT */
/*
 * WorkLane: a lane of the process's thread pool whose jobs run one after the other, in order; for
 * calls that the kernel does not run side by side anyway, such as buffered writes to one file,
 * where more threads would only wait for each other.
 */
#ifndef UTIL_WORK_LANE_H
#define UTIL_WORK_LANE_H

#include "util/aio.h"

DRIVER_API_BEGIN

typedef struct WorkLane WorkLane;

WorkLane *work_lane_new(void); /* NULL without memory */
/* No job may be under way. NULL is fine. Any thread. */
void work_lane_unref(WorkLane *l);
/* Run @fn in the lane; the coroutine sleeps; @fn's return value. Any event loop. */
int coroutine_fn work_lane_co_run(WorkLane *l, ThreadPoolFunc *fn, void *opaque);
/* Jobs that wait in it, and the one that runs; a guess at once. Any thread. */
unsigned work_lane_backlog(const WorkLane *l);
/* For a job that takes hardly longer than waking a thread: do others come while such a job runs, so
 * that the lane is of use? Learns from the jobs so far, and tries again now and then. Any thread.
 */
bool work_lane_pays(WorkLane *l);

DRIVER_API_END

#endif
