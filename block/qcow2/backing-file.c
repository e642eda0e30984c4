/* SPDX-License-Identifier: MIT */
/*
 * The name of the backing file, and its format, in the header.  Orders: those of a header that is
 * rewritten (header-plan.h); nothing else changes.
 */
#include "callbacks.h"
#include "change.h"
#include "flush.h"

#include <string.h>

#define MAX_NAME 1023
#define MAX_FORMAT 15

typedef struct BackingNames {
    const char *file, *format;
} BackingNames;

static int edit_names(Qcow2Header *h, void *opaque, GError **errp)
{
    const BackingNames *n = opaque;

    g_free(h->backing_file);
    g_free(h->backing_format);
    h->backing_file = g_strdup(n->file);
    h->backing_format = g_strdup(n->format);
    return 0;
}

static int check_names(const Qcow2 *q, const BackingNames *n, GError **errp)
{
    if (n->file && q->geo.data_raw) {
        return error_set(errp, EINVAL,
                         "Cannot set a backing file for an image with a raw external data file");
    }
    if (n->file && strlen(n->file) > MAX_NAME) {
        return error_set(errp, EINVAL, "Backing file name too long");
    }
    if (n->format && strlen(n->format) > MAX_FORMAT) {
        return error_set(errp, EINVAL, "Backing format name too long");
    }
    return 0;
}

static void publish(BlockDriverState *bs, const BackingNames *n)
{
    g_free(bs->backing_file);
    g_free(bs->backing_format);
    bs->backing_file = g_strdup(n->file);
    bs->backing_format = g_strdup(n->format);
}

int coroutine_fn qcow2_co_change_backing_file(BlockDriverState *bs, const char *file,
                                              const char *format, GError **errp)
{
    Qcow2 *q = bs->opaque;
    BackingNames n = { file && *file ? file : NULL, format && *format ? format : NULL };
    int ret = check_names(q, &n, errp);

    if (ret < 0) {
        return ret;
    }
    ret = qcow2_change_co_begin(q, QCOW2_CHANGE_IMAGE);
    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not update qcow2 header");
    }
    co_mutex_lock(&q->alloc.meta_lock);
    ret = qcow2_flush_co_header(q, edit_names, &n, errp);
    co_mutex_unlock(&q->alloc.meta_lock);
    if (ret == 0) {
        publish(bs, &n);
    }
    return ret;
}
