/* SPDX-License-Identifier: MIT */
/* How many clusters the file of an image has; pure. */
#ifndef QCOW2_MEASURE_H
#define QCOW2_MEASURE_H

#include "geometry.h"

/* For a disk of @size bytes, with that many L2 tables and clusters of data in the file; what counts
 * them is included. */
uint64_t qcow2_measure_clusters(const Geometry *g, uint64_t size, uint64_t l2_tables,
                                uint64_t data);

#endif
