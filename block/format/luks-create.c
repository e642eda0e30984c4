/* SPDX-License-Identifier: MIT */
/*
 * Creating LUKS volumes.  The key material and the rest of the file are synced before the sector
 * that makes it a LUKS volume is written.
 */
#include "luks.h"

#include <errno.h>

#define FIRST 4096 /* the header; key material comes after it */

const BlockCreateOption luks_create_options[] = {
    { "size", BLK_OPT_SIZE, "Virtual disk size", NULL },
    { "key-secret", BLK_OPT_STRING, "ID of the secret that provides the keyslot passphrase", NULL },
    { "cipher-alg", BLK_OPT_STRING, "Name of encryption cipher algorithm", NULL },
    { "cipher-mode", BLK_OPT_STRING, "Name of encryption cipher mode", NULL },
    { "ivgen-alg", BLK_OPT_STRING, "Name of IV generator algorithm", NULL },
    { "ivgen-hash-alg", BLK_OPT_STRING, "Name of IV generator hash algorithm", NULL },
    { "hash-alg", BLK_OPT_STRING, "Name of encryption hash algorithm", NULL },
    { "iter-time", BLK_OPT_NUMBER, "Time to spend in PBKDF in milliseconds", NULL },
    { "detached-header", BLK_OPT_BOOL, "Create a detached LUKS header", NULL },
    { NULL }
};

/* The options of @o that are the volume's. */
static Options *volume_options(Options *o)
{
    Options *v = opts_new();

    for (const BlockCreateOption *c = luks_create_options; c->name; c++) {
        g_autofree char *value = c->type == BLK_OPT_STRING || c->type == BLK_OPT_NUMBER
                                     ? opts_take_str(o, c->name)
                                     : NULL;

        if (value) {
            opts_set(v, c->name, value);
        }
    }
    return v;
}

typedef struct LuksCreate {
    CryptCreate *volume;
    bool detached;
    uint64_t size; /* of the disk */
    int prealloc;
} LuksCreate;

static int take_options(Options *o, LuksCreate *c, GError **errp)
{
    g_autoptr(Options) v = volume_options(o);

    if (!opts_take_size(o, "size", 0, &c->size, errp) ||
        !opts_take_bool(o, "detached-header", false, &c->detached, errp) ||
        !opts_take_enum(o, "preallocation", blk_prealloc_names, 0, &c->prealloc, errp)) {
        return -EINVAL;
    }
    c->size = ALIGN_UP(c->size, (uint64_t)CRYPT_VOLUME_SECTOR);
    c->prealloc = c->prealloc == BLK_PREALLOC_METADATA ? BLK_PREALLOC_OFF : c->prealloc;
    c->volume = crypt_create_take(v, opts_secrets(o), true, "", c->detached, errp);
    if (!c->volume) {
        return -EINVAL;
    }
    return c->size > INT64_MAX - crypt_create_bytes(c->volume)
               ? error_set(errp, EFBIG, "The requested file size is too large")
               : 0;
}

static int coroutine_fn co_write_head(BdrvChild *file, const uint8_t *head, uint64_t bytes)
{
    int ret = bdrv_co_pwrite(file, FIRST, (int64_t)bytes - FIRST, head + FIRST, 0);

    ret = ret < 0 ? ret : bdrv_co_flush(file->bs);
    ret = ret < 0 ? ret : bdrv_co_pwrite(file, 0, FIRST, head, 0);
    return ret < 0 ? ret : bdrv_co_flush(file->bs);
}

static int coroutine_fn co_fill(BdrvChild *file, const LuksCreate *c, GError **errp)
{
    uint64_t bytes = crypt_create_bytes(c->volume);
    g_autofree uint8_t *head = NULL;
    int ret = crypt_create_co_format(c->volume, &head, errp);

    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_truncate(file, (int64_t)(bytes + (c->detached ? 0 : c->size)), false,
                           (BlockPrealloc)c->prealloc, 0, errp);
    if (ret < 0) {
        return ret;
    }
    ret = co_write_head(file, head, bytes);
    return ret < 0 ? error_set_errno(errp, ret, "Unable to write LUKS header") : 0;
}

static int coroutine_fn co_open_and_fill(const char *filename, const LuksCreate *c, GError **errp)
{
    BdrvChild *file =
        bdrv_co_open_root(filename, NULL, BLK_O_RDWR | BLK_O_RESIZE | BLK_O_PROTOCOL, errp);
    int ret, close_ret;

    if (!file) {
        return -EINVAL;
    }
    ret = co_fill(file, c, errp);
    close_ret = bdrv_co_close_child(file);
    return ret == 0 && close_ret < 0
               ? error_set_errno(errp, close_ret, "Unable to write LUKS header")
               : ret;
}

int coroutine_fn luks_co_create(const char *filename, Options *opts, GError **errp)
{
    LuksCreate c = { 0 };
    int ret = take_options(opts, &c, errp);

    opts_set_int(opts, "size", 0); /* the file itself begins empty */
    ret = ret < 0 ? ret : bdrv_co_create_file(filename, opts, errp);
    if (ret >= 0) {
        bool made = ret > 0;

        ret = co_open_and_fill(filename, &c, errp);
        if (ret < 0 && made) {
            bdrv_co_remove_file(filename);
        }
    }
    crypt_create_free(c.volume);
    return ret;
}

int coroutine_fn luks_co_measure(Options *opts, BlockDriverState *src, BlockMeasureInfo *info,
                                 GError **errp)
{
    int64_t length = src ? bdrv_co_getlength(src) : 0;
    LuksCreate c = { 0 };
    int ret;

    if (length < 0) {
        return error_set_errno(errp, (int)length, "Unable to get image size");
    }
    if (src) {
        opts_set_int(opts, "size", length);
    }
    ret = take_options(opts, &c, errp);
    if (ret == 0) {
        info->required = info->exact = info->fully_allocated =
            (c.detached ? 0 : c.size) + crypt_create_bytes(c.volume);
        info->bitmaps = -1;
    }
    crypt_create_free(c.volume);
    return ret;
}
