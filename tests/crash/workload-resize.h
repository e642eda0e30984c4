/* SPDX-License-Identifier: MIT */
#ifndef CRASH_WORKLOAD_RESIZE_H
#define CRASH_WORKLOAD_RESIZE_H

#include "program.h"

/* A disk grown and cut while requests run. Shows INV-TRUNC-1. */
void make_resize_beside(Program *p, GRand *r);

#endif
