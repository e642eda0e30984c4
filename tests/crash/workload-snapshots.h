/* SPDX-License-Identifier: MIT */
#ifndef CRASH_WORKLOAD_SNAPSHOTS_H
#define CRASH_WORKLOAD_SNAPSHOTS_H

#include "program.h"

/* Snapshots made, applied and deleted while requests run. Shows INV-SH-3, INV-SHR-1, INV-SHR-2. */
void make_snapshot_beside(Program *p, GRand *r);

#endif
