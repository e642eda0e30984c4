/* SPDX-License-Identifier: MIT */
/* The public C API: a thin face over BlockBackend (include/cowlet/cowlet.h has the contracts). */
#include "cowlet/cowlet.h"

#include "block/backend.h"
#include "util/error.h"

#include <errno.h>

struct CowletImage {
    BlockBackend *blk;
};

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

    block_init();
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

int cowlet_close(CowletImage *image)
{
    int ret;

    if (!image) {
        return 0;
    }
    ret = blk_close(image->blk);
    g_free(image);
    return ret;
}

gboolean cowlet_create(const char *filename, const char *format, int64_t size, const char *options,
                       GError **error)
{
    g_autoptr(Options) o = opts_new();

    block_init();
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
    return blk_getlength(image->blk);
}

int cowlet_read(CowletImage *image, int64_t offset, void *buf, int64_t bytes)
{
    return blk_pread(image->blk, offset, bytes, buf, 0);
}

int cowlet_write(CowletImage *image, int64_t offset, const void *buf, int64_t bytes)
{
    return blk_pwrite(image->blk, offset, bytes, buf, 0);
}

int cowlet_write_zeroes(CowletImage *image, int64_t offset, int64_t bytes)
{
    return blk_pwrite_zeroes(image->blk, offset, bytes, BLK_REQ_MAY_UNMAP);
}

int cowlet_discard(CowletImage *image, int64_t offset, int64_t bytes)
{
    return blk_pdiscard(image->blk, offset, bytes);
}

int cowlet_flush(CowletImage *image)
{
    return blk_flush(image->blk);
}

GSource *cowlet_thread_source(void)
{
    return aio_context_source(aio_current());
}

/* ---- Asynchronous forms: a coroutine each ---- */

typedef struct AsyncRequest {
    BlockBackend *blk;
    int64_t offset, bytes;
    void *buf;
    CowletDone *done;
    void *opaque;
} AsyncRequest;

static void finish(AsyncRequest *r, int ret)
{
    CowletDone *done = r->done;
    void *opaque = r->opaque;

    g_free(r);
    done(opaque, ret);
}

static void coroutine_fn co_read_entry(void *opaque)
{
    AsyncRequest *r = opaque;

    finish(r, blk_co_pread(r->blk, r->offset, r->bytes, r->buf, 0));
}

static void coroutine_fn co_write_entry(void *opaque)
{
    AsyncRequest *r = opaque;

    finish(r, blk_co_pwrite(r->blk, r->offset, r->bytes, r->buf, 0));
}

static void coroutine_fn co_zeroes_entry(void *opaque)
{
    AsyncRequest *r = opaque;

    finish(r, blk_co_pwrite_zeroes(r->blk, r->offset, r->bytes, BLK_REQ_MAY_UNMAP));
}

static void coroutine_fn co_discard_entry(void *opaque)
{
    AsyncRequest *r = opaque;

    finish(r, blk_co_pdiscard(r->blk, r->offset, r->bytes));
}

static void coroutine_fn co_flush_entry(void *opaque)
{
    AsyncRequest *r = opaque;

    finish(r, blk_co_flush(r->blk));
}

static void start(CowletImage *image, CoroutineEntry *entry, int64_t offset, void *buf,
                  int64_t bytes, CowletDone *done, void *opaque)
{
    AsyncRequest *r = g_new(AsyncRequest, 1);
    Coroutine *co;

    *r = (AsyncRequest){ image->blk, offset, bytes, buf, done, opaque };
    co = coroutine_create(entry, r);
    if (!co) {
        finish(r, -ENOMEM);
        return;
    }
    coroutine_enter(co);
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
