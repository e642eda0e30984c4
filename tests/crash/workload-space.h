/* SPDX-License-Identifier: MIT */
/* Programs that give space back. */
#ifndef CRASH_WORKLOAD_SPACE_H
#define CRASH_WORKLOAD_SPACE_H

#include "program.h"

void make_empty(Program *p, GRand *r);
void make_tail(Program *p, GRand *r);

#endif
