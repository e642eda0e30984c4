/* SPDX-License-Identifier: MIT */
/* Refcounts of a dirty image made anew, on a writable open. */
#ifndef QCOW2_REBUILD_H
#define QCOW2_REBUILD_H

#include "qcow2.h"

int coroutine_fn qcow2_rebuild_co_refcounts(Qcow2 *q, GError **errp);

#endif
