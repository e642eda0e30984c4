/* SPDX-License-Identifier: MIT */
/* Where a file has data: SEEK_DATA and SEEK_HOLE, remembering the last answer; length; size. */
#include "file.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

void file_changed(FileState *s)
{
    atomic_fetch_add_explicit(&s->extent_gen, 1, memory_order_release);
}

int64_t file_length_fd(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (S_ISBLK(st.st_mode)) {
        uint64_t bytes;

        return ioctl(fd, BLKGETSIZE64, &bytes) < 0 ? -errno : (int64_t)bytes;
    }
    return st.st_size;
}

int64_t coroutine_fn file_co_getlength(BlockDriverState *bs)
{
    return file_length_fd(((FileState *)bs->opaque)->fd);
}

int64_t coroutine_fn file_co_allocated_size(BlockDriverState *bs)
{
    struct stat st;

    if (fstat(((FileState *)bs->opaque)->fd, &st) < 0) {
        return -errno;
    }
    return (int64_t)st.st_blocks * 512;
}

/* The extent round @offset: [*start, *end) is data or a hole. */
static int find_extent(FileState *s, int64_t offset, int64_t *start, int64_t *end, bool *data)
{
    int64_t length = file_length_fd(s->fd); /* before the look: what is written past it later is not
                                               part of the hole */
    int64_t pos = lseek(s->fd, offset, SEEK_DATA);

    *start = offset;
    if (pos < 0) {
        if (errno != ENXIO) {
            return -errno;
        }
        *data = false; /* a hole to the end */
        *end = length;
        return *end > offset ? 0 : -ENXIO;
    }
    if (pos > offset) {
        *data = false;
        *end = pos;
        return 0;
    }
    pos = lseek(s->fd, offset, SEEK_HOLE);
    if (pos < 0) {
        return -errno;
    }
    *data = true;
    *end = pos;
    return pos > offset ? 0 : -EINVAL;
}

/* The remembered extent, if it holds @offset and nothing has changed since. */
static bool remembered(FileState *s, int64_t offset, unsigned gen, int64_t *end, bool *data)
{
    bool ok;

    spin_lock(&s->extent_lock);
    ok = s->extent_valid && s->extent_of == gen && offset >= s->extent_start &&
         offset < s->extent_end;
    *end = s->extent_end;
    *data = s->extent_data;
    spin_unlock(&s->extent_lock);
    return ok;
}

static void remember(FileState *s, unsigned gen, int64_t start, int64_t end, bool data)
{
    g_assert(start < end);
    spin_lock(&s->extent_lock);
    s->extent_valid = true;
    s->extent_of = gen; /* from before the look-up: a change since makes it stale */
    s->extent_start = start;
    s->extent_end = end;
    s->extent_data = data;
    spin_unlock(&s->extent_lock);
}

int coroutine_fn file_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                      int64_t bytes, int64_t *pnum, int64_t *map,
                                      BlockDriverState **file)
{
    FileState *s = bs->opaque;
    unsigned gen = atomic_load(&s->extent_gen);
    int64_t start, end;
    bool data;

    *map = offset;
    *file = bs;
    *pnum = bytes;
    if (!want_zero) {
        return BLK_DATA | BLK_OFFSET_VALID;
    }
    if (!remembered(s, offset, gen, &end, &data)) {
        int ret = find_extent(s, offset, &start, &end, &data);

        if (ret == -ENXIO) { /* past the end */
            return BLK_ZERO | BLK_OFFSET_VALID;
        }
        if (ret < 0) { /* the file system does not tell */
            return BLK_DATA | BLK_OFFSET_VALID;
        }
        remember(s, gen, start, end, data);
    }
    g_assert(end > offset);
    *pnum = MIN(bytes, end - offset);
    return (data ? BLK_DATA : BLK_ZERO) | BLK_OFFSET_VALID;
}
