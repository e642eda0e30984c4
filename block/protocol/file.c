/* SPDX-License-Identifier: MIT */
/* The file driver: regular files ("file") and block devices ("host_device"): open, close,
 * tables. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const aio_names[] = { "threads", "native", "io_uring", NULL };
static const char *const locking_names[] = { "auto", "on", "off", NULL };

/* The reference says it so for options of open. */
static bool take_enum(Options *o, const char *key, const char *const *names, int def, int *ret,
                      GError **errp)
{
    g_autofree char *v = g_strdup(opts_peek(o, key));

    if (!opts_take_enum(o, key, names, def, ret, NULL)) {
        error_set(errp, EINVAL, "invalid parameter value: %s", v);
        return false;
    }
    return true;
}

/* What the user of the root said for all files, or the best there is. */
static FileAio default_aio(int flags)
{
    return flags & BLK_O_AIO_THREADS  ? FILE_AIO_THREADS
           : flags & BLK_O_AIO_NATIVE ? FILE_AIO_NATIVE
                                      : FILE_AIO_URING;
}

/* A user who asks for io_uring by name is told when it cannot be had; one who leaves the choice to
 * us gets what there is. */
static char *warning_of_uring(void)
{
    int err = aio_uring_error(aio_current());

    return err == 0 ? NULL
                    : g_strdup_printf("Unable to use linux io_uring, falling back to thread pool: "
                                      "failed to init linux io_uring ring: %s",
                                      g_strerror(-err));
}

static bool take_options(FileState *s, Options *o, int flags, GError **errp)
{
    g_autofree char *pr_manager = opts_take_str(o, "pr-manager");
    int aio, locking;
    bool drop;

    s->filename = opts_take_str(o, "filename");
    if (!s->filename || !*s->filename) {
        error_set(errp, EINVAL, "The 'file' block driver requires a file name");
        return false;
    }
    if (!take_enum(o, "aio", aio_names, default_aio(flags), &aio, errp) ||
        !take_enum(o, "locking", locking_names, 0, &locking, errp)) {
        return false;
    }
    /* What they ask for is done when an image is taken over from another program, which is not done
     * here. */
    if (!opts_take_bool(o, "x-check-cache-dropped", false, &drop, errp) ||
        !opts_take_bool(o, "drop-cache", true, &drop, errp)) {
        return false;
    }
    if (pr_manager) {
        error_set(errp, EINVAL, "No persistent reservation manager with id '%s'", pr_manager);
        return false;
    }
    if (aio == FILE_AIO_NATIVE && !s->direct) {
        error_set(errp, EINVAL,
                  "aio=native was specified, but it requires cache.direct=on, "
                  "which was not specified.");
        return false;
    }
    s->aio = (FileAio)aio;
    s->locking = (FileLocking)locking;
    return true;
}

/* Refuse what is neither; opening a FIFO would wait for its other end. */
static int check_kind(FileState *s, const char *driver, bool want_block, int flags, GError **errp)
{
    bool writable = flags & BLK_O_RDWR;
    struct stat st;
    int ret;

    if (s->fd >= 0) {
        ret = fstat(s->fd, &st);
    } else {
        ret = flags & BLK_O_NO_LINKS ? lstat(s->filename, &st) : stat(s->filename, &st);
    }
    if (ret < 0) {
        return error_set_errno(errp, errno, "Could not open '%s'", s->filename);
    }
    s->is_block = S_ISBLK(st.st_mode);
    if (S_ISDIR(st.st_mode) && writable) {
        return error_set_errno(errp, EISDIR, "Could not open '%s'", s->filename);
    }
    if (want_block && !S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode)) {
        return error_set(errp, EINVAL,
                         "'%s' driver requires '%s' to be either a character or block device",
                         driver, s->filename);
    }
    if (!want_block && !S_ISREG(st.st_mode)) {
        return error_set(errp, EINVAL, "'%s' driver requires '%s' to be a regular file", driver,
                         s->filename);
    }
    return 0;
}

static int open_fd(BlockDriverState *bs, FileState *s, int flags, GError **errp)
{
    int mode = O_CLOEXEC | (flags & BLK_O_RDWR ? O_RDWR : O_RDONLY) |
               (flags & BLK_O_NOCACHE ? O_DIRECT : 0) | (flags & BLK_O_NO_LINKS ? O_NOFOLLOW : 0);

    s->fd = TEMP_FAILURE_RETRY(open(s->filename, mode));
    if (s->fd < 0 && (flags & BLK_O_AUTO_RDONLY) && (errno == EACCES || errno == EROFS)) {
        s->fd = TEMP_FAILURE_RETRY(open(s->filename, (mode & ~O_RDWR) | O_RDONLY));
        bs->read_only = s->fd >= 0;
    }
    if (s->fd < 0) {
        int err = errno;

        if (err == EINVAL && (flags & BLK_O_NOCACHE)) {
            return error_set_errno(errp, err,
                                   "Could not open '%s': filesystem does not support O_DIRECT",
                                   s->filename);
        }
        return error_set_errno(errp, err, "Could not open '%s'", s->filename);
    }
    return 0;
}

/* A descriptor that the user handed over: it must allow what the flags say. */
static int adopt_fd(FileState *s, int flags, GError **errp)
{
    int mode = fcntl(s->fd, F_GETFL);

    if (mode < 0 ||
        (s->direct && !(mode & O_DIRECT) && fcntl(s->fd, F_SETFL, mode | O_DIRECT) < 0)) {
        return error_set_errno(errp, errno, "Could not use the descriptor for '%s'", s->filename);
    }
    if ((mode & O_ACCMODE) == O_WRONLY || ((flags & BLK_O_RDWR) && (mode & O_ACCMODE) != O_RDWR)) {
        return error_set(errp, EACCES, "The descriptor for '%s' is not open for %s", s->filename,
                         flags & BLK_O_RDWR ? "reading and writing" : "reading");
    }
    return 0;
}

static int open_common(BlockDriverState *bs, Options *o, int flags, bool want_block, GError **errp)
{
    FileState *s = bs->opaque;
    bool by_name = opts_has(o, "aio") || (flags & BLK_O_AIO_URING);
    int ret;

    s->fd = bdrv_take_open_fd(bs);
    s->handed_over = s->fd >= 0;
    s->lock_fd = s->end_fd = -1;
    s->shared = BLK_PERM_ALL;
    s->direct = flags & BLK_O_NOCACHE;
    spin_init(&s->extent_lock);
    if (!take_options(s, o, flags, errp)) {
        return -EINVAL;
    }
    ret = check_kind(s, bs->drv->format_name, want_block, flags, errp);
    if (ret == 0) {
        ret = s->fd >= 0 ? adopt_fd(s, flags, errp) : open_fd(bs, s, flags, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (by_name && s->aio == FILE_AIO_URING) {
        bs->warning = warning_of_uring();
    }
    file_length_init(s);
    s->sector = s->is_block ? file_sector_size(s->fd) : 1;
    file_set_direct(s, s->direct);
    g_free(bs->exact_filename);
    bs->exact_filename = g_strdup(s->filename);
    bs->supported_zero_flags = BLK_REQ_MAY_UNMAP | BLK_REQ_NO_FALLBACK;
    bs->supported_truncate_flags = BLK_REQ_ZERO_WRITE;
    return 0;
}

static int coroutine_fn file_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    return open_common(bs, o, flags, false, errp);
}

static int coroutine_fn device_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    return open_common(bs, o, flags, true, errp);
}

/* Network file systems tell at close(2) what they could not store. */
static int coroutine_fn file_co_close(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    int fds[] = { s->end_fd, s->lock_fd, s->fd }, ret = 0;

    if (s->fd >= 0) {
        /* A child of fork() may have the description still, and with it the locks. */
        (void)file_set_perm(bs, 0, BLK_PERM_ALL, NULL);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        if (fds[i] >= 0 && close(fds[i]) < 0 && errno != EINTR &&
            ret == 0) { /* closed all the same */
            ret = -errno;
        }
    }
    g_clear_pointer(&s->lane, work_lane_unref);
    g_free(s->filename);
    return ret;
}

static void file_refresh_limits(BlockDriverState *bs)
{
    FileState *s = bs->opaque;

    file_probe_alignment(s, &bs->limits);
    s->block = bs->limits.request_alignment;
    if (s->direct && !s->is_block && s->end_fd < 0 && (bs->open_flags & BLK_O_RDWR)) {
        s->end_fd = file_reopen_buffered(s->fd, s->block);
    }
    bs->limits.partial_end = s->end_fd >= 0;
}

/* Nothing to tell, but not unknown: a file has no clusters and is never dirty. */
static int file_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    return 0;
}

static bool strip_prefix(const char *filename, const char *prefix, Options *o)
{
    g_autofree char *plain = NULL;

    if (g_str_has_prefix(filename, prefix)) {
        filename += strlen(prefix);
        /* What looks like a prefix now is none. */
        plain = g_strconcat(strcspn(filename, ":/") < strcspn(filename, "/") ? "./" : "", filename,
                            NULL);
    }
    opts_set(o, "filename", plain ? plain : filename);
    return true;
}

static bool file_parse_filename(const char *filename, Options *o, GError **errp)
{
    return strip_prefix(filename, "file:", o);
}

static bool device_parse_filename(const char *filename, Options *o, GError **errp)
{
    return strip_prefix(filename, "host_device:", o);
}

const BlockDriver bdrv_file = {
    BLOCK_DRIVER_TABLE,
    .format_name = "file",
    .protocol_name = "file",
    .instance_size = sizeof(FileState),
    .parse_filename = file_parse_filename,
    .co_open = file_co_open,
    .co_reopen_prepare = file_co_reopen_prepare,
    .reopen_commit = file_reopen_commit,
    .reopen_abort = file_reopen_abort,
    .co_close = file_co_close,
    .refresh_limits = file_refresh_limits,
    .set_perm = file_set_perm,
    .create_options = file_create_options,
    .co_create = file_co_create,
    .unwritten_reads_zero = bdrv_unwritten_always_zero, /* cut to nothing, grows by holes */
    .remove = file_remove,
    .co_preadv = file_co_preadv,
    .co_pwritev = file_co_pwritev,
    .co_pwrite_zeroes = file_co_pwrite_zeroes,
    .co_pdiscard = file_co_pdiscard,
    .co_block_status = file_co_block_status,
    .co_flush_to_disk = file_co_flush_to_disk,
    .co_truncate = file_co_truncate,
    .co_getlength = file_co_getlength,
    .co_get_allocated_size = file_co_allocated_size,
    .get_info = file_get_info,
};

const BlockDriver bdrv_host_device = {
    BLOCK_DRIVER_TABLE,
    .format_name = "host_device",
    .protocol_name = "host_device",
    .instance_size = sizeof(FileState),
    .parse_filename = device_parse_filename,
    .co_open = device_co_open,
    .co_reopen_prepare = file_co_reopen_prepare,
    .reopen_commit = file_reopen_commit,
    .reopen_abort = file_reopen_abort,
    .co_close = file_co_close,
    .refresh_limits = file_refresh_limits,
    .set_perm = file_set_perm,
    .create_options = device_create_options,
    .co_create = device_co_create,
    .co_preadv = file_co_preadv,
    .co_pwritev = file_co_pwritev,
    .co_pwrite_zeroes = file_co_pwrite_zeroes,
    .co_pdiscard = file_co_pdiscard,
    .co_flush_to_disk = file_co_flush_to_disk,
    .co_truncate = file_co_truncate,
    .co_getlength = file_co_getlength,
    .co_get_allocated_size = file_co_allocated_size,
    .get_info = file_get_info,
};
