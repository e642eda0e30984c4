/* SPDX-License-Identifier: MIT */
/* What a remake writes, gathered to large requests; what it says of itself. */
#include "remake-int.h"

#include <errno.h>
#include <string.h>

#define GATHERED ((size_t)MiB)

int coroutine_fn qcow2_remake_out_co_flush(Remake *r, RemakeOut *o)
{
    uint8_t *buf = g_steal_pointer(&o->buf); /* others may gather while this is written */
    int ret = 0;

    if (buf) {
        ret = bdrv_co_pwrite(r->q->file, (int64_t)o->offset, (int64_t)o->fill, buf, 0);
        mem_align_free(buf);
    }
    return ret;
}

int coroutine_fn qcow2_remake_out_co_put(Remake *r, RemakeOut *o, uint64_t offset, const void *data,
                                         size_t bytes)
{
    g_assert(offset > 0);
    while (o->buf && (offset != o->offset + o->fill || bytes > GATHERED - o->fill)) {
        int ret = qcow2_remake_out_co_flush(r, o);

        if (ret < 0) {
            return ret;
        }
    }
    if (bytes > GATHERED) {
        return bdrv_co_pwrite(r->q->file, (int64_t)offset, (int64_t)bytes, data, 0);
    }
    if (!o->buf) {
        o->buf = bdrv_try_blockalign(r->q->file->bs, GATHERED);
        o->offset = offset;
        o->fill = 0;
    }
    if (!o->buf) {
        return -ENOMEM;
    }
    memcpy(o->buf + o->fill, data, bytes);
    o->fill += bytes;
    return 0;
}

int qcow2_remake_out_refuse(Remake *r, int err, const char *text)
{
    if (!r->err) {
        error_set(&r->err, err, "%s", text);
    }
    return -err;
}

int qcow2_remake_out_overflow(Remake *r, uint64_t offset, uint64_t count)
{
    if (!r->err) {
        error_set(&r->err, EINVAL,
                  "Cannot decrease refcount entry width to %u bits: Cluster at offset "
                  "%#" G_GINT64_MODIFIER "x has a refcount of %" G_GUINT64_FORMAT,
                  r->rules.to.refcount_bits, offset, count);
    }
    return -EINVAL;
}

int qcow2_remake_out_error(Remake *r, int ret, const char *what)
{
    if (ret < 0 && !r->err) {
        error_set_errno(&r->err, ret, "%s", what);
    }
    return ret;
}

int qcow2_remake_out_progress(Remake *r, double done)
{
    return !r->progress || r->progress(done, r->opaque)
               ? 0
               : qcow2_remake_out_refuse(r, ECANCELED, "The change of the image was cancelled");
}
