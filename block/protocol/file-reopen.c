/* SPDX-License-Identifier: MIT */
/*
 * The file with another access mode, or with or without O_DIRECT: a new descriptor of the same
 * file, which no name has to be looked up for. The locks stay on the old one.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define MODE (O_ACCMODE | O_DIRECT)

typedef struct FileReopen {
    int fd; /* -1: the old one does */
    bool direct;
} FileReopen;

static int open_again(const FileState *s, int mode, GError **errp)
{
    g_autofree char *name = g_strdup_printf("/proc/self/fd/%d", s->fd);
    int fd = TEMP_FAILURE_RETRY(open(name, mode | O_CLOEXEC));

    if (fd < 0) {
        int err = errno;

        error_set_errno(errp, err,
                        err == EINVAL && (mode & O_DIRECT)
                            ? "Could not open '%s': filesystem does not support O_DIRECT"
                            : "Could not open '%s'",
                        s->filename);
        return -err;
    }
    return fd;
}

int coroutine_fn file_co_reopen_prepare(BlockDriverState *bs, Options *o, int flags, void **state,
                                        GError **errp)
{
    FileState *s = bs->opaque;
    int old = fcntl(s->fd, F_GETFL);
    int mode = (flags & BLK_O_RDWR ? O_RDWR : O_RDONLY) | (flags & BLK_O_NOCACHE ? O_DIRECT : 0);
    FileReopen *r;
    int fd = -1;
    bool drop;

    if (old < 0) {
        return error_set_errno(errp, errno, "Could not reopen '%s'", s->filename);
    }
    if (!opts_take_bool(o, "x-check-cache-dropped", false, &drop, errp)) {
        return -EINVAL;
    }
    if (s->aio == FILE_AIO_NATIVE && !(flags & BLK_O_NOCACHE)) {
        return error_set(errp, EINVAL,
                         "aio=native was specified, but it requires cache.direct=on, "
                         "which was not specified.");
    }
    if (s->handed_over) {
        if (!!(old & O_DIRECT) != !!(mode & O_DIRECT) ||
            ((mode & O_ACCMODE) == O_RDWR && (old & O_ACCMODE) != O_RDWR)) {
            return error_set(errp, EACCES,
                             "The descriptor that was handed over for '%s' does not allow that: "
                             "hand over another one",
                             s->filename);
        }
    } else if ((old & MODE) != mode) {
        fd = open_again(s, mode, errp);
        if (fd < 0) {
            return fd;
        }
    }
    r = g_new(FileReopen, 1);
    *r = (FileReopen){ .fd = fd, .direct = flags & BLK_O_NOCACHE };
    *state = r;
    return 0;
}

/* What was written through a descriptor that goes has been synced before, or was found unable to
 * be: nothing is left for its close to tell. */
static void drop(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

void file_reopen_commit(BlockDriverState *bs, void *state)
{
    FileState *s = bs->opaque;
    g_autofree FileReopen *r = state;

    g_assert(s->fd >= 0);
    if (r->fd < 0) {
        return;
    }
    drop(&s->end_fd); /* refresh_limits opens it, where it is needed */
    if (s->lock_fd < 0) {
        s->lock_fd = s->fd;
    } else {
        drop(&s->fd);
    }
    s->fd = r->fd;
    file_set_direct(s, r->direct);
}

void file_reopen_abort(BlockDriverState *bs, void *state)
{
    g_autofree FileReopen *r = state;

    drop(&r->fd);
}
