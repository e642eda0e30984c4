/* SPDX-License-Identifier: MIT */
/* Block ciphers with their modes, for runs of sectors. */
#ifndef CRYPTO_CIPHER_H
#define CRYPTO_CIPHER_H

#include "util/compiler.h"

#define CRYPT_SECTOR 512
#define CRYPT_BLOCK_MAX 16 /* bytes of a cipher's block, and of an IV */

typedef enum CryptMode { CRYPT_ECB, CRYPT_CBC, CRYPT_XTS, CRYPT_CTR } CryptMode;
extern const char *const crypt_mode_names[]; /* NULL-terminated */

typedef struct CryptAlg CryptAlg;
/* "aes-256"; NULL: unknown. */
const CryptAlg *crypt_alg_find(const char *name);
/* Of a LUKS header's family ("aes") the one with keys of @key_len bytes (half of what XTS has);
 * NULL with @errp. */
const CryptAlg *crypt_alg_find_family(const char *family, size_t key_len, GError **errp);
const char *crypt_alg_name(const CryptAlg *a);
const char *crypt_alg_family(const CryptAlg *a);
size_t crypt_alg_key_len(const CryptAlg *a, CryptMode mode); /* twice the cipher's own for XTS */
size_t crypt_alg_block(const CryptAlg *a);

/* Constant once it is made: any number of threads use one at a time. */
typedef struct CryptCipher CryptCipher;
/* @key has crypt_alg_key_len() bytes. NULL with @errp. */
CryptCipher *crypt_cipher_new(const CryptAlg *a, CryptMode mode, const uint8_t *key, GError **errp);
void crypt_cipher_free(CryptCipher *c); /* wipes the key; NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CryptCipher, crypt_cipher_free)
/* Is it one that processors have instructions for? */
bool crypt_cipher_quick(const CryptCipher *c);
size_t crypt_cipher_iv_len(const CryptCipher *c); /* a block */

/* @units of @unit bytes each (whole blocks; CTR: any), each with its IV: @ivs is an array of them.
 * @dst may be @src. */
void crypt_cipher_run(const CryptCipher *c, bool encrypt, const uint8_t *ivs, size_t units,
                      size_t unit, uint8_t *dst, const uint8_t *src);

#endif
