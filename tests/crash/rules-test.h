/* SPDX-License-Identifier: MIT */
/* The test of the explorer itself: each rule of the order, broken, must be found. */
#ifndef CRASH_RULES_TEST_H
#define CRASH_RULES_TEST_H

#include "campaign.h"

void rules_list(void);
bool rules_break(const char *name); /* false: unknown, or not in this build */
/* Does each special case of the driver come up in the random programs? */
int cases_test(const Campaign *c);
int rules_test(const Campaign *like, const char *only); /* TAP; an exit status */

#endif
