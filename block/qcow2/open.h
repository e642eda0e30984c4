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

/* Another state for the same file, beside @q's: as if the header had the fields of @h but for names
 * and extensions. For whoever remakes the image. Until it is taken over @q is not touched. */
int coroutine_fn qcow2_open_co_beside(Qcow2 *q, const Qcow2Header *h, Qcow2 **ret, GError **errp);
/* @q becomes what @made is, which is freed. Nothing else runs on the image, and nothing is
 * dirty. */
void coroutine_fn qcow2_open_co_take_over(Qcow2 *q, Qcow2 *made);
void qcow2_open_free_beside(Qcow2 *made); /* NULL is fine */

#endif
