/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing a file.  Small buffered requests are one system call in the caller's thread:
 * with RWF_NOWAIT, so that only what is in the page cache is done there; on tmpfs, plain.  What
 * would wait, what is large (so that several processors copy), and O_DIRECT go to io_uring or a
 * thread.  Large buffered writes go through one lane: file systems let one into a file at a time.
 *
 * INV-FILE-1  A call is given up for good only when its error says that it is not to be had for
 *             this file (call_is_missing()). Every other error is about one request: its alignment,
 *             a moment without memory, a sandbox's rule, an io_uring of one thread.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define INLINE_MAX (64 * KiB)
#define LANE_MIN                                                                                   \
    (32 * KiB) /* copying this takes longer than waking a thread: in the lane if that pays */

typedef struct FileJob {
    FileState *s;
    int fd; /* of a transfer */
    bool write;
    int64_t offset, bytes;
    const struct iovec *iov;
    int niov;
    unsigned flags;
    int mode; /* of fallocate */
} FileJob;

static bool call_is_missing(int err)
{
    return err == EOPNOTSUPP || err == ENOSYS || err == ENOTTY || err == ENODEV;
}

/* What a call ended with that is one way of several: -ENOTSUP where another is to be tried.  Learns
 * whether it is ever worth to be asked again. */
static int learn(int ret, atomic_bool *missing)
{
    if (call_is_missing(-ret)) {
        atomic_store(missing, true);
        return -ENOTSUP;
    }
    return ret == -EINVAL || ret == -EPERM ? -ENOTSUP : ret;
}

static int rw_errno(ssize_t n)
{
    return n < 0 ? -errno : (int)n;
}

/* One try in this thread; bytes done or -errno, -EAGAIN where it would wait. */
static ssize_t try_inline(FileState *s, bool write, IOVector *v, int64_t offset)
{
    atomic_bool *refused = write ? &s->no_nowait_write : &s->no_nowait_read;
    int flags = s->sync_is_fast ? 0 : RWF_NOWAIT;
    ssize_t n;

    if (flags && atomic_load_explicit(refused, memory_order_relaxed)) {
        return -EAGAIN;
    }
    if (!flags && v->niov == 1) {
        n = write ? pwrite(s->fd, v->iov[0].iov_base, v->iov[0].iov_len, offset)
                  : pread(s->fd, v->iov[0].iov_base, v->iov[0].iov_len, offset);
    } else if (!flags) {
        n = write ? pwritev(s->fd, v->iov, v->niov, offset)
                  : preadv(s->fd, v->iov, v->niov, offset);
    } else {
        n = write ? pwritev2(s->fd, v->iov, v->niov, offset, flags)
                  : preadv2(s->fd, v->iov, v->niov, offset, flags);
    }
    if (n < 0 && errno == EINTR) {
        return -EAGAIN;
    }
    if (n < 0 && flags && learn(-errno, refused) == -ENOTSUP) {
        return -EAGAIN; /* without the flag, from where it may wait */
    }
    return rw_errno(n);
}

static int rw_job(void *opaque)
{
    FileJob *j = opaque;
    ssize_t n;

    do {
        n = j->write ? pwritev(j->fd, j->iov, j->niov, j->offset)
                     : preadv(j->fd, j->iov, j->niov, j->offset);
    } while (n < 0 && errno == EINTR);
    return rw_errno(n);
}

/* By io_uring; -ENOSYS: it did not do it, a thread is to. */
static ssize_t coroutine_fn co_uring(FileState *s, AioOp op, IOVector *v, int64_t offset,
                                     bool force_async)
{
    ssize_t n;

    if (s->aio == FILE_AIO_THREADS ||
        atomic_load_explicit(&s->no_uring[op], memory_order_relaxed)) {
        return -ENOSYS;
    }
    n = aio_uring_co_rw(op, s->fd, v ? v->iov : NULL, v ? v->niov : 0, offset, force_async);
    switch (n) {
    case -EOPNOTSUPP:
        atomic_store(&s->no_uring[op], true);
        return -ENOSYS;
    case -EINTR:
    case -EAGAIN:
    case -ECANCELED: /* it never began */
        return -ENOSYS;
    default:
        return n;
    }
}

/* One request that may wait; bytes done or -errno. */
static ssize_t coroutine_fn co_rw_once(FileState *s, bool write, IOVector *v, int64_t offset)
{
    FileJob j = {
        .s = s, .fd = s->fd, .write = write, .offset = offset, .iov = v->iov, .niov = v->niov
    };
    bool async;
    ssize_t n;

    if (write && s->lane && v->size >= LANE_MIN) {
        return work_lane_co_run(s->lane, rw_job, &j);
    }
    /* Buffered writes and large copies would otherwise be done in this thread at submission. */
    async = !s->direct && (v->size > INLINE_MAX || write);
    n = co_uring(s, write ? AIO_OP_WRITE : AIO_OP_READ, v, offset, async);
    if (n != -ENOSYS) {
        return n;
    }
    return co_thread_pool_run(rw_job, &j);
}

/* Did a read from @pos that gave @n bytes meet the end of the file?  With O_DIRECT one that ended
 * within a block did, unless the file has grown since. */
static bool met_end(FileState *s, int64_t pos, ssize_t n)
{
    return n == 0 ||
           (n > 0 && !IS_ALIGNED((size_t)n, (size_t)s->block) && pos + n >= file_length_fd(s->fd));
}

/* The rest of a request whose first try gave @n. */
static int coroutine_fn co_rw_rest(FileState *s, bool write, IOVector *v, int64_t offset, ssize_t n)
{
    size_t done = 0;

    g_assert(v->size > 0);
    for (;;) {
        IOVector rest;
        int ret;

        if (n < 0 && n != -EINTR && n != -EAGAIN) {
            return (int)n;
        }
        if (!write && met_end(s, offset + (int64_t)done, n)) {
            done += (size_t)n;
            iov_memset(v, done, 0, v->size - done);
            return 0;
        }
        if (n == 0) {
            return -ENOSPC;
        }
        done +=
            n > 0 ? ALIGN_DOWN((size_t)n, (size_t)s->block) : 0; /* O_DIRECT goes on at a block */
        g_assert(done <= v->size);
        if (done == v->size) {
            return 0;
        }
        ret = iov_init_slice(&rest, v, done, v->size - done);
        if (ret < 0) {
            return ret;
        }
        n = co_rw_once(s, write, &rest, offset + (int64_t)done);
        iov_clear(&rest);
    }
}

static bool is_inline(FileState *s, bool write, const IOVector *v)
{
    if (write && v->size >= LANE_MIN && s->lane && work_lane_pays(s->lane)) {
        return false;
    }
    return !s->direct && v->size <= INLINE_MAX;
}

static int coroutine_fn co_rw(FileState *s, bool write, IOVector *v, int64_t offset)
{
    ssize_t n =
        is_inline(s, write, v) ? try_inline(s, write, v, offset) : co_rw_once(s, write, v, offset);

    return likely(n == (ssize_t)v->size) ? 0 : co_rw_rest(s, write, v, offset, n);
}

/* Bytes [pos, v->size) of @v to the end of the file, which is within a block: not with O_DIRECT. */
static int coroutine_fn co_write_end(FileState *s, IOVector *v, size_t pos, int64_t offset)
{
    g_assert(s->end_fd >= 0 || pos == v->size);
    while (pos < v->size) {
        IOVector end;
        FileJob j = { .s = s, .fd = s->end_fd, .write = true, .offset = offset + (int64_t)pos };
        int ret = iov_init_slice(&end, v, pos, v->size - pos);

        if (ret < 0) {
            return ret;
        }
        j.iov = end.iov;
        j.niov = end.niov;
        ret = co_thread_pool_run(rw_job, &j);
        iov_clear(&end);
        if (ret <= 0) {
            return ret < 0 ? ret : -ENOSPC;
        }
        pos += (size_t)ret;
    }
    return 0;
}

static int coroutine_fn co_write(FileState *s, IOVector *v, int64_t offset)
{
    size_t whole = ALIGN_DOWN(v->size, (size_t)s->block);
    IOVector blocks;
    int ret;

    if (likely(whole == v->size)) {
        return co_rw(s, true, v, offset);
    }
    if (whole > 0) {
        ret = iov_init_slice(&blocks, v, 0, whole);
        if (ret < 0) {
            return ret;
        }
        ret = co_rw(s, true, &blocks, offset);
        iov_clear(&blocks);
        if (ret < 0) {
            return ret;
        }
    }
    return co_write_end(s, v, whole, offset);
}

/* The gate has seen to that; a write may end within a block where the file does. */
static bool is_aligned(BlockDriverState *bs, int64_t offset)
{
    return IS_ALIGNED(offset, (int64_t)bs->limits.request_alignment);
}

int coroutine_fn file_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v, unsigned flags)
{
    g_assert(is_aligned(bs, offset));
    return co_rw(bs->opaque, false, v, offset);
}

int coroutine_fn file_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v, unsigned flags)
{
    FileState *s = bs->opaque;
    int64_t end = offset + (int64_t)v->size;
    int ret;

    g_assert(is_aligned(bs, offset));
    if (unlikely(file_extends(s, end))) {
        file_co_extend_begin(s);
        ret = co_write(s, v, offset);
        file_co_extend_end(s, end, ret);
    } else {
        ret = co_write(s, v, offset);
    }
    file_changed(s);
    return ret;
}

/* ---- Zeroes and discard ---- */

static int falloc_job(void *opaque)
{
    FileJob *j = opaque;
    int ret;

    do {
        ret = fallocate(j->s->fd, j->mode, j->offset, j->bytes);
    } while (ret < 0 && errno == EINTR);
    return ret < 0 ? -errno : 0;
}

static int coroutine_fn co_falloc(FileState *s, int mode, atomic_bool *missing, int64_t offset,
                                  int64_t bytes)
{
    FileJob j = { .s = s, .mode = mode, .offset = offset, .bytes = bytes };

    if (atomic_load(missing)) {
        return -ENOTSUP;
    }
    return learn(s->sync_is_fast ? falloc_job(&j) : co_thread_pool_run(falloc_job, &j), missing);
}

static int coroutine_fn co_punch(FileState *s, int64_t offset, int64_t bytes)
{
    return co_falloc(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, &s->no_punch, offset, bytes);
}

static int coroutine_fn co_allocate(FileState *s, int64_t offset, int64_t bytes)
{
    return co_falloc(s, 0, &s->no_allocate, offset, bytes);
}

static int ioctl_job(void *opaque)
{
    FileJob *j = opaque;
    uint64_t range[2] = { (uint64_t)j->offset, (uint64_t)j->bytes };
    int ret;

    do {
        ret = ioctl(j->s->fd, (unsigned long)j->mode, range);
    } while (ret < 0 && errno == EINTR);
    return ret < 0 ? -errno : 0;
}

static int coroutine_fn co_block_ioctl(FileState *s, int request, atomic_bool *missing,
                                       int64_t offset, int64_t bytes)
{
    FileJob j = { .s = s, .mode = request, .offset = offset, .bytes = bytes };

    if (atomic_load(missing)) {
        return -ENOTSUP;
    }
    return learn(co_thread_pool_run(ioctl_job, &j), missing);
}

/* Make a range zero with the cheapest call that the file system has. */
static int coroutine_fn co_zero_file(FileState *s, int64_t offset, int64_t bytes, unsigned flags)
{
    int ret;

    if (flags & BLK_REQ_MAY_UNMAP) {
        ret = co_punch(s, offset, bytes);
        ret = ret < 0 ? ret : file_co_grow(s, offset + bytes);
        if (ret != -ENOTSUP) {
            return ret;
        }
    }
    ret = co_falloc(s, FALLOC_FL_ZERO_RANGE, &s->no_zero_range, offset, bytes);
    if (ret != -ENOTSUP) {
        return ret;
    }
    if (offset >= file_length_fd(s->fd)) {
        return co_allocate(s, offset, bytes);
    }
    if (atomic_load(&s->no_allocate) || offset + bytes > file_length_fd(s->fd)) {
        return -ENOTSUP;
    }
    /* The same in two steps: give the blocks back, take new ones. */
    ret = co_punch(s, offset, bytes);
    return ret < 0 ? ret : co_allocate(s, offset, bytes);
}

/* A device's zeroes: BLKZEROOUT keeps the space, and writes where the device cannot do it by
 * itself; a punched hole is zeroes that the device makes, with or without space, or none. */
static int coroutine_fn co_zero_device(FileState *s, int64_t offset, int64_t bytes, unsigned flags)
{
    int ret;

    if (!IS_ALIGNED(offset | bytes, (int64_t)s->sector)) {
        return -ENOTSUP;
    }
    if (flags & BLK_REQ_MAY_UNMAP) {
        ret = co_punch(s, offset, bytes);
        if (ret != -ENOTSUP) {
            return ret;
        }
    }
    if (flags & BLK_REQ_NO_FALLBACK) {
        return -ENOTSUP;
    }
    return co_block_ioctl(s, (int)BLKZEROOUT, &s->no_zero_range, offset, bytes);
}

int coroutine_fn file_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       unsigned flags)
{
    FileState *s = bs->opaque;
    int ret;

    g_assert(offset >= 0 && bytes > 0);
    ret = s->is_block ? co_zero_device(s, offset, bytes, flags)
                      : co_zero_file(s, offset, bytes, flags);
    file_changed(s);
    return ret;
}

/* Whole sectors only: what is left of others is left as it is. */
static int coroutine_fn co_discard_device(FileState *s, int64_t offset, int64_t bytes)
{
    int64_t start = ALIGN_UP(offset, (int64_t)s->sector);
    int64_t end = ALIGN_DOWN(offset + bytes, (int64_t)s->sector);

    return start < end ? co_block_ioctl(s, (int)BLKDISCARD, &s->no_discard, start, end - start) : 0;
}

int coroutine_fn file_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    FileState *s = bs->opaque;
    int ret = s->is_block ? co_discard_device(s, offset, bytes) : co_punch(s, offset, bytes);

    g_assert(offset >= 0 && bytes > 0);
    file_changed(s);
    return ret;
}

/* ---- Flush ---- */

static int sync_job(void *opaque)
{
    FileJob *j = opaque;
    int ret;

    do {
        ret = fdatasync(j->s->fd);
    } while (ret < 0 && errno == EINTR);
    return ret < 0 ? -errno : 0;
}

int coroutine_fn file_co_flush_to_disk(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    FileJob j = { .s = s };
    int ret = atomic_load(&s->write_error);

    if (ret < 0) {
        return ret;
    }
    if (s->sync_is_fast) {
        ret = sync_job(&j);
    } else {
        ret = (int)co_uring(s, AIO_OP_FDATASYNC, NULL, 0, false);
        if (ret == -ENOSYS) {
            ret = co_thread_pool_run(sync_job, &j);
        }
    }
    if (ret < 0) {
        /* The kernel reports a lost page once only. */
        atomic_store(&s->write_error, ret);
    }
    return ret;
}
