/* SPDX-License-Identifier: MIT */
/*
 * Buffers of copy-on-write.  Big ones come from the system page by page, each with a fault that
 * costs about as much as copying the page; so a few are kept, until the image has not needed them
 * for a while.
 */
#include "cow-buffer.h"

#include <errno.h>

#define KEPT 4
#define KEEP_MIN (128 * KiB) /* smaller ones malloc() itself keeps */

typedef struct CowBuffers {
    SpinLock lock; /* guards the fields below */
    unsigned n;
    void *buf[KEPT]; /* a cluster each */
    bool used;       /* since the last trim */
} CowBuffers;

int qcow2_cow_buffer_init(Qcow2 *q)
{
    q->cow_buffers = g_try_new0(CowBuffers, 1);
    if (!q->cow_buffers) {
        return -ENOMEM;
    }
    spin_init(&q->cow_buffers->lock);
    return 0;
}

void qcow2_cow_buffer_fini(Qcow2 *q)
{
    CowBuffers *b = q->cow_buffers;

    while (b && b->n) {
        mem_align_free(b->buf[--b->n]);
    }
    g_clear_pointer(&q->cow_buffers, g_free);
}

static bool is_kept(const Qcow2 *q, uint64_t bytes)
{
    return bytes >= KEEP_MIN && bytes <= q->geo.cluster_size;
}

void *qcow2_cow_buffer_get(Qcow2 *q, uint64_t bytes)
{
    CowBuffers *b = q->cow_buffers;
    void *buf = NULL;

    g_assert(bytes > 0);
    if (!is_kept(q, bytes)) {
        return bdrv_try_blockalign(q->data->bs, bytes);
    }
    spin_lock(&b->lock);
    b->used = true;
    if (b->n) {
        buf = b->buf[--b->n];
    }
    spin_unlock(&b->lock);
    return buf ? buf : bdrv_try_blockalign(q->data->bs, q->geo.cluster_size);
}

void qcow2_cow_buffer_put(Qcow2 *q, void *buf, uint64_t bytes)
{
    CowBuffers *b = q->cow_buffers;

    if (buf && is_kept(q, bytes)) {
        spin_lock(&b->lock);
        if (b->n < KEPT) {
            b->buf[b->n++] = buf;
            buf = NULL;
        }
        spin_unlock(&b->lock);
    }
    mem_align_free(buf);
}

void qcow2_cow_buffer_trim(Qcow2 *q)
{
    CowBuffers *b = q->cow_buffers;
    void *gone[KEPT];
    unsigned n = 0;

    spin_lock(&b->lock);
    while (!b->used && b->n) {
        gone[n++] = b->buf[--b->n];
    }
    b->used = false;
    spin_unlock(&b->lock);
    while (n) {
        mem_align_free(gone[--n]);
    }
}
