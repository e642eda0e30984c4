/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing a file.  Small buffered requests are one system call in the caller's thread:
 * with RWF_NOWAIT, so that only what is in the page cache is done there; on tmpfs, plain.  What
 * would wait, what is large (so that several processors copy), and O_DIRECT go to io_uring or a
 * thread.  Large buffered writes go through one lane: file systems let one into a file at a time.
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
    bool write;
    int64_t offset, bytes;
    const struct iovec *iov;
    int niov;
    unsigned flags;
    int mode; /* of fallocate */
} FileJob;

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
    if (n < 0 && flags && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EPERM)) {
        atomic_store(refused, true);
        return -EAGAIN;
    }
    return rw_errno(n);
}

static int rw_job(void *opaque)
{
    FileJob *j = opaque;
    ssize_t n;

    do {
        n = j->write ? pwritev(j->s->fd, j->iov, j->niov, j->offset)
                     : preadv(j->s->fd, j->iov, j->niov, j->offset);
    } while (n < 0 && errno == EINTR);
    return rw_errno(n);
}

/* One request that may wait; bytes done or -errno. */
static ssize_t coroutine_fn co_rw_once(FileState *s, bool write, IOVector *v, int64_t offset)
{
    FileJob j = { .s = s, .write = write, .offset = offset, .iov = v->iov, .niov = v->niov };

    if (write && s->lane && v->size >= LANE_MIN) {
        return work_lane_co_run(s->lane, rw_job, &j);
    }
    if (s->aio != FILE_AIO_THREADS &&
        !atomic_load_explicit(&s->uring_refused, memory_order_relaxed)) {
        /* Buffered writes and large copies would otherwise be done in this thread at submission. */
        bool async = !s->direct && (v->size > INLINE_MAX || write);
        ssize_t n = aio_uring_co_rw(write ? AIO_OP_WRITE : AIO_OP_READ, s->fd, v->iov, v->niov,
                                    offset, async);

        if (n != -ENOSYS && n != -EOPNOTSUPP) {
            return n;
        }
        atomic_store(&s->uring_refused, true);
    }
    return co_thread_pool_run(rw_job, &j);
}

/* The rest of a request of which @done bytes are there. */
static int coroutine_fn co_rw_rest(FileState *s, bool write, IOVector *v, int64_t offset,
                                   size_t done)
{
    while (done < v->size) {
        IOVector rest;
        ssize_t n;
        int ret = iov_init_slice(&rest, v, done, v->size - done);

        if (ret < 0) {
            return ret;
        }
        n = co_rw_once(s, write, &rest, offset + (int64_t)done);
        iov_clear(&rest);
        if (n == -EINTR || n == -EAGAIN) {
            continue;
        }
        if (n < 0) {
            return (int)n;
        }
        if (n == 0) {
            if (write) {
                return -ENOSPC;
            }
            iov_memset(v, done, 0, v->size - done); /* behind the end of the file */
            return 0;
        }
        done += (size_t)n;
    }
    return 0;
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
    ssize_t n;

    if (is_inline(s, write, v)) {
        n = try_inline(s, write, v, offset);
        if (likely(n == (ssize_t)v->size)) {
            return 0;
        }
        if (n < 0 && n != -EAGAIN) {
            return (int)n;
        }
        return co_rw_rest(s, write, v, offset, n > 0 ? (size_t)n : 0);
    }
    n = co_rw_once(s, write, v, offset);
    if (likely(n == (ssize_t)v->size)) {
        return 0;
    }
    if (n < 0 && n != -EINTR && n != -EAGAIN) {
        return (int)n;
    }
    if (n == 0 && write) {
        return -ENOSPC;
    }
    return co_rw_rest(s, write, v, offset, n > 0 ? (size_t)n : 0);
}

int coroutine_fn file_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v, unsigned flags)
{
    return co_rw(bs->opaque, false, v, offset);
}

int coroutine_fn file_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v, unsigned flags)
{
    FileState *s = bs->opaque;
    int ret = co_rw(s, true, v, offset);

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

static int coroutine_fn co_falloc(FileState *s, int mode, int64_t offset, int64_t bytes)
{
    FileJob j = { .s = s, .mode = mode, .offset = offset, .bytes = bytes };
    int ret = s->sync_is_fast ? falloc_job(&j) : co_thread_pool_run(falloc_job, &j);

    return ret == -ENOSYS || ret == -EINVAL || ret == -EPERM ? -ENOTSUP : ret;
}

static int ioctl_job(void *opaque)
{
    FileJob *j = opaque;
    uint64_t range[2] = { (uint64_t)j->offset, (uint64_t)j->bytes };

    return ioctl(j->s->fd, (unsigned long)j->mode, range) < 0 ? -errno : 0;
}

static int coroutine_fn co_block_ioctl(FileState *s, int request, int64_t offset, int64_t bytes)
{
    FileJob j = { .s = s, .mode = request, .offset = offset, .bytes = bytes };
    int ret = co_thread_pool_run(ioctl_job, &j);

    return ret == -ENOTTY || ret == -EINVAL || ret == -EOPNOTSUPP ? -ENOTSUP : ret;
}

/* Make a range zero with the cheapest call that the file system has. */
static int coroutine_fn co_zero_file(FileState *s, int64_t offset, int64_t bytes, unsigned flags)
{
    int ret = -ENOTSUP;

    if ((flags & BLK_REQ_MAY_UNMAP) && !atomic_load(&s->no_punch)) {
        int64_t end = offset + bytes;

        ret = co_falloc(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
        if (ret == 0 && end > file_length_fd(s->fd) && ftruncate(s->fd, end) < 0) {
            ret = -errno;
        }
        if (ret != -ENOTSUP) {
            return ret;
        }
        atomic_store(&s->no_punch, true);
    }
    if (!atomic_load(&s->no_zero_range)) {
        ret = co_falloc(s, FALLOC_FL_ZERO_RANGE, offset, bytes);
        if (ret != -ENOTSUP) {
            return ret;
        }
        atomic_store(&s->no_zero_range, true);
    }
    if (!atomic_load(&s->no_punch) && offset + bytes <= file_length_fd(s->fd)) {
        /* The same in two steps: give the blocks back, take new ones. */
        ret = co_falloc(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
        if (ret == 0) {
            ret = co_falloc(s, 0, offset, bytes);
        }
        if (ret == -ENOTSUP) {
            atomic_store(&s->no_punch, true);
        }
        return ret;
    }
    if (offset >= file_length_fd(s->fd)) {
        return co_falloc(s, 0, offset, bytes);
    }
    return -ENOTSUP;
}

int coroutine_fn file_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       unsigned flags)
{
    FileState *s = bs->opaque;
    int ret;

    ret = s->is_block ? co_block_ioctl(s, (int)BLKZEROOUT, offset, bytes)
                      : co_zero_file(s, offset, bytes, flags);
    file_changed(s);
    return ret;
}

int coroutine_fn file_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    FileState *s = bs->opaque;
    int ret;

    if (atomic_load(&s->no_discard)) {
        return -ENOTSUP;
    }
    if (s->is_block) {
        ret = co_block_ioctl(s, (int)BLKDISCARD, offset, bytes);
    } else {
        ret = co_falloc(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
    }
    if (ret == -ENOTSUP) {
        atomic_store(&s->no_discard, true);
    }
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
        ret = -ENOSYS;
        if (s->aio != FILE_AIO_THREADS && !atomic_load(&s->uring_refused)) {
            ret = (int)aio_uring_co_rw(AIO_OP_FDATASYNC, s->fd, NULL, 0, 0, false);
        }
        if (ret == -ENOSYS || ret == -EOPNOTSUPP) {
            ret = co_thread_pool_run(sync_job, &j);
        }
    }
    if (ret < 0) {
        /* The kernel reports a lost page once only. */
        atomic_store(&s->write_error, ret);
    }
    return ret;
}
