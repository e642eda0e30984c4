/* SPDX-License-Identifier: MIT */
/* A build without nettle: encrypted images are refused by name. */
#include "secret-cipher.h"
#include "volume.h"

#include <errno.h>

static int refuse(GError **errp)
{
    return error_set(errp, ENOTSUP, "Encryption is not part of this build");
}

CryptCreate *crypt_create_take(Options *o, Secrets *secrets, bool luks, const char *prefix,
                               bool detached, GError **errp)
{
    (void)refuse(errp);
    return NULL;
}

void crypt_create_free(CryptCreate *c)
{
    g_assert(!c);
}

bool crypt_create_is_luks(const CryptCreate *c)
{
    g_assert_not_reached();
}

uint64_t crypt_create_bytes(const CryptCreate *c)
{
    g_assert_not_reached();
}

int coroutine_fn crypt_create_co_format(const CryptCreate *c, uint8_t **head, GError **errp)
{
    return refuse(errp);
}

int crypt_volume_take_key(Options *o, Secrets *secrets, bool luks, const char *prefix,
                          bool optional, const SecureBuf **pass, GError **errp)
{
    return refuse(errp);
}

int coroutine_fn crypt_volume_co_open_luks(CryptVolume **ret, const CryptHeaderIo *io,
                                           bool detached, const SecureBuf *pass, GError **errp)
{
    return refuse(errp);
}

int crypt_volume_open_aes(CryptVolume **ret, const SecureBuf *pass, GError **errp)
{
    return refuse(errp);
}

void crypt_volume_free(CryptVolume *v)
{
    g_assert(!v);
}

bool crypt_volume_is_locked(const CryptVolume *v)
{
    g_assert_not_reached();
}

uint64_t crypt_volume_payload(const CryptVolume *v)
{
    g_assert_not_reached();
}

uint64_t crypt_volume_header_bytes(const CryptVolume *v)
{
    g_assert_not_reached();
}

void crypt_volume_describe(const CryptVolume *v, Options *o, const char *prefix, bool format,
                           bool detached)
{
    g_assert_not_reached();
}

void coroutine_fn crypt_volume_co_run(const CryptVolume *v, bool encrypt, uint64_t sector,
                                      uint8_t *dst, const uint8_t *src, size_t len)
{
    g_assert_not_reached();
}

int coroutine_fn crypt_volume_co_amend(CryptVolume *v, const CryptHeaderIo *io, Options *o,
                                       Secrets *secrets, const char *prefix, bool force,
                                       GError **errp)
{
    return refuse(errp);
}

bool crypt_decrypt_secret(const SecureBuf *key, const uint8_t *iv, const uint8_t *in, size_t len,
                          SecureBuf *out, GError **errp)
{
    (void)refuse(errp);
    return false;
}
