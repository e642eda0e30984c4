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

static void blk_ref(void *owner)
{
    atomic_fetch_add(&((BlockBackend *)owner)->refcnt, 1);
}

static void blk_unref(void *owner)
{
    if (atomic_fetch_sub(&((BlockBackend *)owner)->refcnt, 1) == 1) {
        free(owner);
    }
}

static void coroutine_fn drain_owner(void *owner)
{
    blk_co_drain_begin(owner);
}

static void end_drain_of_owner(void *owner)
{
    blk_drain_end(owner);
}

static void blk_moved(BdrvChild *c)
{
    ((BlockBackend *)c->owner)->bs = c->bs; /* no request is under way that might look */
}

static void blk_resized(void *owner)
{
    BlockBackend *blk = owner;

    if (blk->resized) {
        blk->resized(blk->resized_opaque);
    }
}

static void blk_report(void *owner, const char *line)
{
    BlockBackend *blk = owner;

    if (blk->report) {
        blk->report(line, blk->report_opaque);
    }
}

static const BdrvParentOps blk_ops = {
    .ref = blk_ref,
    .unref = blk_unref,
    .co_drain_begin = drain_owner,
    .drain_end = end_drain_of_owner,
    .moved = blk_moved,
    .resized = blk_resized,
    .report = blk_report,
};

static BlockBackend *blk_new(int flags)
{
    void *mem = NULL;
    BlockBackend *blk;

    if (posix_memalign(&mem, 64, sizeof(BlockBackend)) != 0) {
        return NULL;
    }
    blk = memset(mem, 0, sizeof(BlockBackend));
    atomic_init(&blk->refcnt, 1);
    blk->writable = !!(flags & BLK_O_RDWR);
    atomic_init(&blk->writethrough, !!(flags & BLK_O_WRITETHROUGH));
    spin_init(&blk->lock);
    co_mutex_init(&blk->exclusive);
    co_queue_init(&blk->idle_queue);
    co_queue_init(&blk->resume_queue);
    return blk;
}

BlockBackend *coroutine_fn blk_on_node(BlockDriverState *bs, GError **errp)
{
    BlockBackend *blk = blk_new(0);

    if (!blk) {
        error_set(errp, ENOMEM, "Out of memory");
    } else {
        blk->root =
            bdrv_root_attach(bs, &blk_ops, blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, errp);
        blk->bs = bs;
    }
    if (!blk || !blk->root) {
        (void)bdrv_co_unref(bs); /* it has other users, or nothing was written */
        g_clear_pointer(&blk, blk_unref);
    }
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

/* Nobody else uses the node yet. On failure it is closed. */
static int coroutine_fn copy_on_read(OpenArgs *a)
{
    BlockDriverState *bs = a->blk->bs;

    if (bs->read_only) {
        (void)bdrv_co_close_child(g_steal_pointer(&a->blk->root)); /* nothing was written */
        g_clear_pointer(&a->blk, blk_unref);
        return error_set(a->errp, EINVAL, "Can't use copy-on-read on read-only device");
    }
    bdrv_co_track_requests(bs);
    atomic_store(&bs->core->copies_up, true);
    return 0;
}

static int coroutine_fn open_fn(void *opaque)
{
    OpenArgs *a = opaque;
    int flags = a->flags;
    BlockBackend *blk;
    BdrvChild *root;

    if ((flags & BLK_O_FORCE_SHARE) && (flags & BLK_O_RDWR)) {
        opts_free(a->options);
        return error_set(a->errp, EINVAL, "force-share=on can only be used with read-only images");
    }
    blk = blk_new(flags);
    if (!blk) {
        opts_free(a->options);
        return error_set(a->errp, ENOMEM, "Out of memory");
    }
    root = bdrv_co_open_root_request(&(OpenRequest){ .filename = a->filename,
                                                     .options = a->options,
                                                     .flags = flags,
                                                     .open_reference = a->open_reference,
                                                     .opaque = a->opaque },
                                     &blk_ops, blk, a->errp);
    if (!root) {
        blk_unref(blk);
        return -EINVAL;
    }
    bdrv_graph_lock(); /* it may be another node by now */
    blk->root = root;
    blk->bs = root->bs;
    bdrv_graph_unlock();
    a->blk = blk;
    return flags & BLK_O_COPY_ON_READ ? copy_on_read(a) : 0;
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
        blk_unref(blk);
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
    int64_t len;

    bdrv_graph_lock();
    len = atomic_load(&blk->bs->total_bytes);
    bdrv_graph_unlock();
    return len;
}

void blk_set_resize_callback(BlockBackend *blk, void (*fn)(void *opaque), void *opaque)
{
    blk->resized = fn;
    blk->resized_opaque = opaque;
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

/* A request to two: counted at one, it does not wait for the other, whose drain may wait for the
 * first. */
static int coroutine_fn enter_both(BlockBackend *a, BlockBackend *b)
{
    int ret;

    for (;;) {
        BlockBackend *other = b;

        ret = blk_co_enter(a);
        if (ret < 0 || a == b || blk_try_enter(b)) {
            return ret;
        }
        blk_leave(a);
        b = a;
        a = other; /* wait for the one that is held back */
    }
}

int coroutine_fn blk_co_copy_range(BlockBackend *src, int64_t src_offset, BlockBackend *dst,
                                   int64_t dst_offset, int64_t bytes, unsigned flags)
{
    int ret = enter_both(src, dst);

    if (ret < 0) {
        return ret;
    }
    ret = check_request(src, src_offset, bytes);
    ret = ret < 0 ? ret : check_request(dst, dst_offset, bytes);
    if (ret == 0) {
        ret = bdrv_co_copy_range(src->root, src_offset, dst->root, dst_offset, bytes,
                                 write_flags(dst, flags));
    }
    if (src != dst) {
        blk_leave(dst);
    }
    blk_leave(src);
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

int coroutine_fn blk_co_block_status_above(BlockBackend *blk, BlockDriverState *layer,
                                           BlockDriverState *base, int64_t offset, int64_t bytes,
                                           int64_t *pnum, int64_t *map, BlockDriverState **file,
                                           int *depth)
{
    int ret = blk_co_enter(blk);

    if (ret == 0) {
        ret = bdrv_co_block_status_above(layer ? layer : blk->bs, base, offset, bytes, pnum, map,
                                         file, depth);
        blk_leave(blk);
    }
    return ret;
}

int coroutine_fn blk_co_is_allocated(BlockBackend *blk, int64_t offset, int64_t bytes,
                                     int64_t *pnum)
{
    int ret = blk_co_enter(blk);

    if (ret == 0) {
        ret = bdrv_co_is_allocated(blk->bs, offset, bytes, pnum);
        blk_leave(blk);
    }
    return ret;
}

int coroutine_fn blk_co_pwritev_compressed(BlockBackend *blk, int64_t offset, IOVector *v)
{
    bool end_mark = v->size == 0; /* sets the file's length: nobody writes past it meanwhile */
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

/* Other permissions; for an instant no request looks at them. */
static bool coroutine_fn co_set_perm(BlockBackend *blk, const BlockHold *hold, unsigned perm,
                                     GError **errp)
{
    bool ok;

    hold->co_begin(hold->opaque);
    ok = bdrv_child_set_perm(blk->root, perm, blk->root->shared, errp);
    hold->end(hold->opaque);
    return ok;
}

int coroutine_fn blk_co_truncate(BlockBackend *blk, int64_t bytes, bool exact,
                                 BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    BlockHold hold = blk_co_beside_begin(blk);
    unsigned perm = blk->root->perm;
    int ret = -EPERM;

    if ((perm & BLK_PERM_RESIZE) || co_set_perm(blk, &hold, perm | BLK_PERM_RESIZE, errp)) {
        ret = bdrv_co_truncate_beside(blk->root, bytes, exact, prealloc, flags, &hold, errp);
        if (!(perm & BLK_PERM_RESIZE)) {
            (void)co_set_perm(blk, &hold, perm, NULL);
        }
    }
    blk_co_beside_end(blk);
    return ret;
}
