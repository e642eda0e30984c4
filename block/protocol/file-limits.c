/* SPDX-License-Identifier: MIT */
/* What O_DIRECT, or its absence, means: what it demands of offsets, lengths and buffers (asked from
 * the kernel, else tried out), and how else I/O is done. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MAX_ALIGN 65536

static bool read_works(int fd, char *buf, size_t len)
{
    ssize_t n;

    do {
        n = pread(fd, buf, len, 0);
    } while (n < 0 && errno == EINTR);
    return n >= 0 || errno != EINVAL;
}

/* The file of @fd once more, without O_DIRECT; -1 where that cannot be had, or not beside O_DIRECT
 * in blocks of @block: where the kernel caches in larger units, it could write an old neighbour
 * back over what O_DIRECT has just written. */
int file_reopen_buffered(int fd, uint32_t block)
{
    g_autofree char *name = g_strdup_printf("/proc/self/fd/%d", fd);
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0 || fs.f_bsize > (long)block || sysconf(_SC_PAGESIZE) > (long)block) {
        return -1;
    }
    return TEMP_FAILURE_RETRY(open(name, O_RDWR | O_CLOEXEC));
}

uint32_t file_sector_size(int fd)
{
    int size;

    return ioctl(fd, BLKSSZGET, &size) == 0 && size > 0 ? (uint32_t)size : 512;
}

int file_probe_alignment(FileState *s, BlockLimits *l)
{
    static const uint32_t aligns[] = { 1, 512, 1024, 2048, 4096 };
    char *buf;

    l->request_alignment = 1;
    l->min_mem_alignment = 1;
    l->opt_mem_alignment = 4096;
    if (!s->direct) {
        return 0;
    }
    if (s->is_block) {
        l->request_alignment = s->sector;
        l->min_mem_alignment = 512;
        return 0;
    }
#ifdef STATX_DIOALIGN
    struct statx stx;

    if (statx(s->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN) && stx.stx_dio_offset_align) {
        l->request_alignment = stx.stx_dio_offset_align;
        l->min_mem_alignment = MAX(stx.stx_dio_mem_align, 1);
        return 0;
    }
#endif
    buf = mem_align_try(MAX_ALIGN, MAX_ALIGN * 2);
    if (!buf) {
        return -ENOMEM;
    }
    l->request_alignment = 4096;
    l->min_mem_alignment = 4096;
    for (unsigned i = 0; i < G_N_ELEMENTS(aligns); i++) {
        if (read_works(s->fd, buf, aligns[i])) {
            /* A file system that takes single bytes tells nothing: be careful. */
            l->request_alignment = aligns[i] == 1 ? 4096 : aligns[i];
            break;
        }
    }
    mem_align_free(buf);
    return 0;
}

void file_set_direct(FileState *s, bool direct)
{
    struct statfs fs;

    g_assert(s->fd >= 0);
    s->direct = direct;
    s->sync_is_fast = !direct && !s->is_block && fstatfs(s->fd, &fs) == 0 &&
                      (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
    g_clear_pointer(&s->lane, work_lane_unref);
    s->lane = direct || s->is_block ? NULL : work_lane_new();
}
