/* SPDX-License-Identifier: MIT */
/* Creating a file, or taking over one that is there; resizing; both with preallocation. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

const BlockCreateOption file_create_options[] = {
    { "size", BLK_OPT_SIZE, "Virtual disk size", NULL },
    { "preallocation", BLK_OPT_STRING, "Preallocation mode (allowed values: off, falloc, full)",
      NULL },
    { "nocow", BLK_OPT_BOOL, "Turn off copy-on-write (valid only on btrfs)", NULL },
    { "extent_size_hint", BLK_OPT_SIZE, "Extent size hint for the image file, 0 to disable", NULL },
    { NULL }
};

typedef struct ResizeJob {
    int fd;
    int64_t from, to;
    BlockPrealloc prealloc;
    int64_t block; /* O_DIRECT: writes are whole ones of these; else 1 */
} ResizeJob;

static int write_zeroes(int fd, const char *buf, int64_t from, int64_t to)
{
    while (from < to) {
        ssize_t n = pwrite(fd, buf, (size_t)MIN(to - from, MiB), from);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -ENOSPC;
        }
        from += n;
    }
    return 0;
}

/* Zeroes over the new area, which is zero already, for the space under it. With O_DIRECT in whole
 * blocks: the first part may share the old last block, and what is past the end is cut off again.
 */
static int fill_new_area(const ResizeJob *j)
{
    int64_t from = ALIGN_UP(j->from, j->block), to = ALIGN_UP(j->to, j->block);
    char *buf = mem_align_try(MAX((size_t)j->block, 4096), MiB);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, MiB);
    ret = write_zeroes(j->fd, buf, from, to);
    mem_align_free(buf);
    if (ret == 0 && to > j->to && TEMP_FAILURE_RETRY(ftruncate(j->fd, j->to)) < 0) {
        ret = -errno;
    }
    return ret < 0 ? ret : TEMP_FAILURE_RETRY(fsync(j->fd)) < 0 ? -errno : 0;
}

/* Whoever finds out a file's alignment by reading it with O_DIRECT learns nothing from a hole: a
 * file that was empty gets its first block. No matter if it does not. */
static void allocate_first_block(int fd, int64_t size)
{
    static const char zeroes[4096];

    (void)!pwrite(fd, zeroes, size < (int64_t)sizeof(zeroes) ? 512 : sizeof(zeroes), 0);
}

static int resize_job(void *opaque)
{
    ResizeJob *j = opaque;
    int ret = 0;

    if (j->to <= j->from || j->prealloc == BLK_PREALLOC_OFF) {
        ret = TEMP_FAILURE_RETRY(ftruncate(j->fd, j->to)) < 0 ? -errno : 0;
        if (ret == 0 && j->from == 0 && j->to > 0) {
            allocate_first_block(j->fd, j->to);
        }
        return ret;
    }
    if (j->prealloc == BLK_PREALLOC_FALLOC) {
        do {
            ret = -posix_fallocate(j->fd, j->from, j->to - j->from);
        } while (ret == -EINTR);
    } else {
        ret = TEMP_FAILURE_RETRY(ftruncate(j->fd, j->to)) < 0 ? -errno : fill_new_area(j);
    }
    if (ret < 0 && TEMP_FAILURE_RETRY(ftruncate(j->fd, j->from)) < 0) {
        return ret; /* the first error counts */
    }
    return ret;
}

static int resize_device(FileState *s, int64_t bytes, bool exact, BlockPrealloc prealloc,
                         GError **errp)
{
    int64_t length = file_length_fd(s->fd);

    if (length < 0) {
        return error_set_errno(errp, (int)length, "Could not inquire current length");
    }
    if (prealloc != BLK_PREALLOC_OFF) {
        return error_set(errp, ENOTSUP,
                         "Preallocation mode '%s' unsupported for this non-regular file",
                         blk_prealloc_names[prealloc]);
    }
    if (exact && bytes != length) {
        return error_set(errp, ENOTSUP, "Cannot resize device files");
    }
    return bytes > length ? error_set(errp, EINVAL, "Cannot grow device files") : 0;
}

/* With the length locked. */
static int coroutine_fn co_resize_file(FileState *s, int64_t bytes, BlockPrealloc prealloc,
                                       GError **errp)
{
    ResizeJob j = { s->fd, file_length_fd(s->fd), bytes, prealloc, s->block };
    int ret;

    if (j.from < 0) {
        return error_set_errno(errp, (int)j.from, "Could not inquire current length");
    }
    if (bytes < j.from && prealloc != BLK_PREALLOC_OFF) {
        return error_set(errp, ENOTSUP, "Cannot use preallocation for shrinking files");
    }
    ret = prealloc == BLK_PREALLOC_OFF ? resize_job(&j) : co_thread_pool_run(resize_job, &j);
    if (ret < 0) {
        return error_set_errno(errp, ret,
                               prealloc == BLK_PREALLOC_OFF
                                   ? "Could not resize file"
                                   : "Could not preallocate data for the new file");
    }
    return 0;
}

int coroutine_fn file_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                  BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    FileState *s = bs->opaque;
    int ret;

    if (prealloc == BLK_PREALLOC_METADATA) {
        return error_set(errp, ENOTSUP, "Unsupported preallocation mode: metadata");
    }
    if (s->is_block) {
        return resize_device(s, bytes, exact, prealloc, errp);
    }
    file_co_resize_begin(s, bytes);
    ret = co_resize_file(s, bytes, prealloc, errp);
    file_co_resize_end(s, bytes, ret);
    file_changed(s);
    return ret;
}

static void set_attributes(int fd, bool nocow, uint64_t hint)
{
#ifdef FS_NOCOW_FL
    int attr;

    if (nocow && ioctl(fd, FS_IOC_GETFLAGS, &attr) == 0) { /* advice: an error is no error */
        attr |= FS_NOCOW_FL;
        (void)!ioctl(fd, FS_IOC_SETFLAGS, &attr);
    }
#endif
#ifdef FS_IOC_FSSETXATTR
    if (hint) {
        struct fsxattr x;

        if (ioctl(fd, FS_IOC_FSGETXATTR, &x) == 0) {
            x.fsx_xflags |= FS_XFLAG_EXTSIZE;
            x.fsx_extsize = (uint32_t)hint;
            (void)!ioctl(fd, FS_IOC_FSSETXATTR, &x);
        }
    }
#endif
}

int file_remove(const char *filename)
{
    struct stat st;

    if (lstat(filename, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return -ENOTSUP;
    }
    return unlink(filename) < 0 ? -errno : 0;
}

typedef struct NewFile {
    uint64_t size, hint; /* of extents */
    bool nocow;
    int prealloc; /* BlockPrealloc */
} NewFile;

static int take_new_file(Options *opts, NewFile *n, GError **errp)
{
    g_autofree char *prealloc = g_strdup(opts_peek(opts, "preallocation"));

    if (!opts_take_size(opts, "size", 0, &n->size, errp) ||
        !opts_take_bool(opts, "nocow", false, &n->nocow, errp) ||
        !opts_take_size(opts, "extent_size_hint", 0, &n->hint, errp)) {
        return -EINVAL;
    }
    if (!opts_take_enum(opts, "preallocation", blk_prealloc_names, 0, &n->prealloc, NULL)) {
        return error_set(errp, EINVAL, "invalid parameter value: %s", prealloc);
    }
    if (n->prealloc == BLK_PREALLOC_METADATA) {
        return error_set(errp, EINVAL, "Unsupported preallocation mode: metadata");
    }
    return 0;
}

/* *@made: nothing was there, not even a link that leads nowhere. */
static int open_to_create(const char *filename, bool *made)
{
    int fd = TEMP_FAILURE_RETRY(open(filename, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));

    *made = fd >= 0;
    return fd >= 0 || errno != EEXIST
               ? fd
               : TEMP_FAILURE_RETRY(open(filename, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
}

static int coroutine_fn co_fill_new(int fd, const char *filename, const NewFile *n, GError **errp)
{
    FileState probe = { .lock_fd = -1,
                        .fd = fd,
                        .filename = (char *)filename,
                        .locking = FILE_LOCKING_AUTO,
                        .shared = BLK_PERM_ALL };
    BlockDriverState lock_node = { .opaque = &probe };
    ResizeJob j = { fd, 0, (int64_t)n->size, (BlockPrealloc)n->prealloc, 1 };
    /* Nobody else may be using it: look before it is cut off. */
    int ret = file_set_perm(&lock_node, BLK_PERM_WRITE | BLK_PERM_RESIZE,
                            BLK_PERM_ALL & ~(unsigned)BLK_PERM_RESIZE, errp);

    if (ret < 0) {
        return ret;
    }
    if (TEMP_FAILURE_RETRY(ftruncate(fd, 0)) < 0) {
        return error_set_errno(errp, errno, "Could not create '%s': Could not clear it", filename);
    }
    set_attributes(fd, n->nocow, n->hint ? n->hint : MiB);
    ret = n->prealloc == BLK_PREALLOC_OFF ? resize_job(&j) : co_thread_pool_run(resize_job, &j);
    return ret < 0 ? error_set_errno(errp, ret,
                                     n->prealloc == BLK_PREALLOC_OFF
                                         ? "Could not resize file"
                                         : "Could not preallocate data for the new file")
                   : 0;
}

int coroutine_fn file_co_create(const char *filename, Options *opts, GError **errp)
{
    NewFile n;
    bool made;
    int ret = take_new_file(opts, &n, errp), fd;

    if (ret < 0) {
        return ret;
    }
    fd = open_to_create(filename, &made);
    if (fd < 0) {
        return error_set_errno(errp, errno, "Could not create '%s'", filename);
    }
    ret = co_fill_new(fd, filename, &n, errp);
    if (close(fd) < 0 && errno != EINTR && ret == 0) {
        ret = error_set_errno(errp, errno, "Could not close the new file");
    }
    if (ret < 0 && made) {
        (void)unlink(filename); /* the error that is told counts */
    }
    return ret < 0 ? ret : made;
}

/* ---- Devices: they are there, so that creating is a check of their length and the end of what
 * they held ---- */

const BlockCreateOption device_create_options[] = {
    { "size", BLK_OPT_SIZE, "Virtual disk size", NULL }, { NULL }
};

/* What the reference says before the reason. */
#define NO_NEW_DEVICE                                                                              \
    "Protocol driver 'host_device' does not support creating new images, so an existing image "    \
    "must be selected as the target; however, opening the given target as an existing image "      \
    "failed: "

static int check_device(int fd, const char *filename, uint64_t size, GError **errp)
{
    struct stat st;
    int64_t length;

    if (fstat(fd, &st) < 0) {
        return error_set_errno(errp, errno, "Could not inquire '%s'", filename);
    }
    if (!S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode)) {
        return error_set(
            errp, EINVAL,
            NO_NEW_DEVICE
            "'host_device' driver requires '%s' to be either a character or block device",
            filename);
    }
    length = file_length_fd(fd);
    if (length < 0) {
        return error_set_errno(errp, (int)length, "Could not inquire the length of '%s'", filename);
    }
    return size > (uint64_t)length ? error_set(errp, EINVAL, "Cannot grow device files") : 0;
}

/* No format may be found at its beginning any more. */
static int clear_start(int fd, GError **errp)
{
    static const char zeroes[512];
    ssize_t n;

    do {
        n = pwrite(fd, zeroes, sizeof(zeroes), 0);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(zeroes) || TEMP_FAILURE_RETRY(fsync(fd)) < 0) {
        return error_set_errno(errp, n < 0 ? errno : EIO,
                               "Failed to clear the new image's first sector");
    }
    return 0;
}

int coroutine_fn device_co_create(const char *filename, Options *opts, GError **errp)
{
    FileState probe = { .lock_fd = -1, .locking = FILE_LOCKING_AUTO, .shared = BLK_PERM_ALL };
    BlockDriverState lock_node = { .opaque = &probe };
    uint64_t size;
    int fd, ret;

    if (!opts_take_size(opts, "size", 0, &size, errp)) {
        return -EINVAL;
    }
    fd = TEMP_FAILURE_RETRY(open(filename, O_RDWR | O_CLOEXEC));
    if (fd < 0) {
        return error_set_errno(errp, errno, NO_NEW_DEVICE "Could not open '%s'", filename);
    }
    probe.fd = fd;
    probe.filename = (char *)filename;
    ret = file_set_perm(&lock_node, BLK_PERM_WRITE | BLK_PERM_RESIZE,
                        BLK_PERM_ALL & ~(unsigned)BLK_PERM_RESIZE, errp);
    ret = ret < 0 ? ret : check_device(fd, filename, size, errp);
    ret = ret < 0 ? ret : clear_start(fd, errp);
    if (close(fd) < 0 && ret == 0) {
        ret = error_set_errno(errp, errno, "Could not close '%s'", filename);
    }
    return ret;
}
