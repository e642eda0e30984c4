/* SPDX-License-Identifier: MIT */
/*
 * Byte-range locks on image files, the same bytes as QEMU's: a shared lock on byte 100 + n says
 * that permission n is in use, one on 200 + n that nobody else may use it.  So who wants n looks
 * for locks of others on 200 + n, and who does not share n looks on 100 + n.
 * Open-file-description locks: they belong to our descriptor, not to the process.
 *
 * INV-FLOCK-1  Whether a file has locks is told by the first one that is asked for, and by none
 *             after it: once one was had, a lock that fails is an error. locking=auto goes on
 *             without locks where there are none (NFS without its lock manager, some FUSE file
 *             systems); locking=on fails.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>

#define USED_BASE 100
#define UNSHARED_BASE 200
#define PERM_BITS 4

static const char *const perm_names[PERM_BITS] = { "consistent read", "write", "write unchanged",
                                                   "resize" };

static int lock_byte(int fd, int64_t byte, short type)
{
    struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

    return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

/* Whether somebody else holds a lock on @byte: 1, 0, or -errno. */
static int held_by_others(int fd, int64_t byte)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

    return fcntl(fd, F_OFD_GETLK, &fl) < 0 ? -errno : fl.l_type != F_UNLCK;
}

/* Locks stay on the descriptor that they were taken on, whatever I/O uses (INV-REOPEN-2). */
static int lock_fd(const FileState *s)
{
    return s->lock_fd >= 0 ? s->lock_fd : s->fd;
}

/* Take or give back the bytes that differ between two states. */
static int move_locks(FileState *s, unsigned from, unsigned to, int base)
{
    for (int i = 0; i < PERM_BITS; i++) {
        unsigned bit = 1u << i;
        int ret = 0;

        if ((to & bit) && !(from & bit)) {
            ret = lock_byte(lock_fd(s), base + i, F_RDLCK);
            s->has_locks |= ret == 0;
        } else if (!(to & bit) && (from & bit)) {
            ret = lock_byte(lock_fd(s), base + i, F_UNLCK);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* The first of the bytes base + n, for n in @perms, that others hold: n, -ENOENT if none, -errno */
static int find_held(FileState *s, unsigned perms, int base)
{
    for (int i = 0; i < PERM_BITS; i++) {
        int ret = perms & (1u << i) ? held_by_others(lock_fd(s), base + i) : 0;

        if (ret != 0) {
            return ret < 0 ? ret : i;
        }
    }
    return -ENOENT;
}

/* A conflict of what we want with what others hold is -EAGAIN. */
static int check_conflict(FileState *s, unsigned perm, unsigned shared, GError **errp)
{
    int i = find_held(s, perm, UNSHARED_BASE);
    bool used = i == -ENOENT;

    if (used) {
        i = find_held(s, BLK_PERM_ALL & ~shared, USED_BASE);
    }
    if (i == -ENOENT) {
        return 0;
    }
    if (i < 0) {
        return error_set_errno(errp, i, "Failed to look for locks of others on '%s'", s->filename);
    }
    error_set(errp, EAGAIN, "Failed to get %s\"%s\" lock", used ? "shared " : "", perm_names[i]);
    error_append_hint(errp, "Is another process using the image [%s]?", s->filename);
    return -EAGAIN;
}

/* What fcntl() says where there are no locks at all, or none of descriptors. */
static bool is_without_locks(int err)
{
    return err == ENOLCK || err == ENOSYS || err == EOPNOTSUPP || err == EINVAL;
}

/* A lock failed with @ret: 0 where the file goes without (INV-FLOCK-1). */
static int lock_failed(FileState *s, int ret, GError **errp)
{
    if (s->has_locks || !is_without_locks(-ret)) {
        return error_set_errno(errp, ret, "Failed to lock byte of '%s'", s->filename);
    }
    if (s->locking == FILE_LOCKING_ON) {
        return error_set_errno(errp, ret, "locking=on was requested, but '%s' cannot be locked",
                               s->filename);
    }
    s->locking = FILE_LOCKING_OFF;
    return 0;
}

int file_set_perm(BlockDriverState *bs, unsigned perm, unsigned shared, GError **errp)
{
    FileState *s = bs->opaque;
    unsigned old_unshared = BLK_PERM_ALL & ~s->shared, unshared = BLK_PERM_ALL & ~shared;
    int ret;

    g_assert(((perm | shared) & ~(unsigned)BLK_PERM_ALL) == 0);
    if (s->locking == FILE_LOCKING_OFF) {
        return 0;
    }
    /* First show what we take, both old and new; then look at others: of two who come at once at
     * least one sees the other. */
    ret = move_locks(s, s->perm, s->perm | perm, USED_BASE);
    if (ret == 0) {
        ret = move_locks(s, old_unshared, old_unshared | unshared, UNSHARED_BASE);
    }
    if (ret < 0) {
        ret = lock_failed(s, ret, errp);
        if (ret == 0) {
            return 0;
        }
    } else {
        ret = check_conflict(s, perm & ~s->perm, shared | (BLK_PERM_ALL & ~s->shared), errp);
    }
    if (ret < 0) {
        move_locks(s, s->perm | perm, s->perm, USED_BASE);
        move_locks(s, old_unshared | unshared, old_unshared, UNSHARED_BASE);
        return ret;
    }
    move_locks(s, s->perm | perm, perm, USED_BASE);
    move_locks(s, old_unshared | unshared, unshared, UNSHARED_BASE);
    s->perm = perm;
    s->shared = shared;
    return 0;
}
