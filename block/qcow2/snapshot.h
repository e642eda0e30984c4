/* SPDX-License-Identifier: MIT */
/* Internal snapshots: the table of them. */
#ifndef QCOW2_SNAPSHOT_H
#define QCOW2_SNAPSHOT_H

#include "qcow2.h"

#define SNAPSHOT_FIXED_SIZE 40
#define SNAPSHOT_KNOWN_EXTRA 24 /* what we write */
#define SNAPSHOT_MAX_EXTRA 1024
#define SNAPSHOT_MAX_TABLE (INT64_C(64) * MiB)

typedef struct Snapshot {
    uint64_t l1_offset;
    uint32_t l1_size;
    char *id, *name;
    uint64_t vm_state_size;
    uint64_t disk_size; /* the image's, where the table does not say */
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec;
    uint64_t icount;
    uint32_t extra_len;  /* bytes of extra data in the table */
    uint8_t *extra_rest; /* of these, what follows those that we know; NULL: nothing */
    uint32_t extra_cut;  /* bytes of too much extra data that follow in the file; for check only */
} Snapshot;

int coroutine_fn qcow2_snapshot_co_load(Qcow2 *q, GError **errp);
void qcow2_snapshot_free_all(Qcow2 *q);
void qcow2_snapshot_clear(Snapshot *s);
/* Bytes of the table that @n of them make. */
uint64_t qcow2_snapshot_table_bytes(const Snapshot *list, uint32_t n);
/* snapshot-table.c: such a table, in new clusters that nothing names yet; *@offset 0 if @n is 0.
 * Synced by the caller. */
int coroutine_fn qcow2_snapshot_co_write_table(Qcow2 *q, const Snapshot *list, uint32_t n,
                                               uint64_t *offset) EXCLUDES_LOCK(q->alloc.meta_lock);
/* @id and @name, each of them if not NULL; the first that fits. -1: none. */
int64_t qcow2_snapshot_find(const Qcow2 *q, const char *id, const char *name);
/* An id, or else a name. */
int64_t qcow2_snapshot_find_either(const Qcow2 *q, const char *id_or_name);
/* Its L1 table in host byte order, at least @entries long (zeroes past its own); g_free(). */
int coroutine_fn qcow2_snapshot_co_read_l1(Qcow2 *q, const Snapshot *s, uint64_t entries,
                                           uint64_t **ret, GError **errp);
/* The same of a table that is sound as a place, whatever its entries say. */
int coroutine_fn qcow2_snapshot_co_read_offsets(Qcow2 *q, const Snapshot *s, uint64_t entries,
                                                uint64_t **ret);
/* Its L1 table is aligned, no larger than any may be, and inside of the file. */
bool qcow2_snapshot_l1_sound(const Qcow2 *q, const Snapshot *s, uint64_t file_length);

#endif
