/* SPDX-License-Identifier: MIT */
/*
 * Files in memory: maps of pages that copies share until they are written (crash-mem, the protocol
 * below the images of the explorer).  One thread.
 *
 * INV-MEM-1  Bytes behind the size are zero in every page.
 * INV-MEM-2  A page with more than one reference is not changed.
 */
#ifndef CRASH_MEM_H
#define CRASH_MEM_H

#include "util/compiler.h"

#define MEM_PAGE 4096

typedef struct MemPage {
    unsigned refs;
    bool hashed;
    uint64_t hash;
    uint8_t data[MEM_PAGE];
} MemPage;

typedef struct MemFile {
    uint64_t size;
    bool device;   /* its size is fixed, and what nobody wrote is anything */
    size_t npages; /* of the array; a NULL page is a hole */
    MemPage **pages;
} MemFile;

void mem_clear(MemFile *f);                      /* empty; frees all */
void mem_copy(MemFile *dst, const MemFile *src); /* dst is cleared first */
void mem_read(const MemFile *f, uint64_t offset, void *buf, size_t len);
void mem_write(MemFile *f, uint64_t offset, const void *buf, size_t len); /* NULL: zeroes */
void mem_zero(MemFile *f, uint64_t offset, uint64_t len, bool grow);
void mem_resize(MemFile *f, uint64_t size); /* (but a device) */
/* A device that was used for something else. */
void mem_make_device(MemFile *f, uint64_t size);
/* Equal content has equal hashes, whatever way it came about. */
uint64_t mem_hash(MemFile *f);
bool mem_save(const MemFile *f, const char *path);

static inline uint64_t mix64(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Files by name, for the driver: "crash-mem:NAME", or the option "name". */
MemFile *mem_named(const char *name); /* made empty on first use */
void mem_register(void);

#endif
