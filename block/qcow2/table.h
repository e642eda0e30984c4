/* SPDX-License-Identifier: MIT */
/* Metadata tables as bytes of the file: reading one whole, room for a new one. */
#ifndef QCOW2_TABLE_H
#define QCOW2_TABLE_H

#include "block/io.h"

/* [@offset, +@bytes) of the file into @buf; zeroes past its end, where only info and check come. */
int coroutine_fn qcow2_table_co_read(BdrvChild *file, uint64_t offset, uint64_t bytes, void *buf);
/* Room for new metadata at @offset, before anything names it: it becomes zero and has its space on
 * the disk, as far as the file system gives it. On failure nothing has changed. */
int coroutine_fn qcow2_table_co_secure(BdrvChild *file, uint64_t offset, uint64_t bytes);

#endif
