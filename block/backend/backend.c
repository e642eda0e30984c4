/* SPDX-License-Identifier: MIT */
/* BlockBackend: the users' side of a graph.  Each request is counted, checked, and goes to the
 * gate. */
#include "block/backend/backend-int.h"
#include "block/graph/graph.h"
#include "block/open/open.h"
#include "block/request/request.h"

#include <stdlib.h>
#include <string.h>

/* ---- Open and close ---- */

static BlockBackend *blk_new(BdrvChild *root, int flags)
{
    void *mem = NULL;
    BlockBackend *blk;

    if (posix_memalign(&mem, 64, sizeof(BlockBackend)) != 0) {
        return NULL;
    }
    blk = memset(mem, 0, sizeof(BlockBackend));
    blk->root = root;
    blk->bs = root->bs;
    blk->writable = !!(flags & BLK_O_RDWR);
    atomic_init(&blk->writethrough, !!(flags & BLK_O_WRITETHROUGH));
    spin_init(&blk->lock);
    co_mutex_init(&blk->exclusive);
    co_queue_init(&blk->idle_queue);
    co_queue_init(&blk->resume_queue);
    bdrv_graph_lock();
    root->blk = blk;
    bdrv_graph_unlock();
    return blk;
}

typedef struct OpenArgs {
    const char *filename;
    Options *options;
    int flags;
    GError **errp;
    BlockOpenReference *open_reference;
    void *opaque;
    BlockBackend *blk;
} OpenArgs;

static int coroutine_fn open_fn(void *opaque)
{
    OpenArgs *a = opaque;
    int flags = a->flags;
    BdrvChild *root;

    if ((flags & BLK_O_FORCE_SHARE) && (flags & BLK_O_RDWR)) {
        opts_free(a->options);
        return error_set(a->errp, EINVAL, "force-share=on can only be used with read-only images");
    }
    root = bdrv_co_open_root_request(&(OpenRequest){ .filename = a->filename,
                                                     .options = a->options,
                                                     .flags = flags,
                                                     .open_reference = a->open_reference,
                                                     .opaque = a->opaque },
                                     a->errp);
    if (!root) {
        return -EINVAL;
    }
    a->blk = blk_new(root, flags);
    if (!a->blk) {
        (void)bdrv_co_close_child(root);
        return error_set(a->errp, ENOMEM, "Out of memory");
    }
    return 0;
}

BlockBackend *blk_open(const char *filename, Options *options, int flags, GError **errp)
{
    return blk_open_confined(filename, options, flags, NULL, NULL, errp);
}

BlockBackend *blk_open_confined(const char *filename, Options *options, int flags,
                                BlockOpenReference *open_reference, void *opaque, GError **errp)
{
    OpenArgs a = { filename, options, flags, errp, open_reference, opaque, NULL };

    if (filename && !*filename && (!options || opts_count(options) == 0)) {
        opts_free(options);
        error_set(errp, EINVAL, "The 'file' block driver requires a file name");
        return NULL;
    }
    (void)co_run_sync(open_fn, &a);
    return a.blk;
}

static int coroutine_fn shut_fn(void *opaque)
{
    BlockBackend *blk = opaque;

    blk_co_refuse_requests(blk);
    blk_co_alone_begin(blk);
    return bdrv_co_close_child(g_steal_pointer(&blk->root));
}

int blk_shut(BlockBackend *blk)
{
    return co_run_sync(shut_fn, blk);
}

void blk_free(BlockBackend *blk)
{
    if (!blk->root) { /* else there was no memory to begin with: it stays open, and what it holds */
        free(blk);
    }
}

int blk_close(BlockBackend *blk)
{
    int ret;

    if (!blk) {
        return 0;
    }
    ret = blk_shut(blk);
    blk_free(blk);
    return ret;
}

BlockDriverState *blk_bs(BlockBackend *blk)
{
    return blk->bs;
}

bool blk_is_writable(BlockBackend *blk)
{
    return blk->writable;
}

bool blk_write_cache(BlockBackend *blk)
{
    return !atomic_load(&blk->writethrough);
}

void blk_set_write_cache(BlockBackend *blk, bool on)
{
    atomic_store(&blk->writethrough, !on);
}

int64_t blk_getlength(BlockBackend *blk)
{
    return atomic_load(&blk->bs->total_bytes);
}

int64_t coroutine_fn blk_co_getlength(BlockBackend *blk)
{
    int64_t ret = blk_co_enter(blk);

    if (ret == 0) {
        ret = bdrv_co_getlength(blk->bs);
        blk_leave(blk);
    }
    return ret;
}

/* ---- Requests ---- */

static inline int check_request(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    int64_t total = atomic_load_explicit(&blk->bs->total_bytes, memory_order_acquire);

    return unlikely(offset < 0 || bytes < 0 || offset > total || bytes > total - offset) ? -EIO : 0;
}

static inline unsigned write_flags(BlockBackend *blk, unsigned flags)
{
    return unlikely(atomic_load_explicit(&blk->writethrough, memory_order_relaxed))
               ? flags | BLK_REQ_FUA
               : flags;
}

int coroutine_fn blk_co_preadv(BlockBackend *blk, int64_t offset, IOVector *v, unsigned flags)
{
    int ret = blk_co_enter(blk);

    if (unlikely(ret < 0)) {
        return ret;
    }
    ret = check_request(blk, offset, (int64_t)v->size);
    ret = ret < 0 ? ret : bdrv_co_read_gate(blk->bs, offset, v, flags);
    blk_leave(blk);
    return ret;
}

int coroutine_fn blk_co_pwritev(BlockBackend *blk, int64_t offset, IOVector *v, unsigned flags)
{
    int ret = blk_co_enter(blk);

    if (unlikely(ret < 0)) {
        return ret;
    }
    ret = check_request(blk, offset, (int64_t)v->size);
    ret = ret < 0 ? ret : bdrv_co_write_gate(blk->root, offset, v, write_flags(blk, flags));
    blk_leave(blk);
    return ret;
}

int coroutine_fn blk_co_pread(BlockBackend *blk, int64_t offset, int64_t bytes, void *buf,
                              unsigned flags)
{
    IOVector v;

    if (bytes < 0) {
        return -EIO;
    }
    iov_init_buf(&v, buf, bytes);
    return blk_co_preadv(blk, offset, &v, flags);
}

int coroutine_fn blk_co_pwrite(BlockBackend *blk, int64_t offset, int64_t bytes, const void *buf,
                               unsigned flags)
{
    IOVector v;

    if (bytes < 0) {
        return -EIO;
    }
    iov_init_buf(&v, (void *)(uintptr_t)buf, bytes);
    return blk_co_pwritev(blk, offset, &v, flags);
}

int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes,
                                      unsigned flags)
{
    int ret = blk_co_enter(blk);

    if (unlikely(ret < 0)) {
        return ret;
    }
    ret = check_request(blk, offset, bytes);
    ret = ret < 0 ? ret : bdrv_co_pwrite_zeroes(blk->root, offset, bytes, write_flags(blk, flags));
    blk_leave(blk);
    return ret;
}

int coroutine_fn blk_co_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    int ret = blk_co_enter(blk);

    if (unlikely(ret < 0)) {
        return ret;
    }
    ret = check_request(blk, offset, bytes);
    ret = ret < 0 ? ret : bdrv_co_pdiscard(blk->root, offset, bytes);
    blk_leave(blk);
    return ret;
}

int coroutine_fn blk_co_flush(BlockBackend *blk)
{
    int ret = blk_co_enter(blk);

    if (unlikely(ret < 0)) {
        return ret;
    }
    ret = bdrv_co_flush(blk->bs);
    blk_leave(blk);
    return ret;
}

int coroutine_fn blk_co_pwritev_compressed(BlockBackend *blk, int64_t offset, IOVector *v)
{
    bool end_mark = v->size == 0; /* sets the file's length: nobody writes behind it meanwhile */
    int ret;

    if (end_mark) {
        blk_co_alone_begin(blk);
    } else {
        ret = blk_co_enter(blk);
        if (ret < 0) {
            return ret;
        }
    }
    ret = check_request(blk, offset, (int64_t)v->size);
    ret = ret < 0 ? ret : bdrv_co_pwritev_compressed(blk->root, offset, v);
    if (end_mark) {
        blk_co_alone_end(blk);
    } else {
        blk_leave(blk);
    }
    return ret;
}

int coroutine_fn blk_co_truncate(BlockBackend *blk, int64_t bytes, bool exact,
                                 BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    int ret = -EPERM;
    unsigned perm, shared;

    blk_co_alone_begin(blk); /* nothing else runs on the image */
    perm = blk->root->perm;
    shared = blk->root->shared;
    if ((perm & BLK_PERM_RESIZE) ||
        bdrv_child_set_perm(blk->root, perm | BLK_PERM_RESIZE, shared, errp)) {
        ret = bdrv_co_truncate(blk->root, bytes, exact, prealloc, flags, errp);
        if (!(perm & BLK_PERM_RESIZE)) {
            (void)bdrv_child_set_perm(blk->root, perm, shared, NULL);
        }
    }
    blk_co_alone_end(blk);
    return ret;
}
