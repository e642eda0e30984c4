/* SPDX-License-Identifier: MIT */
/*
 * Byte-range locks on image files, the same bytes as QEMU's: a shared lock on byte 100 + n says
 * that permission n is in use, one on 200 + n that nobody else may use it.  So who wants n looks
 * for locks of others on 200 + n, and who does not share n looks on 100 + n.
 * Open-file-description locks: they belong to our descriptor, not to the process.
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

/* Somebody else holds a lock on @byte? */
static bool held_by_others(int fd, int64_t byte)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

    return fcntl(fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK;
}

/* Take or give back the bytes that differ between two states. */
static int move_locks(FileState *s, unsigned from, unsigned to, int base)
{
    for (int i = 0; i < PERM_BITS; i++) {
        unsigned bit = 1u << i;
        int ret = 0;

        if ((to & bit) && !(from & bit)) {
            ret = lock_byte(s->fd, base + i, F_RDLCK);
        } else if (!(to & bit) && (from & bit)) {
            ret = lock_byte(s->fd, base + i, F_UNLCK);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* A conflict of what we want with what others hold: its text, or NULL. */
static char *find_conflict(FileState *s, unsigned perm, unsigned shared)
{
    for (int i = 0; i < PERM_BITS; i++) {
        if ((perm & (1u << i)) && held_by_others(s->fd, UNSHARED_BASE + i)) {
            return g_strdup_printf("Failed to get \"%s\" lock", perm_names[i]);
        }
    }
    for (int i = 0; i < PERM_BITS; i++) {
        if (!(shared & (1u << i)) && held_by_others(s->fd, USED_BASE + i)) {
            return g_strdup_printf("Failed to get shared \"%s\" lock", perm_names[i]);
        }
    }
    return NULL;
}

int file_set_perm(BlockDriverState *bs, unsigned perm, unsigned shared, GError **errp)
{
    FileState *s = bs->opaque;
    unsigned old_unshared = BLK_PERM_ALL & ~s->shared, unshared = BLK_PERM_ALL & ~shared;
    g_autofree char *conflict = NULL;
    int ret;

    if (!s->locking) {
        return 0;
    }
    /* First show what we take, both old and new; then look at others: of two who come at once at
     * least one sees the other. */
    ret = move_locks(s, s->perm, s->perm | perm, USED_BASE);
    if (ret == 0) {
        ret = move_locks(s, old_unshared, old_unshared | unshared, UNSHARED_BASE);
    }
    if (ret < 0) {
        move_locks(s, s->perm | perm, s->perm, USED_BASE);
        move_locks(s, old_unshared | unshared, old_unshared, UNSHARED_BASE);
        return error_set_errno(errp, ret, "Failed to lock byte of '%s'", s->filename);
    }
    conflict = find_conflict(s, perm & ~s->perm, shared | (BLK_PERM_ALL & ~s->shared));
    if (conflict) {
        move_locks(s, s->perm | perm, s->perm, USED_BASE);
        move_locks(s, old_unshared | unshared, old_unshared, UNSHARED_BASE);
        error_set(errp, EAGAIN, "%s", conflict);
        error_append_hint(errp, "Is another process using the image [%s]?", s->filename);
        return -EAGAIN;
    }
    move_locks(s, s->perm | perm, perm, USED_BASE);
    move_locks(s, old_unshared | unshared, unshared, UNSHARED_BASE);
    s->perm = perm;
    s->shared = shared;
    return 0;
}
