/* SPDX-License-Identifier: MIT */
/* Refcounts made anew: of a dirty image, on a writable open, and by a repair. */
#ifndef QCOW2_REBUILD_H
#define QCOW2_REBUILD_H

#include "check.h"

int coroutine_fn qcow2_rebuild_co_refcounts(Qcow2 *q, GError **errp);
/* What @map says, which counts no refcount structures. Needs room beside the old ones. */
int coroutine_fn qcow2_rebuild_co_repaired(Qcow2 *q, RefMap *map, GError **errp);

#endif
