/* SPDX-License-Identifier: MIT */
/* The public C API: a thin face over BlockBackend (include/cowlet/cowlet.h has the contracts). */
#include "cowlet/cowlet.h"

#include "block/backend.h"
#include "util/error.h"
#include "util/spinlock.h"

#include <errno.h>

struct CowletImage {
    BlockBackend *blk; /* shut once the image is closed */
    unsigned generation;
};

/*
 * INV-API-1  What was closed is not freed at once: a request of another thread that begins while
 *            the image is being closed finds it shut, to the end of the close and a little longer.
 */
#define BURIED 16

static struct {
    SpinLock lock;
    CowletImage *images[BURIED]; /* closed ones, the oldest at next */
    unsigned next;
} buried;

/* 0, or why no request may begin: the image was opened by the parent of this process, or the caller
 * is a function that the library called in the middle of a request. */
static int check_caller(CowletImage *image)
{
    if (unlikely(image->generation != aio_fork_generation())) {
        return -EBADF;
    }
    return unlikely(in_coroutine()) ? -EDEADLK : 0;
}

static bool check_in_request(GError **error)
{
    if (in_coroutine()) {
        error_set(error, EDEADLK, "The library was called from within one of its requests");
        return false;
    }
    return true;
}

static int blk_flags(CowletOpenFlags flags)
{
    int ret = 0;

    ret |= flags & COWLET_OPEN_READ_WRITE ? BLK_O_RDWR : 0;
    ret |= flags & COWLET_OPEN_DIRECT ? BLK_O_NOCACHE : 0;
    ret |= flags & COWLET_OPEN_FORCE_SHARE ? BLK_O_FORCE_SHARE : 0;
    ret |= flags & COWLET_OPEN_UNMAP ? BLK_O_UNMAP : 0;
    return ret;
}

typedef struct Confinement {
    CowletOpenReference *open_reference;
    void *opaque;
} Confinement;

static int open_reference(const char *image, const char *reference, bool writable, void *opaque)
{
    Confinement *c = opaque;

    return c->open_reference(image, reference, writable, c->opaque);
}

static CowletImage *open_image(const char *filename, const char *options, CowletOpenFlags flags,
                               Confinement *c, GError **error)
{
    g_autoptr(Options) o = opts_new();
    CowletImage *image;
    BlockBackend *blk;

    if (!check_in_request(error)) {
        return NULL;
    }
    if (options && !opts_parse(o, options, NULL, error)) {
        return NULL;
    }
    blk = blk_open_confined(filename, g_steal_pointer(&o), blk_flags(flags),
                            c ? open_reference : NULL, c, error);
    if (!blk) {
        return NULL;
    }
    image = g_new0(CowletImage, 1);
    image->blk = blk;
    image->generation = aio_fork_generation();
    return image;
}

CowletImage *cowlet_open(const char *filename, const char *options, CowletOpenFlags flags,
                         GError **error)
{
    return open_image(filename, options, flags, NULL, error);
}

CowletImage *cowlet_open_confined(const char *filename, const char *options, CowletOpenFlags flags,
                                  CowletOpenReference *open, void *opaque, GError **error)
{
    Confinement c = { open, opaque };

    return open_image(filename, options, flags, &c, error);
}

static void bury(CowletImage *image)
{
    CowletImage *old;

    spin_lock(&buried.lock);
    old = buried.images[buried.next];
    buried.images[buried.next] = image;
    buried.next = (buried.next + 1) % BURIED;
    spin_unlock(&buried.lock);
    if (old) {
        blk_free(old->blk);
        g_free(old);
    }
}

int cowlet_close(CowletImage *image)
{
    int ret;

    if (!image || in_coroutine()) {
        return image ? -EDEADLK : 0;
    }
    if (image->generation != aio_fork_generation()) {
        g_free(image); /* what it stands for is the parent's */
        return 0;
    }
    ret = blk_shut(image->blk);
    aio_done_deliver_tag(aio_current(), image);
    bury(image);
    return ret;
}

gboolean cowlet_create(const char *filename, const char *format, int64_t size, const char *options,
                       GError **error)
{
    g_autoptr(Options) o = opts_new();

    if (!check_in_request(error)) {
        return FALSE;
    }
    if (options && !opts_parse(o, options, NULL, error)) {
        return FALSE;
    }
    if (opts_has(o, "size")) {
        error_set(error, EINVAL, "The image size must be specified only once");
        return FALSE;
    }
    opts_set_int(o, "size", size);
    return blk_create(filename, format, g_steal_pointer(&o), error) == 0;
}

void cowlet_set_report(CowletImage *image, CowletReport *report, void *opaque)
{
    blk_set_report(image->blk, report, opaque);
}

int64_t cowlet_length(CowletImage *image)
{
    int ret = check_caller(image);

    return ret < 0 ? ret : blk_length(image->blk);
}

int cowlet_read(CowletImage *image, int64_t offset, void *buf, int64_t bytes)
{
    int ret = check_caller(image);

    return ret < 0 ? ret : blk_pread(image->blk, offset, bytes, buf, 0);
}

int cowlet_write(CowletImage *image, int64_t offset, const void *buf, int64_t bytes)
{
    int ret = check_caller(image);

    return ret < 0 ? ret : blk_pwrite(image->blk, offset, bytes, buf, 0);
}

int cowlet_write_zeroes(CowletImage *image, int64_t offset, int64_t bytes)
{
    int ret = check_caller(image);

    return ret < 0 ? ret : blk_pwrite_zeroes(image->blk, offset, bytes, BLK_REQ_MAY_UNMAP);
}

int cowlet_discard(CowletImage *image, int64_t offset, int64_t bytes)
{
    int ret = check_caller(image);

    return ret < 0 ? ret : blk_pdiscard(image->blk, offset, bytes);
}

int cowlet_flush(CowletImage *image)
{
    int ret = check_caller(image);

    return ret < 0 ? ret : blk_flush(image->blk);
}

GSource *cowlet_thread_source(void)
{
    return aio_context_source(aio_current());
}

/* ---- Asynchronous forms: a coroutine each, and its result from the loop ---- */

typedef struct AsyncRequest {
    AioDone done; /* first */
    BlockBackend *blk;
    int64_t offset, bytes;
    void *buf;
    CowletDone *fn;
    void *opaque;
    int ret;
} AsyncRequest;

/* From the loop. */
static void call_back(AioDone *d)
{
    AsyncRequest r = *(AsyncRequest *)d;

    g_free(d);
    r.fn(r.opaque, r.ret);
}

static void finish(AsyncRequest *r, AioContext *ctx, int ret)
{
    r->ret = ret;
    aio_done_push(ctx, &r->done);
}

static void coroutine_fn co_finish(AsyncRequest *r, int ret)
{
    finish(r, coroutine_home(coroutine_self()), ret);
}

static void coroutine_fn co_read_entry(void *opaque)
{
    AsyncRequest *r = opaque;

    co_finish(r, blk_co_pread(r->blk, r->offset, r->bytes, r->buf, 0));
}

static void coroutine_fn co_write_entry(void *opaque)
{
    AsyncRequest *r = opaque;

    co_finish(r, blk_co_pwrite(r->blk, r->offset, r->bytes, r->buf, 0));
}

static void coroutine_fn co_zeroes_entry(void *opaque)
{
    AsyncRequest *r = opaque;

    co_finish(r, blk_co_pwrite_zeroes(r->blk, r->offset, r->bytes, BLK_REQ_MAY_UNMAP));
}

static void coroutine_fn co_discard_entry(void *opaque)
{
    AsyncRequest *r = opaque;

    co_finish(r, blk_co_pdiscard(r->blk, r->offset, r->bytes));
}

static void coroutine_fn co_flush_entry(void *opaque)
{
    AsyncRequest *r = opaque;

    co_finish(r, blk_co_flush(r->blk));
}

static void run(AsyncRequest *r, CowletImage *image, CoroutineEntry *entry, AioContext *ctx)
{
    /* A report may start a request, which ends after it. */
    int ret = image->generation == aio_fork_generation() ? 0 : -EBADF;
    Coroutine *co = ret == 0 ? coroutine_create(entry, r) : NULL;

    if (co) {
        coroutine_enter(co);
    } else {
        finish(r, ctx, ret < 0 ? ret : -ENOMEM);
    }
}

static void start(CowletImage *image, CoroutineEntry *entry, int64_t offset, void *buf,
                  int64_t bytes, CowletDone *done, void *opaque)
{
    AsyncRequest *r = g_new(AsyncRequest, 1);
    AioContext *ctx = aio_current();

    *r = (AsyncRequest){
        { .fn = call_back, .tag = image }, image->blk, offset, bytes, buf, done, opaque, 0
    };
    aio_acquire(ctx);
    switch (aio_done_begin(ctx, &r->done)) {
    case AIO_BEGIN_RUN:
        run(r, image, entry, ctx);
        break;
    case AIO_BEGIN_REFUSE:
        finish(r, ctx, -ECANCELED);
        break;
    case AIO_BEGIN_FORGET:
        g_free(r);
        break;
    }
    aio_release(ctx);
}

void cowlet_read_async(CowletImage *image, int64_t offset, void *buf, int64_t bytes,
                       CowletDone *done, void *opaque)
{
    start(image, co_read_entry, offset, buf, bytes, done, opaque);
}

void cowlet_write_async(CowletImage *image, int64_t offset, const void *buf, int64_t bytes,
                        CowletDone *done, void *opaque)
{
    start(image, co_write_entry, offset, (void *)buf, bytes, done, opaque);
}

void cowlet_write_zeroes_async(CowletImage *image, int64_t offset, int64_t bytes, CowletDone *done,
                               void *opaque)
{
    start(image, co_zeroes_entry, offset, NULL, bytes, done, opaque);
}

void cowlet_discard_async(CowletImage *image, int64_t offset, int64_t bytes, CowletDone *done,
                          void *opaque)
{
    start(image, co_discard_entry, offset, NULL, bytes, done, opaque);
}

void cowlet_flush_async(CowletImage *image, CowletDone *done, void *opaque)
{
    start(image, co_flush_entry, 0, NULL, 0, done, opaque);
}
