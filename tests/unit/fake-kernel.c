/* SPDX-License-Identifier: MIT */
#include "fake-kernel.h"

#include "util/compiler.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

FakeKernel kernel;

void kernel_reset(void)
{
    memset(&kernel, 0, sizeof(kernel));
}

/* With errno. */
static bool fails(const char *call)
{
    int left = atomic_load(&kernel.fail_in);

    while (left > 0 && !atomic_compare_exchange_weak(&kernel.fail_in, &left, left - 1)) {
    }
    if (left == 1) {
        atomic_fetch_add(&kernel.failed, 1);
        kernel.failed_call = call;
        errno = kernel.fail_errno;
        return true;
    }
    if (kernel.interrupt && atomic_fetch_add(&kernel.calls, 1) % kernel.interrupt == 0) {
        atomic_fetch_add(&kernel.interrupted, 1);
        errno = EINTR;
        return true;
    }
    return false;
}

/* Bytes of [offset, offset + len) that this call moves; -1 with errno. */
static ssize_t allowance(bool write, size_t len, off_t offset, const char *call)
{
    size_t n = kernel.most ? MIN(len, kernel.most) : len;

    if (fails(call)) {
        return -1;
    }
    if (write && kernel.full_at && offset + (off_t)n > kernel.full_at) {
        n = offset < kernel.full_at ? (size_t)(kernel.full_at - offset) : 0;
        if (n == 0) {
            errno = ENOSPC;
            return -1;
        }
    }
    if (n < len) {
        atomic_fetch_add(&kernel.shortened, 1);
    }
    return (ssize_t)n;
}

/* The first element, no more than is allowed: short is short. */
static ssize_t transfer(bool write, int fd, const struct iovec *iov, int n, off_t offset)
{
    size_t len = 0;
    ssize_t want;

    for (int i = 0; i < n; i++) {
        len += iov[i].iov_len;
    }
    want = allowance(write, len, offset, write ? "write" : "read");
    if (want < 0) {
        return -1;
    }
    if ((size_t)want < len) {
        struct iovec first = { iov[0].iov_base, MIN(iov[0].iov_len, (size_t)want) };

        return syscall(write ? SYS_pwritev : SYS_preadv, fd, &first, 1, offset, 0);
    }
    return syscall(write ? SYS_pwritev : SYS_preadv, fd, iov, n, offset, 0);
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
    struct iovec v = { buf, len };

    return transfer(false, fd, &v, 1, offset);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    struct iovec v = { (void *)(uintptr_t)buf, len };

    return transfer(true, fd, &v, 1, offset);
}

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t offset)
{
    return transfer(false, fd, iov, n, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
    return transfer(true, fd, iov, n, offset);
}

ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    return transfer(false, fd, iov, n, offset);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    return transfer(true, fd, iov, n, offset);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    return fails("fallocate") ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

int fdatasync(int fd)
{
    atomic_fetch_add(&kernel.syncs, 1);
    if (fails("fdatasync")) {
        return -1;
    }
    if (atomic_load(&kernel.failed_syncs) > 0) {
        atomic_fetch_sub(&kernel.failed_syncs, 1);
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t length)
{
    return fails("ftruncate") ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

int posix_fallocate(int fd, off_t offset, off_t len)
{
    if (fails("posix_fallocate") || syscall(SYS_fallocate, fd, 0, offset, len) < 0) {
        return errno;
    }
    return 0;
}
