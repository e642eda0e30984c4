/* SPDX-License-Identifier: MIT */
/* Buffers of copy-on-write, a few of them kept. */
#ifndef QCOW2_COW_BUFFER_H
#define QCOW2_COW_BUFFER_H

#include "qcow2.h"

int qcow2_cow_buffer_init(Qcow2 *q);
void qcow2_cow_buffer_fini(Qcow2 *q);
/* Aligned for I/O; NULL without memory. */
void *qcow2_cow_buffer_get(Qcow2 *q, uint64_t bytes);
void qcow2_cow_buffer_put(Qcow2 *q, void *buf, uint64_t bytes); /* the same @bytes; NULL is fine */
void qcow2_cow_buffer_trim(Qcow2 *q); /* give back what was not used since the last call */

#endif
