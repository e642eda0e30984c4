/* SPDX-License-Identifier: MIT */
/*
 * Which host clusters are metadata (header, L1 and L2 tables, refcount table and blocks, snapshot
 * and bitmap tables): looked at before each write of data in place, and before an allocation.
 *
 * INV-META-1  A cluster is in the set as often as it was added and not removed: an L2 table that
 *             several entries of the L1 table name stays until the last of them lets go of it.
 * INV-META-2  L2 tables of snapshots are counted apart: that an active table is one of them too is
 *             no overlap, and what the active L1 table lets go of stays one of theirs.
 */
#ifndef QCOW2_METADATA_SET_H
#define QCOW2_METADATA_SET_H

#include "util/compiler.h"

typedef struct MetadataSet MetadataSet;

MetadataSet *qcow2_metadata_new(unsigned cluster_bits);
void qcow2_metadata_free(MetadataSet *m); /* NULL is fine */
/* Kinds of metadata, as bits, in the order of the overlap-check options. What an option names none
 * of (tables of bitmaps) is looked for with any. */
typedef enum MetadataKind {
    METADATA_HEADER = 1 << 0,
    METADATA_L1 = 1 << 1,
    METADATA_L2 = 1 << 2,
    METADATA_REFTABLE = 1 << 3,
    METADATA_REFBLOCK = 1 << 4,
    METADATA_SNAPSHOTS = 1 << 5,
    METADATA_INACTIVE_L1 = 1 << 6,
    METADATA_INACTIVE_L2 = 1 << 7,
    METADATA_BITMAP_DIR = 1 << 8,
    METADATA_OTHER = 1 << 9,
} MetadataKind;
#define METADATA_ALL ((1u << 10) - 1)

/* From now on only these are found; at first all are. Nothing else runs on the image. */
void qcow2_metadata_look_for(MetadataSet *m, unsigned kinds);
/* What is in the cluster at @offset, as kinds, looked for or not. */
unsigned qcow2_metadata_kinds_at(MetadataSet *m, uint64_t offset);

/* NULL, or what metadata is in the host clusters of [@offset, +@bytes): data must not be written
 * there. Any thread, cheap. */
const char *qcow2_metadata_at(MetadataSet *m, uint64_t offset, uint64_t bytes);
/* @what: as the reference names it. */
void qcow2_metadata_add(MetadataSet *m, uint64_t offset, uint64_t bytes, const char *what);
void qcow2_metadata_remove(MetadataSet *m, uint64_t offset, uint64_t bytes);
/* NULL, or what the first cluster that was added as two things was first. */
const char *qcow2_metadata_overlap(MetadataSet *m, uint64_t *offset);

/* L2 tables of snapshots (INV-META-2), one for each entry of an L1 table that names it. Kept only
 * while they are looked for (inactive-l2.h). */
bool qcow2_metadata_wants_inactive_l2(const MetadataSet *m);
/* The table at @offset is one, and such are looked for: it must not be changed. */
bool qcow2_metadata_is_inactive_l2(MetadataSet *m, uint64_t offset);
void qcow2_metadata_add_inactive_l2(MetadataSet *m, uint64_t offset);
void qcow2_metadata_remove_inactive_l2(MetadataSet *m, uint64_t offset);
/* All that name the table at @from, if any do, name it at @to now. */
void qcow2_metadata_move_inactive_l2(MetadataSet *m, uint64_t from, uint64_t to);
void qcow2_metadata_clear_inactive_l2(MetadataSet *m);

#endif
