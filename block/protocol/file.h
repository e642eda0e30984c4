/* SPDX-License-Identifier: MIT */
/* Inside of the file driver: what file*.c share. */
#ifndef PROTOCOL_FILE_H
#define PROTOCOL_FILE_H

#include "block/io.h"
#include "util/co-lock.h"
#include "util/work-lane.h"

typedef enum FileAio { FILE_AIO_THREADS, FILE_AIO_NATIVE, FILE_AIO_URING } FileAio;
typedef enum FileLocking { FILE_LOCKING_AUTO, FILE_LOCKING_ON, FILE_LOCKING_OFF } FileLocking;

typedef struct FileState {
    int fd;
    int lock_fd; /* the descriptor with the locks, after a reopen; -1: fd */
    int end_fd;  /* the same file without O_DIRECT, for an end within a block; -1: none */
    char *filename;
    bool is_block;     /* a block device */
    bool handed_over;  /* the descriptor is the user's choice: no other is opened */
    bool direct;       /* O_DIRECT */
    uint32_t block;    /* ... its requests are whole ones of these; 1 without */
    bool sync_is_fast; /* tmpfs: plain reads and writes never wait for a device */
    FileAio aio;
    FileLocking locking;   /* OFF too once auto has found that there are no locks */
    bool has_locks;        /* one was had */
    unsigned perm, shared; /* whose lock bytes are held */
    uint32_t sector;       /* of a device, which zeroes and discards whole ones; 1: a file */
    /* Learned: what this file system or device does not do (INV-FILE-1). */
    atomic_bool no_nowait_read, no_nowait_write, no_zero_range, no_punch, no_allocate, no_discard;
    atomic_bool no_uring[AIO_OPS];
    WorkLane *lane; /* large buffered writes; NULL with O_DIRECT, and on devices */
    atomic_int
        write_error; /* a failed fdatasync: what was cached may be lost, so it stays failed */
    /* The last data or hole that SEEK_DATA/SEEK_HOLE told. */
    SpinLock extent_lock;
    int64_t extent_start, extent_end;
    bool extent_data, extent_valid;
    unsigned extent_of;     /* extent_gen when the extent above was looked up */
    atomic_uint extent_gen; /* moved by each change of the file */
    CoRwLock length_lock;   /* file-length.c */
    atomic_int_fast64_t known_length;
} FileState;

/* file-io.c */
int coroutine_fn file_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v, unsigned flags);
int coroutine_fn file_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v, unsigned flags);
int coroutine_fn file_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       unsigned flags);
int coroutine_fn file_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes);
int coroutine_fn file_co_flush_to_disk(BlockDriverState *bs);

/* file-status.c */
int coroutine_fn file_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                      int64_t bytes, int64_t *pnum, int64_t *map,
                                      BlockDriverState **file);
int64_t coroutine_fn file_co_getlength(BlockDriverState *bs);
int64_t coroutine_fn file_co_allocated_size(BlockDriverState *bs);
void file_changed(FileState *s);
int64_t file_length_fd(int fd);

/* file-length.c */
void file_length_init(FileState *s);
/* May a write up to @end move the end of the file? */
static inline bool file_extends(FileState *s, int64_t end)
{
    return end > atomic_load_explicit(&s->known_length, memory_order_relaxed);
}
/* Round a request that may: nobody looks at the length and sets it meanwhile. @ret: the
 * request's. */
void coroutine_fn file_co_extend_begin(FileState *s);
void coroutine_fn file_co_extend_end(FileState *s, int64_t end, int ret);
/* The file is @end bytes long at least. */
int coroutine_fn file_co_grow(FileState *s, int64_t end);
/* Round a look at the length and what is done about it to make it @to. */
void coroutine_fn file_co_resize_begin(FileState *s, int64_t to);
void coroutine_fn file_co_resize_end(FileState *s, int64_t to, int ret);

/* file-lock.c */
int file_set_perm(BlockDriverState *bs, unsigned perm, unsigned shared, GError **errp);

/* file-reopen.c */
int coroutine_fn file_co_reopen_prepare(BlockDriverState *bs, Options *o, int flags, void **state,
                                        GError **errp);
void file_reopen_commit(BlockDriverState *bs, void *state);
void file_reopen_abort(BlockDriverState *bs, void *state);

/* file-create.c */
extern const BlockCreateOption file_create_options[];
int file_remove(const char *filename);
int coroutine_fn file_co_create(const char *filename, Options *opts, GError **errp);
extern const BlockCreateOption device_create_options[];
int coroutine_fn device_co_create(const char *filename, Options *opts, GError **errp);
int coroutine_fn file_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                  BlockPrealloc prealloc, unsigned flags, GError **errp);

/* file-limits.c */
int file_probe_alignment(FileState *s, BlockLimits *l);
uint32_t file_sector_size(int fd);
int file_reopen_buffered(int fd, uint32_t block);
/* All that depends on it, once fd has it or not. */
void file_set_direct(FileState *s, bool direct);

#endif
