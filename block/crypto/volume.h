/* SPDX-License-Identifier: MIT */
/*
 * What an encrypted image has open: how its sectors are encrypted and, with LUKS, its key slots.
 * Drivers see this and no more of the room; in a build without nettle it refuses all by name.
 */
#ifndef CRYPTO_VOLUME_H
#define CRYPTO_VOLUME_H

#include "util/error.h"
#include "util/iov.h"
#include "util/opts.h"
#include "util/secrets.h"

#define CRYPT_VOLUME_SECTOR 512

typedef struct CryptVolume CryptVolume;

/* Where a LUKS header lies: bytes from 0 on. All 0 or -errno. */
typedef struct CryptHeaderIo {
    int coroutine_fn (*co_read)(void *opaque, uint64_t offset, void *buf, size_t len);
    int coroutine_fn (*co_write)(void *opaque, uint64_t offset, const void *buf, size_t len);
    int coroutine_fn (*co_flush)(void *opaque);
    void *opaque;
    uint64_t bytes; /* there are */
} CryptHeaderIo;

/* What a new volume is to be like, taken out of @o: cipher-alg, cipher-mode, ivgen-alg,
 * ivgen-hash-alg, hash-alg, iter-time, key-secret. The secret is looked up among those that go with
 * @secrets. */
typedef struct CryptCreate CryptCreate;
/* @prefix is "encrypt." or "": for messages. @luks: else legacy AES. NULL with @errp. */
CryptCreate *crypt_create_take(Options *o, Secrets *secrets, bool luks, const char *prefix,
                               bool detached, GError **errp);
void crypt_create_free(CryptCreate *c); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CryptCreate, crypt_create_free)
bool crypt_create_is_luks(const CryptCreate *c);
/* Bytes that a LUKS header with its key slots needs, whole blocks of 4 KiB; 0: legacy AES. */
uint64_t crypt_create_bytes(const CryptCreate *c);
/* The header and its first slot's material: *@head has crypt_create_bytes(), g_free() it. Takes as
 * long as iter-time says, in a thread. */
int coroutine_fn crypt_create_co_format(const CryptCreate *c, uint8_t **head, GError **errp);

/* Take "key-secret" (and check "format") out of @o: *@pass (NULL: not given, if that is allowed
 * with @optional) stays its set's. */
int crypt_volume_take_key(Options *o, Secrets *secrets, bool luks, const char *prefix,
                          bool optional, const SecureBuf **pass, GError **errp);
/* @pass NULL: for a look at the header only. */
int coroutine_fn crypt_volume_co_open_luks(CryptVolume **ret, const CryptHeaderIo *io,
                                           bool detached, const SecureBuf *pass, GError **errp);
/* The legacy format of qcow2: the passphrase itself is the key. */
int crypt_volume_open_aes(CryptVolume **ret, const SecureBuf *pass, GError **errp);
void crypt_volume_free(CryptVolume *v); /* wipes the keys; NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CryptVolume, crypt_volume_free)

/* Opened without a passphrase: no data can be read or written. */
bool crypt_volume_is_locked(const CryptVolume *v);
/* Where the payload begins, as the LUKS header says; bytes. */
uint64_t crypt_volume_payload(const CryptVolume *v);
/* Of a LUKS volume: up to the end of the last slot's key material. */
uint64_t crypt_volume_header_bytes(const CryptVolume *v);
/* "ivgen-alg" … for info, into @o, each key with @prefix before it; @format: say "format" too. */
void crypt_volume_describe(const CryptVolume *v, Options *o, const char *prefix, bool format,
                           bool detached);

/* Whole sectors, the first of which is number @sector; @dst may be @src. Long runs are done by
 * threads, on several cores at a time; the coroutine sleeps. Any number of requests at a time. */
void coroutine_fn crypt_volume_co_run(const CryptVolume *v, bool encrypt, uint64_t sector,
                                      uint8_t *dst, const uint8_t *src, size_t len);

/* Change key slots as "state", "new-secret", "old-secret", "keyslot" and "iter-time" of @o, which
 * it takes, say; @prefix as above. Alone on the volume. What is on disk when: INV-LUKS-2 to 4
 * (luks.h). */
int coroutine_fn crypt_volume_co_amend(CryptVolume *v, const CryptHeaderIo *io, Options *o,
                                       Secrets *secrets, const char *prefix, bool force,
                                       GError **errp);

#endif
