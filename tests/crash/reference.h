/* SPDX-License-Identifier: MIT */
/* What the reference's check says of a state. */
#ifndef CRASH_REFERENCE_H
#define CRASH_REFERENCE_H

#include "mem.h"
#include "program.h"

bool reference_available(void);
/* NULL, or its complaint (g_free). */
char *reference_check(const Program *p, const MemFile *image, const MemFile *data);

#endif
