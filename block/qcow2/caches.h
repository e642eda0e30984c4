/* SPDX-License-Identifier: MIT */
/* The two caches of metadata of an image, and what they take of the process's budget. */
#ifndef QCOW2_CACHES_H
#define QCOW2_CACHES_H

#include "options.h"

typedef struct Qcow2Caches {
    MetaCache *l2, *ref;
    uint64_t budget_taken;
} Qcow2Caches;

/* As the options say, within what the user lets an image take. Nothing to free on an error. */
int qcow2_caches_make(Qcow2 *q, const Qcow2Options *opt, Qcow2Caches *c, GError **errp);
/* What is dirty in them is lost. */
void qcow2_caches_free(Qcow2Caches *c);
/* The image's become @c's, and the other way round. Nothing else runs on the image. */
void qcow2_caches_swap(Qcow2 *q, Qcow2Caches *c);

#endif
