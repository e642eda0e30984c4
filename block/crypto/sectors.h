/* SPDX-License-Identifier: MIT */
/* A cipher with the generator of its IVs: encrypts and decrypts runs of sectors of 512 bytes. */
#ifndef CRYPTO_SECTORS_H
#define CRYPTO_SECTORS_H

#include "cipher.h"
#include "hash.h"

typedef enum CryptIvgen { CRYPT_IV_PLAIN, CRYPT_IV_PLAIN64, CRYPT_IV_ESSIV } CryptIvgen;
extern const char *const crypt_ivgen_names[]; /* NULL-terminated */

/* What a volume is encrypted with. */
typedef struct CryptSpec {
    const CryptAlg *alg;
    CryptMode mode;
    CryptIvgen ivgen;
    const CryptHash *ivgen_hash; /* ESSIV's; else NULL, or named for nothing */
} CryptSpec;

/* Constant once it is made: any number of threads use one at a time. */
typedef struct CryptSectors CryptSectors;
/* @key has crypt_alg_key_len() bytes. NULL with @errp: what @spec says does not go together. */
CryptSectors *crypt_sectors_new(const CryptSpec *spec, const uint8_t *key, GError **errp);
void crypt_sectors_free(CryptSectors *s); /* wipes the keys; NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CryptSectors, crypt_sectors_free)
/* Has the processor instructions for it, so that 64 KiB take some tens of microseconds? */
bool crypt_sectors_quick(const CryptSectors *s);

/* @len bytes, whole sectors, the first of which is number @sector. @dst may be @src. */
void crypt_sectors_run(const CryptSectors *s, bool encrypt, uint64_t sector, uint8_t *dst,
                       const uint8_t *src, size_t len);

#endif
