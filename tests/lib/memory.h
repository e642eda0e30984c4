/* SPDX-License-Identifier: MIT */
/*
 * The one protocol driver in memory of all tests.  What a test keeps its bytes in (a buffer, pages
 * that copies share, a sparse file) and what it does to requests (count, delay, fail them) is a
 * MemoryStore; memory_register() makes a driver of it.
 */
#ifndef TESTS_LIB_MEMORY_H
#define TESTS_LIB_MEMORY_H

#include "block/io.h"

typedef enum MemoryOp {
    MEMORY_READ = 1 << 0,
    MEMORY_WRITE = 1 << 1,
    MEMORY_ZERO = 1 << 2,
    MEMORY_DISCARD = 1 << 3,
    MEMORY_FLUSH = 1 << 4,
    MEMORY_TRUNCATE = 1 << 5,
} MemoryOp;

/* What is NULL is not there, or has nothing to do. @file: what open() gave. */
typedef struct MemoryStore {
    const char *name; /* of the driver and its protocol */
    bool (*parse_filename)(const char *filename, Options *o, GError **errp);
    const char *const *strong_options;
    bool tells_size; /* all of it takes space on the host; else nobody knows */
    bool (*unwritten_reads_zero)(BlockDriverState *bs);

    /* Takes its options. */
    int coroutine_fn (*open)(BlockDriverState *bs, Options *o, void **file, GError **errp);
    int (*close)(void *file);
    int coroutine_fn (*create)(const char *filename, uint64_t size, GError **errp);
    void (*limits)(void *file, BlockLimits *l);
    int (*set_perm)(void *file, unsigned perm, unsigned shared);

    /* Round each operation. begin: 0, or why it fails; *@torn: a write that fails stores its first
     * part all the same. */
    int coroutine_fn (*begin)(void *file, MemoryOp op, int64_t offset, int64_t bytes, bool *torn);
    int coroutine_fn (*end)(void *file, MemoryOp op, int ret);

    void (*read)(void *file, int64_t offset, IOVector *v);
    /* The first @bytes of @v (NULL: zeroes). */
    int (*write)(void *file, int64_t offset, const IOVector *v, int64_t bytes);
    int (*zero)(void *file, int64_t offset, int64_t bytes);
    void (*discard)(void *file, int64_t offset, int64_t bytes);
    void (*sync)(void *file, bool failed);
    /* BlockStatus bits of *@bytes from @offset on. */
    int (*status)(void *file, int64_t offset, int64_t *bytes);
    int64_t (*length)(void *file);
    int (*resize)(void *file, int64_t bytes, GError **errp);
} MemoryStore;

/* @store lives as long as the process. */
void memory_register(const MemoryStore *store);
/* What open() gave for the node @bs. */
void *memory_file(BlockDriverState *bs);

/* Where a write of @bytes at @offset is torn: in whole sectors of the file, about in its middle. */
int64_t memory_torn_bytes(int64_t offset, int64_t bytes);

#endif
