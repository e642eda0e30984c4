/* SPDX-License-Identifier: MIT */
/* Files in memory, sparse, and the protocol driver "fuzz-mem" on them: its option "id" says
 * which. */
#ifndef FUZZ_MEM_H
#define FUZZ_MEM_H

#include "block/common.h"

#define MEM_FILES 3

typedef struct MemFile {
    GHashTable *pages; /* page index -> 4 KiB; what is not there reads zero */
    uint64_t length;
    guint max_pages;     /* a write that needs more: -ENOSPC */
    unsigned fail_write; /* the n-th write from now on: -EIO; 0: none */
} MemFile;

MemFile *mem_file_new(uint64_t length);
void mem_file_free(MemFile *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MemFile, mem_file_free)
void mem_file_read(const MemFile *f, uint64_t offset, void *buf, size_t n);
int mem_file_write(MemFile *f, uint64_t offset, const void *buf, size_t n);

/* "fuzz-mem" with id=@id is @f (not owned) from now on; NULL: opening it fails. */
void mem_driver_set(unsigned id, MemFile *f);
void mem_driver_register(void);

#endif
