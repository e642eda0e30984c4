/* SPDX-License-Identifier: MIT */
/* What a reopen does as an open and a close do. */
#ifndef QCOW2_OPEN_H
#define QCOW2_OPEN_H

#include "options.h"

/* But for the caches. Nothing else runs on the image. */
void qcow2_open_apply_options(Qcow2 *q, const Qcow2Options *opt);
/* The counts and, last, the clean bit. An image that is found corrupt, which those who wrote to it
 * have heard, gets no more than its flush wrote. */
int coroutine_fn qcow2_open_co_finish_writing(Qcow2 *q);

#endif
