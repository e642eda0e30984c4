/* SPDX-License-Identifier: MIT */
/*
 * A file's length.
 *
 * Whoever looks at the length and then sets it cuts off what others wrote past the end in between,
 * so looking and setting are one operation, under length_lock held for writing; requests that may
 * move the end by themselves hold it for reading.
 *
 * INV-LEN-1  "known_length" is never more than the file's length, unless another program cuts it: a
 *            write that ends there moves no end, and takes no lock.
 * INV-LEN-2  ftruncate() is called with length_lock held for writing.
 */
#include "file.h"

#include <errno.h>
#include <unistd.h>

void file_length_init(FileState *s)
{
    int64_t length = s->is_block ? INT64_MAX : file_length_fd(s->fd);

    co_rwlock_init(&s->length_lock);
    atomic_init(&s->known_length, MAX(length, 0));
}

static void raise_known(FileState *s, int64_t end)
{
    int64_t known = atomic_load(&s->known_length);

    g_assert(end >= 0);
    while (known < end && !atomic_compare_exchange_weak(&s->known_length, &known, end)) {
    }
}

void coroutine_fn file_co_extend_begin(FileState *s)
{
    co_rwlock_rdlock(&s->length_lock);
}

void coroutine_fn file_co_extend_end(FileState *s, int64_t end, int ret)
{
    if (ret == 0) {
        raise_known(s, end);
    }
    co_rwlock_unlock(&s->length_lock);
}

int coroutine_fn file_co_grow(FileState *s, int64_t end)
{
    int64_t length;
    int ret = 0;

    g_assert(end >= 0);
    if (!file_extends(s, end)) {
        return 0;
    }
    co_rwlock_wrlock(&s->length_lock);
    length = file_length_fd(s->fd);
    if (length < 0) {
        ret = (int)length;
    } else if (length < end && TEMP_FAILURE_RETRY(ftruncate(s->fd, end)) < 0) {
        ret = -errno;
    }
    if (ret == 0) {
        raise_known(s, end);
    }
    co_rwlock_unlock(&s->length_lock);
    return ret;
}

void coroutine_fn file_co_resize_begin(FileState *s, int64_t to)
{
    int64_t known;

    g_assert(to >= 0);
    co_rwlock_wrlock(&s->length_lock);
    known = atomic_load(&s->known_length);
    atomic_store(&s->known_length, MIN(known, to)); /* INV-LEN-1: before it is cut */
}

void coroutine_fn file_co_resize_end(FileState *s, int64_t to, int ret)
{
    if (ret == 0) {
        raise_known(s, to);
    }
    co_rwlock_unlock(&s->length_lock);
}
