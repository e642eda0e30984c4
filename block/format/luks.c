/* SPDX-License-Identifier: MIT */
/*
 * luks: the file is a LUKS volume or, with "header", the payload of one whose header lies apart.
 */
#include "luks.h"

#include "block/crypto/data.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>

typedef struct LuksState {
    CryptVolume *volume;
    BdrvChild *header; /* == bs->file, or the file of a header that lies apart */
    uint64_t payload;  /* where it begins in bs->file */
} LuksState;

static int luks_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= 8 && !memcmp(buf, "LUKS\xba\xbe", 6) && ldbe16(buf + 6) == 1 ? 100 : 0;
}

/* ---- The header ---- */

static int coroutine_fn co_read_header(void *opaque, uint64_t offset, void *buf, size_t len)
{
    return bdrv_co_pread(opaque, (int64_t)offset, (int64_t)len, buf, 0);
}

static int coroutine_fn co_write_header(void *opaque, uint64_t offset, const void *buf, size_t len)
{
    return bdrv_co_pwrite(opaque, (int64_t)offset, (int64_t)len, buf, 0);
}

static int coroutine_fn co_flush_header(void *opaque)
{
    return bdrv_co_flush(((BdrvChild *)opaque)->bs);
}

static int coroutine_fn co_header_io(BdrvChild *header, CryptHeaderIo *io)
{
    int64_t len = bdrv_co_getlength(header->bs);

    *io = (CryptHeaderIo){ co_read_header, co_write_header, co_flush_header, header,
                           (uint64_t)MAX(len, 0) };
    return (int)MIN(len, 0);
}

/* ---- Open ---- */

static int coroutine_fn co_open_children(BlockDriverState *bs, LuksState *s, Options *o, int flags,
                                         GError **errp)
{
    GError *err = NULL;

    s->header = bdrv_co_open_child(NULL, o, "header", bs, flags, BDRV_ROLE_FILE, true, &err);
    if (err) {
        g_propagate_error(errp, err);
        return -EINVAL;
    }
    bs->file = bdrv_co_open_child(NULL, o, "file", bs, flags, BDRV_ROLE_FILE, false, errp);
    if (!bs->file) {
        return -EINVAL;
    }
    s->header = s->header ? s->header : bs->file;
    return 0;
}

static int coroutine_fn co_open_volume(BlockDriverState *bs, LuksState *s, Options *o, int flags,
                                       GError **errp)
{
    bool detached = s->header != bs->file;
    const SecureBuf *pass;
    CryptHeaderIo io;
    int ret = crypt_volume_take_key(o, opts_secrets(o), true, "", flags & BLK_O_NO_IO, &pass, errp);

    if (ret < 0) {
        return ret;
    }
    ret = co_header_io(s->header, &io);
    if (ret < 0) {
        return error_set_errno(errp, ret, "Unable to read LUKS header");
    }
    ret = crypt_volume_co_open_luks(&s->volume, &io, detached, pass, errp);
    if (ret == 0) {
        s->payload = detached ? 0 : crypt_volume_payload(s->volume);
    }
    return ret;
}

static int64_t coroutine_fn luks_co_getlength(BlockDriverState *bs)
{
    LuksState *s = bs->opaque;
    int64_t len = bdrv_co_getlength(bs->file->bs);

    if (len < 0) {
        return len;
    }
    return (uint64_t)len < s->payload ? -EIO : len - (int64_t)s->payload;
}

static int coroutine_fn luks_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    LuksState *s = bs->opaque;
    int ret = co_open_children(bs, s, o, flags, errp);

    bs->encrypted = true;
    ret = ret < 0 ? ret : co_open_volume(bs, s, o, flags, errp);
    bs->supported_write_flags = ret < 0 ? 0 : bs->file->bs->supported_write_flags & BLK_REQ_FUA;
    return ret;
}

static int coroutine_fn luks_co_close(BlockDriverState *bs)
{
    LuksState *s = bs->opaque;

    g_clear_pointer(&s->volume, crypt_volume_free);
    return 0;
}

static int coroutine_fn luks_co_reopen_prepare(BlockDriverState *bs, Options *options, int flags,
                                               void **state, GError **errp)
{
    return 0; /* the key stays */
}

static void luks_reopen_end(BlockDriverState *bs, void *state)
{
}

static void luks_refresh_limits(BlockDriverState *bs)
{
    bs->limits.request_alignment = CRYPT_VOLUME_SECTOR;
    bs->limits.min_mem_alignment = 1;
    bs->limits.opt_mem_alignment = bs->file->bs->limits.opt_mem_alignment;
}

/* The file's length is the disk's; whoever may resize one may resize the other. */
static void luks_child_perm(BlockDriverState *bs, BdrvRole role, unsigned perm, unsigned shared,
                            unsigned *child_perm, unsigned *child_shared)
{
    *child_perm = BLK_PERM_CONSISTENT_READ | (perm & BLK_PERM_ALL);
    *child_shared = shared;
}

/* ---- Data ---- */

static int coroutine_fn luks_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                       unsigned flags)
{
    LuksState *s = bs->opaque;

    g_assert(IS_ALIGNED(offset, INT64_C(512)));
    return crypt_data_co_read(s->volume, bs->file, s->payload + (uint64_t)offset,
                              (uint64_t)offset / CRYPT_VOLUME_SECTOR, v);
}

static int coroutine_fn luks_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                        unsigned flags)
{
    LuksState *s = bs->opaque;

    g_assert(IS_ALIGNED(offset, INT64_C(512)));
    return crypt_data_co_write(s->volume, bs->file, s->payload + (uint64_t)offset,
                               (uint64_t)offset / CRYPT_VOLUME_SECTOR, v, flags);
}

static int coroutine_fn luks_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                         BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    LuksState *s = bs->opaque;

    if ((uint64_t)bytes > INT64_MAX - s->payload - CRYPT_VOLUME_SECTOR) {
        return error_set(errp, EFBIG, "The requested file size is too large");
    }
    /* Half a sector cannot be decrypted. */
    bytes = ALIGN_UP(bytes, (int64_t)CRYPT_VOLUME_SECTOR);
    return bdrv_co_truncate(bs->file, bytes + (int64_t)s->payload, exact, prealloc, 0, errp);
}

/* ---- Key slots, info ---- */

static const BlockCreateOption luks_amend_options[] = {
    { "state", BLK_OPT_STRING, "Select new state of affected keyslots (active/inactive)", NULL },
    { "keyslot", BLK_OPT_NUMBER, "Select a single keyslot to modify explicitly", NULL },
    { "new-secret", BLK_OPT_STRING,
      "New secret to set in the matching keyslots. Empty string to erase", NULL },
    { "old-secret", BLK_OPT_STRING, "Select all keyslots that match this password", NULL },
    { "iter-time", BLK_OPT_NUMBER, "Time to spend in PBKDF in milliseconds", NULL },
    { NULL }
};

static int coroutine_fn luks_co_amend(BlockDriverState *bs, Options *opts, const BlockAmend *how,
                                      GError **errp)
{
    LuksState *s = bs->opaque;
    CryptHeaderIo io;
    int ret = co_header_io(s->header, &io);

    return ret < 0 ? error_set_errno(errp, ret, "Unable to read LUKS header")
                   : crypt_volume_co_amend(s->volume, &io, opts, opts_secrets(opts), "", how->force,
                                           errp);
}

static int luks_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    return bs->file->bs->drv->get_info(bs->file->bs, info);
}

static Options *luks_get_specific_info(BlockDriverState *bs, GError **errp)
{
    LuksState *s = bs->opaque;
    Options *o = opts_new();

    crypt_volume_describe(s->volume, o, "", false, s->header != bs->file);
    return o;
}

static const char *const luks_strong_options[] = { "key-secret", NULL };

const BlockDriver bdrv_luks = {
    BLOCK_DRIVER_TABLE,
    .format_name = "luks",
    .instance_size = sizeof(LuksState),
    .is_format = true,
    .probe = luks_probe,
    .co_open = luks_co_open,
    .co_close = luks_co_close,
    .co_reopen_prepare = luks_co_reopen_prepare,
    .reopen_commit = luks_reopen_end,
    .reopen_abort = luks_reopen_end,
    .refresh_limits = luks_refresh_limits,
    .child_perm = luks_child_perm,
    .strong_options = luks_strong_options,
    .create_options = luks_create_options,
    .co_create = luks_co_create,
    .co_measure = luks_co_measure,
    .co_preadv = luks_co_preadv,
    .co_pwritev = luks_co_pwritev,
    .co_truncate = luks_co_truncate,
    .co_getlength = luks_co_getlength,
    .amend_options = luks_amend_options,
    .co_amend = luks_co_amend,
    .get_info = luks_get_info,
    .get_specific_info = luks_get_specific_info,
};
