/* SPDX-License-Identifier: MIT */
/*
 * Which host clusters are metadata (header, L1 and L2 tables, refcount table and blocks, snapshot
 * and bitmap tables): looked at before each write of data in place, and before an allocation.
 *
 * INV-META-1  A cluster is in the set as often as it was added and not removed: an L2 table that
 *             several entries of the L1 table name stays until the last of them lets go of it.
 */
#ifndef QCOW2_METADATA_SET_H
#define QCOW2_METADATA_SET_H

#include "util/compiler.h"

typedef struct MetadataSet MetadataSet;

MetadataSet *qcow2_metadata_new(unsigned cluster_bits);
void qcow2_metadata_free(MetadataSet *m); /* NULL is fine */
/* overlap-check=none: nothing is found any more. Nothing else runs on the image. */
void qcow2_metadata_set_ignored(MetadataSet *m, bool ignored);

/* NULL, or what metadata is in the host clusters of [@offset, +@bytes): data must not be written
 * there. Any thread, cheap. */
const char *qcow2_metadata_at(MetadataSet *m, uint64_t offset, uint64_t bytes);
/* @what: a literal. */
void qcow2_metadata_add(MetadataSet *m, uint64_t offset, uint64_t bytes, const char *what);
void qcow2_metadata_remove(MetadataSet *m, uint64_t offset, uint64_t bytes);
/* NULL, or what the first cluster that was added as two things was first. */
const char *qcow2_metadata_overlap(MetadataSet *m, uint64_t *offset);

#endif
